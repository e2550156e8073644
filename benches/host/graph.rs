//! The graph of a workload: its tasks, and their plan file for kapell.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The limit on concurrent calls.
pub(crate) const MAX_PARALLEL: usize = 64;

/// The agents of every workload. Tasks are assigned to them alternately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Agent {
    /// The agent of even tasks.
    A,
    /// The agent of odd tasks.
    B,
}

impl Agent {
    /// Both agents.
    pub(crate) const ALL: [Self; 2] = [Self::A, Self::B];

    /// Returns the name of the agent in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// The value of an argument of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Argument {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// The outputs of earlier tasks, by index, joined with `|`. The task waits for them.
    Outputs(Vec<usize>),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The unique name of the task.
    pub(crate) id: String,
    /// The agent that is called.
    pub(crate) agent: Agent,
    /// The tool that is called.
    pub(crate) tool: String,
    /// The argument: a name and its value.
    pub(crate) argument: (String, Argument),
}

impl Task {
    /// Returns the tasks that it waits for, by index.
    pub(crate) fn needs(&self) -> &[usize] {
        match &self.argument.1 {
            Argument::Outputs(tasks) => tasks,
            Argument::Text(_) | Argument::Number(_) => &[],
        }
    }
}

/// The graph of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Graph {
    /// The name of the workload.
    pub(crate) name: String,
    /// The calls. Each comes after those that it needs.
    pub(crate) tasks: Vec<Task>,
}

impl Graph {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), tasks: Vec::new() }
    }

    /// Adds a task for the next agent.
    fn add(&mut self, id: String, tool: &str, argument: (String, Argument)) -> usize {
        let index = self.tasks.len();
        let agent = Agent::ALL[index % Agent::ALL.len()];
        self.tasks.push(Task { id, agent, tool: tool.to_owned(), argument });
        index
    }

    /// Returns `count` independent calls of `tool`. `argument` gets the number of each.
    pub(crate) fn independent(
        name: &str,
        count: usize,
        tool: &str,
        argument: impl Fn(usize) -> (String, Argument),
    ) -> Self {
        let mut graph = Self::new(name);
        for number in 0..count {
            graph.add(format!("t{number}"), tool, argument(number));
        }
        graph
    }

    /// Returns a chain of calls that each repeat the output of the previous one.
    pub(crate) fn chain(name: &str, length: usize) -> Self {
        let mut graph = Self::new(name);
        let mut last = graph.add("t0".to_owned(), "echo", text_argument("text", "seed"));
        for number in 1..length {
            last = graph.add(format!("t{number}"), "echo", outputs_argument(vec![last]));
        }
        graph
    }

    /// Returns `count` times two parallel calls, which one call joins.
    pub(crate) fn diamonds(name: &str, count: usize) -> Self {
        let mut graph = Self::new(name);
        let mut top = graph.add("d0".to_owned(), "mix", text_argument("text", "seed"));
        for number in 0..count {
            let first = graph.add(format!("l{number}"), "mix", outputs_argument(vec![top]));
            let second = graph.add(format!("r{number}"), "echo", outputs_argument(vec![top]));
            top = graph.add(format!("d{}", number + 1), "mix", outputs_argument(vec![first, second]));
        }
        graph
    }

    /// Returns one call, `width` calls that need it, and one that joins them.
    pub(crate) fn fan(name: &str, width: usize) -> Self {
        let mut graph = Self::new(name);
        let source = graph.add("src".to_owned(), "echo", text_argument("text", "seed"));
        let fan =
            (0..width).map(|number| graph.add(format!("m{number}"), "mix", outputs_argument(vec![source]))).collect();
        graph.add("sink".to_owned(), "mix", outputs_argument(fan));
        graph
    }

    /// Returns `layers` layers of `width` calls. Each beyond the first layer joins one of the previous layer and one of
    /// any earlier layer.
    pub(crate) fn layered(name: &str, layers: usize, width: usize) -> Self {
        let mut graph = Self::new(name);
        let mut chance = LinearCongruential(7);
        for layer in 0..layers {
            for place in 0..width {
                let id = format!("n{layer}_{place}");
                let argument = match layer {
                    0 => text_argument("text", &id),
                    _ => {
                        let above = (layer - 1) * width + chance.next_below(width);
                        let mut joined = vec![chance.next_below(layer * width), above];
                        joined.sort_unstable();
                        joined.dedup();
                        outputs_argument(joined)
                    }
                };
                graph.add(id, "mix", argument);
            }
        }
        graph
    }

    /// Returns the graph as a plan file of kapell.
    pub(crate) fn plan(&self) -> String {
        let mut plan = format!("name: {}\nmax_parallel: {MAX_PARALLEL}\ntasks:\n", self.name);
        for task in &self.tasks {
            let (name, argument) = &task.argument;
            let value = match argument {
                Argument::Text(text) => json!(text),
                Argument::Number(number) => json!(number),
                Argument::Outputs(tasks) => {
                    let output = |&task: &usize| format!("${{{{ tasks.{}.output }}}}", self.tasks[task].id);
                    Value::String(tasks.iter().map(output).collect::<Vec<_>>().join("|"))
                }
            };
            let needs: Vec<&str> = task.needs().iter().map(|&need| self.tasks[need].id.as_str()).collect();
            let _ = writeln!(plan, "  - id: {}", task.id);
            let _ = writeln!(plan, "    agent: {}", task.agent.name());
            let _ = writeln!(plan, "    tool: {}", task.tool);
            if !needs.is_empty() {
                let _ = writeln!(plan, "    needs: [{}]", needs.join(", "));
            }
            let _ = writeln!(plan, "    with: {}", json!({ name: value }));
        }
        plan
    }

    /// Returns a digest of the outputs of all tasks, by index. Equal digests mean equal work, since most tasks process
    /// the outputs of others.
    pub(crate) fn digest<'o>(&self, mut output: impl FnMut(usize) -> &'o str) -> String {
        let mut digest = Digest::default();
        for (index, task) in self.tasks.iter().enumerate() {
            for part in [&task.id, "=", output(index), "\n"] {
                digest.add(part);
            }
        }
        digest.to_string()
    }
}

/// Returns an argument with a text.
pub(crate) fn text_argument(name: &str, value: &str) -> (String, Argument) {
    (name.to_owned(), Argument::Text(value.to_owned()))
}

/// Returns an argument with a number.
pub(crate) fn number_argument(name: &str, value: u64) -> (String, Argument) {
    (name.to_owned(), Argument::Number(value))
}

/// Returns an argument with the outputs of tasks, by index.
fn outputs_argument(tasks: Vec<usize>) -> (String, Argument) {
    ("text".to_owned(), Argument::Outputs(tasks))
}

/// A deterministic pseudorandom generator: a linear congruential generator (Knuth's MMIX).
struct LinearCongruential(u64);

impl LinearCongruential {
    fn next_below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper bits are more random.
        (self.0 >> 33) as usize % bound
    }
}

/// FNV-1a with 64 bits, whose cost is negligible beside a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Returns the digest of a text.
    pub(crate) fn of(text: &str) -> Self {
        let mut digest = Self::default();
        digest.add(text);
        digest
    }

    fn add(&mut self, text: &str) {
        self.0 = text.bytes().fold(self.0, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}
