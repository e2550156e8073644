//! Groups tasks of a large flat plan, so that its graph can be read.

use std::collections::HashMap;

use super::graph_task::GraphTask;

/// The number of nodes up to which every task is a node of its own.
const MAX_SINGLE_NODES: usize = 300;
/// The minimum number of tasks in a group.
const MIN_MEMBERS: usize = 3;

/// Returns the tasks of each node, as indexes, in the order of the first of each.
///
/// In a large graph, tasks with the same dependencies, dependents, and work become one node; then chains do.
pub(super) fn grouped(tasks: &[GraphTask<'_>], edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let single: Vec<Vec<usize>> = (0..tasks.len()).map(|index| vec![index]).collect();
    if tasks.len() <= MAX_SINGLE_NODES {
        return single;
    }
    let siblings = merge(&single, |nodes| siblings(tasks, edges, nodes));
    if siblings.len() <= MAX_SINGLE_NODES {
        return siblings;
    }
    merge(&siblings, |nodes| chains(edges, nodes))
}

/// Merges the nodes with the same key, unless they are too few. The keys are those of the nodes, in their order.
fn merge(nodes: &[Vec<usize>], keys: impl FnOnce(&[Vec<usize>]) -> Vec<usize>) -> Vec<Vec<usize>> {
    let keys = keys(nodes);
    let mut sizes: HashMap<usize, usize> = HashMap::new();
    for key in &keys {
        *sizes.entry(*key).or_default() += 1;
    }
    let mut merged: Vec<Vec<usize>> = Vec::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    for (members, key) in nodes.iter().zip(keys) {
        match places.get(&key) {
            Some(place) if sizes[&key] >= MIN_MEMBERS => merged[*place].extend(members),
            _ => {
                places.insert(key, merged.len());
                merged.push(members.clone());
            }
        }
    }
    merged
}

/// Returns a number for each node, which those with equal neighbors and equal work share. Each node has one task.
fn siblings(tasks: &[GraphTask<'_>], edges: &[(usize, usize)], nodes: &[Vec<usize>]) -> Vec<usize> {
    let mut neighbors: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); tasks.len()];
    for &(from, to) in edges {
        neighbors[to].0.push(from);
        neighbors[from].1.push(to);
    }
    for (needs, dependents) in &mut neighbors {
        needs.sort_unstable();
        dependents.sort_unstable();
    }
    let mut known = HashMap::new();
    nodes
        .iter()
        .map(|node| {
            let index = node[0];
            let next = known.len();
            *known.entry((&neighbors[index], tasks[index].kind as usize, tasks[index].work())).or_insert(next)
        })
        .collect()
}

/// Returns a number for each node, which the nodes of a chain share.
fn chains(edges: &[(usize, usize)], nodes: &[Vec<usize>]) -> Vec<usize> {
    let mut node_of = HashMap::new();
    for (node, members) in nodes.iter().enumerate() {
        node_of.extend(members.iter().map(|member| (*member, node)));
    }
    let mut between: Vec<(usize, usize)> = edges.iter().map(|(from, to)| (node_of[from], node_of[to])).collect();
    between.sort_unstable();
    between.dedup();
    let (mut incoming, mut outgoing) = (vec![Vec::new(); nodes.len()], vec![0; nodes.len()]);
    for (from, to) in between {
        incoming[to].push(from);
        outgoing[from] += 1;
    }
    let continues = |node: usize| match incoming[node].as_slice() {
        [before] if outgoing[*before] == 1 => Some(*before),
        _ => None,
    };
    // A chain has the number of its first node. The plan has no cycle, so the first one is reached.
    (0..nodes.len())
        .map(|node| {
            let mut first = node;
            for _ in 0..nodes.len() {
                match continues(first) {
                    Some(before) => first = before,
                    None => break,
                }
            }
            first
        })
        .collect()
}
