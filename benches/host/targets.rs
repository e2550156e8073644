//! The performance targets.

use crate::agent::AgentTransport;
use crate::comparison::{Durability, Figures, Row};
use crate::graph::MAX_PARALLEL;
use crate::workload::Workload;

/// A figure of a row that has a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// The ratio of kapell's time to that of the baseline with a journal.
    OverDurable,
    /// The ratio of kapell's time to that of the baseline without a journal.
    OverMemory,
    /// The ratio of kapell's makespan, from its first call to the end of the last sleep, to that of the sleeps alone.
    OverIdeal,
    /// The ratio of kapell's time for a task to that in `layered10k`.
    TaskOverLayered10k,
    /// The time from kapell's start to its first call, in milliseconds.
    FirstCall,
    /// kapell's peak memory, in MB.
    Peak,
    /// The time that `kapell validate` takes, in seconds.
    Validation,
    /// The number of unused permits, out of 64, when most requests wait for the language model.
    IdleSlots,
}

/// A maximum of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    row: Row,
    transport: AgentTransport,
    /// The figure.
    pub(crate) figure: Figure,
    /// The maximum.
    pub(crate) maximum: f64,
}

/// Returns all targets.
pub(crate) fn all_targets() -> Vec<Target> {
    use Figure::{FirstCall, IdleSlots, OverDurable, OverIdeal, OverMemory, Peak, TaskOverLayered10k, Validation};
    use Workload::{
        Chain100, Diamond100, Fan1000, Layered1k, Layered10k, Layered100k, Pair, Progress50, Sleep1000, Think200,
        Work64k,
    };
    // The maxima over stdio and over HTTP.
    let both = [
        (Pair, FirstCall, 25.0, 25.0),
        (Chain100, OverDurable, 1.25, 1.25),
        (Diamond100, OverDurable, 1.25, 1.25),
        (Fan1000, OverDurable, 1.5, 1.3),
        (Layered1k, OverDurable, 1.5, 1.3),
        (Layered10k, OverDurable, 1.5, 1.3),
        (Layered10k, Peak, 60.0, 60.0),
        (Work64k, OverDurable, 1.3, 1.3),
        (Sleep1000, OverIdeal, 1.05, 1.08),
        (Think200, OverMemory, 1.15, 1.15),
        (Think200, IdleSlots, 0.0, 0.0),
        (Progress50, OverMemory, 1.3, 1.3),
    ];
    let full = |workload| Row { workload, durability: Durability::Full };
    let mut targets = Vec::new();
    for (workload, figure, stdio, http) in both {
        targets.push(Target { row: full(workload), transport: AgentTransport::Stdio, figure, maximum: stdio });
        targets.push(Target { row: full(workload), transport: AgentTransport::Http, figure, maximum: http });
    }
    let normal = Row { workload: Layered10k, durability: Durability::Normal };
    targets.push(Target { row: normal, transport: AgentTransport::Stdio, figure: OverMemory, maximum: 1.5 });
    for (figure, at_most) in [(Validation, 2.0), (TaskOverLayered10k, 1.3), (Peak, 400.0)] {
        targets.push(Target { row: full(Layered100k), transport: AgentTransport::Stdio, figure, maximum: at_most });
    }
    targets
}

/// A target and the measured figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TargetResult {
    /// The target.
    pub(crate) target: Target,
    /// The measured figure.
    pub(crate) actual: f64,
}

impl TargetResult {
    /// Returns whether the target is met.
    pub(crate) fn is_met(&self) -> bool {
        self.actual <= self.target.maximum
    }
}

/// Returns the results of the targets of `measured` over `over`, as far as the required figures are in `others`.
pub(crate) fn target_results(measured: &Figures, over: AgentTransport, others: &[Figures]) -> Vec<TargetResult> {
    let own = all_targets().into_iter().filter(|target| target.row == measured.row && target.transport == over);
    own.filter_map(|target| Some(TargetResult { target, actual: target.figure.value_of(measured, others)? })).collect()
}

impl Figure {
    fn value_of(self, measured: &Figures, others: &[Figures]) -> Option<f64> {
        match self {
            Self::OverDurable => Some(measured.ratio_to_durable()),
            Self::OverMemory => Some(measured.ratio_to_memory()),
            Self::OverIdeal => measured.ratio_to_ideal(|round| &round.kapell),
            Self::TaskOverLayered10k => {
                let row = Row { workload: Workload::Layered10k, durability: measured.row.durability };
                let less = others.iter().find(|figures| figures.row == row)?;
                Some(measured.task_us() / less.task_us())
            }
            Self::FirstCall => Some(measured.first_call_ms()),
            Self::Peak => Some(measured.peak_mb()),
            Self::Validation => Some(measured.validation?.as_secs_f64()),
            Self::IdleSlots => Some(MAX_PARALLEL.saturating_sub(measured.peak_llm_requests()) as f64),
        }
    }

    /// Returns the unit of the figure, which follows the number.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::OverDurable => "× durable baseline",
            Self::OverMemory => "× baseline",
            Self::OverIdeal => "× ideal makespan",
            Self::TaskOverLayered10k => "× a task of layered10k",
            Self::FirstCall => "ms to the first call",
            Self::Peak => "MB",
            Self::Validation => "s to validate",
            Self::IdleSlots => "of 64 model slots idle",
        }
    }
}
