//! The workloads.
//! Never runs one.

use std::fmt;

use crate::graph::{Graph, MAX_PARALLEL, number_argument, text_argument};

/// How long a task of `sleep1000` sleeps, in milliseconds.
const SLEEP_MS: u64 = 50;
/// How many notifications a task of `progress50` sends.
pub(crate) const NOTIFICATIONS_PER_TASK: u64 = 100;

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
        let name = &self.to_string();
        match self {
            Self::Pair => Graph::independent(name, 2, "echo", |_| text_argument("text", "seed")),
            Self::Chain100 => Graph::chain(name, 100),
            Self::Diamond100 => Graph::diamonds(name, 100),
            Self::Fan1000 => Graph::fan(name, 1_000),
            Self::Layered1k => Graph::layered(name, 20, 50),
            Self::Layered10k => Graph::layered(name, 50, 200),
            Self::Layered100k => Graph::layered(name, 200, 500),
            Self::Sleep1000 => Graph::independent(name, 1_000, "sleep_ms", |_| number_argument("ms", SLEEP_MS)),
            Self::Think200 => {
                Graph::independent(name, 200, "think", |task| text_argument("prompt", &format!("p{task}")))
            }
            Self::Progress50 => {
                Graph::independent(name, 50, "progress", |_| number_argument("n", NOTIFICATIONS_PER_TASK))
            }
            Self::Work64k => Graph::independent(name, 200, "work", |_| number_argument("bytes", 64 * 1_024)),
        }
    }

    /// The least time that it takes because of its sleeps alone, in milliseconds.
    pub(crate) fn ideal_ms(self) -> Option<f64> {
        (self == Self::Sleep1000).then(|| 1_000_usize.div_ceil(MAX_PARALLEL) as f64 * SLEEP_MS as f64)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&format!("{self:?}").to_lowercase())
    }
}
