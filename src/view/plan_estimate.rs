//! Estimates what a plan will take, from earlier calls of the same tools and earlier requests to the model.

use std::collections::HashMap;
use std::time::Duration;

use super::text::{cost_text, count_text, format_elapsed};
use crate::model::{AttemptId, ChatReply, Event, MicroDollars, Plan, Record, Task, TaskGraph, Timestamp, Usage};

/// The number of latest calls of a tool, and of requests to the model, that an estimate is based on.
const MAX_SAMPLES: usize = 50;

/// What calls and requests took in earlier runs.
#[derive(Debug, Default)]
pub struct WorkHistory {
    /// The durations of successful calls, by agent and tool.
    calls: HashMap<(String, String), Vec<Duration>>,
    /// The requests of prompts.
    requests: Vec<PastRequest>,
}

/// A request to the model.
#[derive(Debug, Clone, Copy)]
struct PastRequest {
    duration: Duration,
    usage: Option<Usage>,
    cost: Option<f64>,
}

/// What a plan will take if everything succeeds at once. A part that is unknown is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanEstimate {
    /// The calls of tools.
    pub calls: usize,
    /// The requests to the model.
    pub requests: usize,
    /// Whether there can be more calls or requests: the number of items or of calls of a model is unknown.
    pub is_open: bool,
    /// The tokens of the requests.
    pub tokens: Option<u64>,
    /// The cost of the requests in US dollars.
    pub cost: Option<f64>,
    /// The time, with tasks in parallel where the plan allows it.
    pub time: Option<Duration>,
}

impl WorkHistory {
    /// Adds the calls and requests of a run, whose records are in order. Runs are added latest first.
    pub fn add_run(&mut self, records: impl IntoIterator<Item = Record>) {
        let mut calls: HashMap<AttemptId, ((String, String), Timestamp)> = HashMap::new();
        let mut requests: HashMap<AttemptId, Timestamp> = HashMap::new();
        for Record { at, event, .. } in records {
            match event {
                Event::AttemptStarted { attempt, agent, tool } => {
                    calls.insert(attempt, ((agent.to_string(), tool.to_string()), at));
                }
                Event::AttemptSucceeded { attempt, .. } => {
                    let Some((tool, start)) = calls.remove(&attempt) else { continue };
                    let samples = self.calls.entry(tool).or_default();
                    if samples.len() < MAX_SAMPLES {
                        samples.push(at.since(start));
                    }
                }
                Event::ModelRequested { attempt, .. } => {
                    requests.insert(attempt, at);
                }
                Event::ModelReplied { attempt, result: Ok(ChatReply { usage, cost_usd, .. }) } => {
                    let Some(start) = requests.remove(&attempt) else { continue };
                    if self.requests.len() < MAX_SAMPLES {
                        self.requests.push(PastRequest { duration: at.since(start), usage, cost: cost_usd });
                    }
                }
                _ => {}
            }
        }
    }

    /// Estimates what a plan will take.
    pub fn estimate(&self, plan: &Plan) -> PlanEstimate {
        let calls = plan.all_tasks().filter(|task| !task.routes().is_empty()).count();
        let requests = plan.all_tasks().filter(|task| task.prompt().is_some()).count();
        // The items of a list are known only when the plan runs, and a model decides about its tools itself.
        let is_open = plan.all_tasks().any(|task| {
            task.foreach.is_some()
                || task.repeat.is_some()
                || task.prompt().is_some_and(|prompt| !prompt.tools.is_empty())
        });
        let of_requests = |value: fn(&PastRequest) -> Option<f64>| {
            let known: Vec<f64> = self.requests.iter().filter_map(value).collect();
            match (requests, known.len()) {
                (0, _) => Some(0.0),
                (_, 0) => None,
                (requests, samples) => Some(known.iter().sum::<f64>() / samples as f64 * requests as f64),
            }
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no run uses so many tokens")]
        let tokens =
            of_requests(|request| request.usage.map(|usage| (usage.input_tokens + usage.output_tokens) as f64))
                .map(|tokens| tokens.round() as u64);
        let cost = of_requests(|request| request.cost);
        PlanEstimate { calls, requests, is_open, tokens, cost, time: self.time(plan) }
    }

    /// Returns the time of the longest chain of tasks that wait for each other.
    fn time(&self, plan: &Plan) -> Option<Duration> {
        let graph = TaskGraph::new(&plan.tasks).ok()?;
        let mut ends: HashMap<_, Duration> = HashMap::new();
        let nodes: Vec<_> = graph.nodes().map(|(index, node)| (index, &node.task)).collect();
        // Each round ends the tasks whose dependencies have ended. A graph without cycles needs no more rounds than tasks.
        for _ in 0..nodes.len() {
            for (index, task) in &nodes {
                let before: Option<Vec<Duration>> =
                    graph.dependencies(*index).map(|dependency| ends.get(&dependency).copied()).collect();
                let Some(before) = before.filter(|_| !ends.contains_key(index)) else { continue };
                let start = before.into_iter().max().unwrap_or_default();
                ends.insert(*index, start + self.task_time(task)?);
            }
        }
        ends.into_values().max()
    }

    /// Returns the usual time of a task, or `None` if it is unknown.
    fn task_time(&self, task: &Task) -> Option<Duration> {
        if let Some(route) = task.routes().first() {
            let tool = (route.agent.to_string(), route.tool.to_string());
            return median(self.calls.get(&tool)?.iter().copied());
        }
        task.prompt()?;
        median(self.requests.iter().map(|request| request.duration))
    }
}

impl PlanEstimate {
    /// Describes the work: `3 calls and 1 model request`.
    pub fn work_text(&self) -> String {
        let mut text = if self.is_open { "at least ".to_owned() } else { String::new() };
        text += &count_text(self.calls, "call");
        if self.requests > 0 {
            text += &format!(" and {}", count_text(self.requests, "model request"));
        }
        text
    }

    /// Describes the cost of the work, as far as it is known.
    pub fn cost_text(&self) -> String {
        let unknown = || "unknown".to_owned();
        let time = self.time.map_or_else(unknown, |time| format!("about {}", format_elapsed(time)));
        if self.requests == 0 {
            return format!("time {time}");
        }
        let tokens = self.tokens.map_or_else(unknown, |tokens| format!("about {tokens}"));
        let cost = self.cost.map_or_else(unknown, |cost| format!("about {}", cost_text(MicroDollars::from_usd(cost))));
        format!("tokens {tokens}, cost {cost}, time {time}")
    }
}

fn median(durations: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut durations: Vec<Duration> = durations.collect();
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{self, SimulatedTask};

    fn run_and_plan() -> (Vec<Record>, Plan) {
        let records = samples::simulated_run(&[SimulatedTask { millis: 1_500, items: None }; 4], 2);
        let Event::RunStarted { plan, .. } = &records[0].event else { panic!("a run starts first") };
        let plan = Plan::clone(plan);
        (records, plan)
    }

    #[test]
    fn chain_of_known_calls_is_estimated() {
        let (records, mut plan) = run_and_plan();
        let mut history = WorkHistory::default();
        let unknown = history.estimate(&plan);
        assert_eq!((unknown.calls, unknown.requests, unknown.time), (4, 0, None));
        assert_eq!((unknown.work_text(), unknown.cost_text()), ("4 calls".to_owned(), "time unknown".to_owned()));
        history.add_run(records);
        assert_eq!(history.estimate(&plan).time, Some(Duration::from_millis(1_500)));
        // One task waits for another one.
        let mut last = Task::clone(&plan.tasks[3]);
        last.needs = vec![plan.tasks[0].id.clone()];
        plan.tasks[3] = last.into();
        assert_eq!(history.estimate(&plan).time, Some(Duration::from_secs(3)));
    }
}
