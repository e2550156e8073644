//! The workloads: what each is, and how it is written down for the floor and for kapell.
//! Never runs one.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Most calls in flight at once.
pub(crate) const WIDTH: usize = 64;
/// How long a task of `sleep1000` sleeps, in milliseconds.
const NAP: u64 = 50;
/// How many notifications a task of `progress50` sends.
pub(crate) const NOTIFICATIONS: u64 = 100;

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

/// Which workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    /// A call of each agent.
    Pair,
    /// 100 calls, one after the other.
    Chain100,
    /// 100 times two calls side by side, which one call joins.
    Diamond100,
    /// 1 000 calls side by side, which one call joins.
    Fan1000,
    /// 20 layers of 50 calls, each of which joins two calls of earlier layers.
    Layered1k,
    /// 50 layers of 200 such calls.
    Layered10k,
    /// 200 layers of 500 such calls.
    Layered100k,
    /// 1 000 calls that sleep for 50 milliseconds.
    Sleep1000,
    /// 200 calls that ask the language model once.
    Think200,
    /// 50 calls that tell of their progress 100 times.
    Progress50,
    /// 200 calls that answer with 64 KiB.
    Work64k,
}

impl Workload {
    /// The workload's graph, the same at every call.
    pub(crate) fn graph(self) -> Graph {
        let mut graph = Builder(Graph { name: self.to_string(), tasks: Vec::new() });
        match self {
            Self::Pair => graph.side_by_side(2, |task| (format!("t{task}"), "echo", text("text", "seed"))),
            Self::Chain100 => graph.chain(100),
            Self::Diamond100 => graph.diamonds(100),
            Self::Fan1000 => graph.fan(1_000),
            Self::Layered1k => graph.layers(20, 50),
            Self::Layered10k => graph.layers(50, 200),
            Self::Layered100k => graph.layers(200, 500),
            Self::Sleep1000 => graph.side_by_side(1_000, |task| (format!("s{task}"), "sleep_ms", number("ms", NAP))),
            Self::Think200 => {
                graph.side_by_side(200, |task| (format!("q{task}"), "think", text("prompt", &format!("p{task}"))));
            }
            Self::Progress50 => {
                graph.side_by_side(50, |task| (format!("p{task}"), "progress", number("n", NOTIFICATIONS)));
            }
            Self::Work64k => graph.side_by_side(200, |task| (format!("w{task}"), "work", number("bytes", 65_536))),
        }
        graph.0
    }

    /// The least time that it takes because of its sleeps alone, in milliseconds.
    pub(crate) fn ideal_ms(self) -> Option<f64> {
        (self == Self::Sleep1000).then(|| 1_000_usize.div_ceil(WIDTH) as f64 * NAP as f64)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&format!("{self:?}").to_lowercase())
    }
}

fn text(name: &str, value: &str) -> (String, Argument) {
    (name.to_owned(), Argument::Text(value.to_owned()))
}

fn number(name: &str, value: u64) -> (String, Argument) {
    (name.to_owned(), Argument::Number(value))
}

fn outputs(tasks: Vec<usize>) -> (String, Argument) {
    ("text".to_owned(), Argument::Outputs(tasks))
}

/// Adds tasks to a graph, the agents in turn.
struct Builder(Graph);

impl Builder {
    fn add(&mut self, id: String, tool: &str, argument: (String, Argument)) -> usize {
        let index = self.0.tasks.len();
        let agent = Agent::ALL[index % Agent::ALL.len()];
        self.0.tasks.push(Task { id, agent, tool: tool.to_owned(), argument });
        index
    }

    fn side_by_side(&mut self, count: usize, task: impl Fn(usize) -> (String, &'static str, (String, Argument))) {
        for number in 0..count {
            let (id, tool, argument) = task(number);
            self.add(id, tool, argument);
        }
    }

    fn chain(&mut self, length: usize) {
        let mut last = self.add("t0".to_owned(), "echo", text("text", "seed"));
        for number in 1..length {
            last = self.add(format!("t{number}"), "echo", outputs(vec![last]));
        }
    }

    fn diamonds(&mut self, count: usize) {
        let mut top = self.add("d0".to_owned(), "mix", text("text", "seed"));
        for number in 0..count {
            let left = self.add(format!("l{number}"), "mix", outputs(vec![top]));
            let right = self.add(format!("r{number}"), "echo", outputs(vec![top]));
            top = self.add(format!("d{}", number + 1), "mix", outputs(vec![left, right]));
        }
    }

    fn fan(&mut self, width: usize) {
        let source = self.add("src".to_owned(), "echo", text("text", "seed"));
        let fan = (0..width).map(|number| self.add(format!("m{number}"), "mix", outputs(vec![source]))).collect();
        self.add("sink".to_owned(), "mix", outputs(fan));
    }

    /// Each task beyond the first layer joins one of the layer above and one of any earlier layer.
    fn layers(&mut self, layers: usize, width: usize) {
        let mut chance = Chance(7);
        for layer in 0..layers {
            for place in 0..width {
                let id = format!("n{layer}_{place}");
                let argument = match layer {
                    0 => text("text", &id),
                    _ => {
                        let above = (layer - 1) * width + chance.below(width);
                        let mut joined = vec![chance.below(layer * width), above];
                        joined.sort_unstable();
                        joined.dedup();
                        outputs(joined)
                    }
                };
                self.add(id, "mix", argument);
            }
        }
    }
}

/// Numbers that look like chance, and are the same every time: a linear congruential generator (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper bits are the better ones.
        (self.0 >> 33) as usize % bound
    }
}

impl Graph {
    /// The graph as a plan file of kapell.
    pub(crate) fn plan(&self) -> String {
        let mut plan = format!("name: {}\nmax_parallel: {WIDTH}\ntasks:\n", self.name);
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
