//! The workloads.

use std::fmt;

use crate::graph::{Graph, MAX_PARALLEL, number_argument, text_argument};

/// The duration of a sleep in `sleep1000`, in milliseconds.
const SLEEP_MS: u64 = 50;
/// The number of notifications that a task of `progress50` sends.
pub(crate) const NOTIFICATIONS_PER_TASK: u64 = 100;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    /// One call of each agent.
    Pair,
    /// 100 calls, one after the other.
    Chain100,
    /// 100 times two parallel calls, which one call joins.
    Diamond100,
    /// 1 000 parallel calls, which one call joins.
    Fan1000,
    /// 20 layers of 50 calls. Each call joins two calls of earlier layers.
    Layered1k,
    /// 50 layers of 200 such calls.
    Layered10k,
    /// 200 layers of 500 such calls.
    Layered100k,
    /// 1 000 calls that sleep for 50 milliseconds.
    Sleep1000,
    /// 200 calls that ask the language model once.
    Think200,
    /// 50 calls that each report progress 100 times.
    Progress50,
    /// 200 calls whose results have 64 KiB.
    Work64k,
}

impl Workload {
    /// Returns the workload's graph, which is always the same.
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

    /// Returns the least duration due to its sleeps alone, in milliseconds.
    pub(crate) fn ideal_ms(self) -> Option<f64> {
        (self == Self::Sleep1000).then(|| 1_000_usize.div_ceil(MAX_PARALLEL) as f64 * SLEEP_MS as f64)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&format!("{self:?}").to_lowercase())
    }
}
