//! What the reporters of progress for people have in common: the lines about each event, and the end of the run.

use serde_json::Value;

use super::reporter::Reporter;
use super::run_end::RunEnd;
use crate::engine::CallTracker;
use crate::model::Record;
use crate::view::RunView;
use crate::view::phrasebook::{call_arguments, describe};
use crate::view::report_line::{LineKind, ReportLine, Verbosity};

/// A reporter of progress for people. The end of the run is shown last, after its result.
pub trait ProgressReporter: Reporter {
    /// Returns the end of the run, once it has been reported.
    fn end(&self) -> Option<&RunEnd>;
}

/// The options of a reporter of progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProgressOptions {
    /// How much is said about events.
    pub verbosity: Verbosity,
}

/// Describes events in lines. With details, also the arguments of calls, which need the state of the whole run.
#[derive(Debug)]
pub(super) struct EventLines {
    verbosity: Verbosity,
    calls: Option<CallTracker>,
}

impl EventLines {
    pub(super) fn new(options: ProgressOptions) -> Self {
        let verbosity = options.verbosity;
        Self { verbosity, calls: (verbosity >= Verbosity::Detailed).then(CallTracker::default) }
    }

    pub(super) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Applies events of an earlier process.
    pub(super) fn catch_up(&mut self, records: &[Record]) {
        if let Some(calls) = &mut self.calls {
            records.iter().for_each(|record| drop(calls.apply(record)));
        }
    }

    /// Returns the lines about an event, without the end of the run. `before` is the view before the event.
    pub(super) fn describe(&mut self, before: &RunView, record: &Record) -> Vec<ReportLine> {
        let mut lines = describe(before, record, self.verbosity);
        lines.retain(|line| !matches!(line.kind, LineKind::Ended(_)));
        let call = self.calls.as_mut().and_then(|calls| calls.apply(record));
        let has_arguments = |arguments: &Value| arguments.as_object().is_some_and(|arguments| !arguments.is_empty());
        lines.extend(call.filter(|call| has_arguments(&call.arguments)).map(|call| call_arguments(&call)));
        lines
    }
}
