//! The graph of a workload: its tasks, and how it is written down as a plan of kapell.
//! Never runs one.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Most calls in flight at once.
pub(crate) const MAX_PARALLEL: usize = 64;

/// The agents of every workload. Tasks go to them in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Agent {
    /// That of even tasks.
    A,
    /// That of odd tasks.
    B,
}

impl Agent {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::A, Self::B];

    /// Its name in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// What a tool of the reference agent is given under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Argument {
    /// This text.
    Text(String),
    /// This number.
    Number(u64),
    /// The outputs of earlier tasks, by index, joined with `|`. The task waits for them.
    Outputs(Vec<usize>),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Its name, which no other task has.
    pub(crate) id: String,
    /// Who is called.
    pub(crate) agent: Agent,
    /// What of it is called.
    pub(crate) tool: String,
    /// With what: a name and its value.
    pub(crate) argument: (String, Argument),
}

impl Task {
    /// The tasks that it waits for, by index.
    pub(crate) fn needs(&self) -> &[usize] {
        match &self.argument.1 {
            Argument::Outputs(tasks) => tasks,
            Argument::Text(_) | Argument::Number(_) => &[],
        }
    }
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Graph {
    /// Its name.
    pub(crate) name: String,
    /// Its calls. Each comes after those that it needs.
    pub(crate) tasks: Vec<Task>,
}

impl Graph {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), tasks: Vec::new() }
    }

    /// Adds a task; the agents take turns.
    fn add(&mut self, id: String, tool: &str, argument: (String, Argument)) -> usize {
        let index = self.tasks.len();
        let agent = Agent::ALL[index % Agent::ALL.len()];
        self.tasks.push(Task { id, agent, tool: tool.to_owned(), argument });
        index
    }

    /// `count` calls of `tool` that need nothing; `argument` is given the number of each.
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

    /// Each call repeats the output of the one before.
    pub(crate) fn chain(name: &str, length: usize) -> Self {
        let mut graph = Self::new(name);
        let mut last = graph.add("t0".to_owned(), "echo", text_argument("text", "seed"));
        for number in 1..length {
            last = graph.add(format!("t{number}"), "echo", outputs_argument(vec![last]));
        }
        graph
    }

    /// `count` times two calls side by side, which one call joins.
    pub(crate) fn diamonds(name: &str, count: usize) -> Self {
        let mut graph = Self::new(name);
        let mut top = graph.add("d0".to_owned(), "mix", text_argument("text", "seed"));
        for number in 0..count {
            let left = graph.add(format!("l{number}"), "mix", outputs_argument(vec![top]));
            let right = graph.add(format!("r{number}"), "echo", outputs_argument(vec![top]));
            top = graph.add(format!("d{}", number + 1), "mix", outputs_argument(vec![left, right]));
        }
        graph
    }

    /// One call, `width` calls that need it, and one that joins them.
    pub(crate) fn fan(name: &str, width: usize) -> Self {
        let mut graph = Self::new(name);
        let source = graph.add("src".to_owned(), "echo", text_argument("text", "seed"));
        let fan =
            (0..width).map(|number| graph.add(format!("m{number}"), "mix", outputs_argument(vec![source]))).collect();
        graph.add("sink".to_owned(), "mix", outputs_argument(fan));
        graph
    }

    /// `layers` layers of `width` calls. Each beyond the first layer joins one of the layer above and one of any
    /// earlier layer.
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

    /// The graph as a plan file of kapell.
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

    /// A digest of what every task, by index, has put out. Equal digests mean that equal work was done, since most
    /// tasks work on what others have put out.
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

/// A text under a name.
pub(crate) fn text_argument(name: &str, value: &str) -> (String, Argument) {
    (name.to_owned(), Argument::Text(value.to_owned()))
}

/// A number under a name.
pub(crate) fn number_argument(name: &str, value: u64) -> (String, Argument) {
    (name.to_owned(), Argument::Number(value))
}

/// The outputs of tasks, by index.
fn outputs_argument(tasks: Vec<usize>) -> (String, Argument) {
    ("text".to_owned(), Argument::Outputs(tasks))
}

/// Numbers that look like chance, and are the same every time: a linear congruential generator (Knuth's MMIX).
struct LinearCongruential(u64);

impl LinearCongruential {
    fn next_below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper bits are the better ones.
        (self.0 >> 33) as usize % bound
    }
}

/// FNV-1a of 64 bits: light, so that computing it is no work beside a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// The digest of a text.
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
