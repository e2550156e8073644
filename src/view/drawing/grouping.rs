//! Which tasks of a large flat plan are drawn as one box: siblings that do the same, and chains.

use std::collections::HashMap;

use crate::model::{Task, TaskId};
use crate::view::text::work_text;

/// Tasks that are drawn as one box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    /// The indexes of the tasks, in the order of the plan.
    pub(super) tasks: Vec<usize>,
    /// What the tasks have in common.
    pub(super) kind: &'static str,
}

/// Returns each task alone, unless there are more than `max_single`: then equal siblings and chains are one box each.
pub(super) fn clusters(tasks: &[&Task], max_single: usize) -> Vec<Cluster> {
    let single = |index| Cluster { tasks: vec![index], kind: "" };
    if tasks.len() <= max_single {
        return (0..tasks.len()).map(single).collect();
    }
    let graph = ScopeGraph::new(tasks);
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut siblings: HashMap<(&[usize], &[usize], String), usize> = HashMap::new();
    for (index, task) in tasks.iter().enumerate() {
        if !task.members().is_empty() || task.is_plan_hook() {
            clusters.push(single(index));
            continue;
        }
        let key = (graph.needs[index].as_slice(), graph.dependents[index].as_slice(), work_text(task));
        let known = *siblings.entry(key).or_insert_with(|| {
            clusters.push(Cluster { tasks: Vec::new(), kind: "siblings" });
            clusters.len() - 1
        });
        clusters[known].tasks.push(index);
    }
    if clusters.len() > max_single { graph.merge_chains(clusters) } else { clusters }
}

/// The dependencies of a scope in both directions, by index.
struct ScopeGraph {
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
}

impl ScopeGraph {
    fn new(tasks: &[&Task]) -> Self {
        let indexes: HashMap<&TaskId, usize> =
            tasks.iter().enumerate().map(|(index, task)| (&task.id, index)).collect();
        let mut dependents = vec![Vec::new(); tasks.len()];
        let needs = tasks.iter().enumerate().map(|(index, task)| {
            let mut needs: Vec<usize> = task.needs.iter().filter_map(|need| indexes.get(need).copied()).collect();
            needs.sort_unstable();
            needs.dedup();
            needs.iter().for_each(|need| dependents[*need].push(index));
            needs
        });
        Self { needs: needs.collect(), dependents }
    }

    /// Merges single tasks that follow one another without another dependency.
    fn merge_chains(&self, clusters: Vec<Cluster>) -> Vec<Cluster> {
        let mut chain_of: HashMap<usize, usize> = HashMap::new();
        let mut is_single = vec![false; self.needs.len()];
        clusters
            .iter()
            .filter(|cluster| cluster.tasks.len() == 1)
            .for_each(|cluster| is_single[cluster.tasks[0]] = true);
        let mut merged: Vec<Cluster> = Vec::new();
        for cluster in clusters {
            let index = cluster.tasks[0];
            let previous = match (cluster.tasks.len(), self.needs[index].as_slice()) {
                (1, [previous]) if is_single[*previous] && self.dependents[*previous].len() == 1 => {
                    chain_of.get(previous).copied()
                }
                _ => None,
            };
            let chain = previous.unwrap_or(merged.len());
            if is_single[index] {
                chain_of.insert(index, chain);
            }
            match merged.get_mut(chain) {
                Some(chain) => {
                    chain.tasks.push(index);
                    chain.kind = "chain";
                }
                None => merged.push(cluster),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(id: &str, needs: &[&str]) -> Task {
        let call = json!({"routes": [{"agent": "a", "tool": "go"}], "with": {}});
        serde_json::from_value(json!({"id": id, "needs": needs, "work": {"call": call}})).expect("a task")
    }

    #[test]
    fn chains_are_merged_where_siblings_are_not_enough() {
        let tasks = [task("a", &[]), task("b", &["a"]), task("c", &["b"]), task("d", &["a"]), task("e", &["c", "d"])];
        let tasks: Vec<&Task> = tasks.iter().collect();
        let indexes = |clusters: Vec<Cluster>| clusters.into_iter().map(|cluster| cluster.tasks).collect::<Vec<_>>();
        assert_eq!(indexes(clusters(&tasks, 2)), [vec![0], vec![1, 2], vec![3], vec![4]]);
        assert_eq!(clusters(&tasks, 5).len(), 5);
    }
}
