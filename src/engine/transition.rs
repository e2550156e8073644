//! A step in progress: the events and commands that were decided so far.

use super::state::run::Run;
use super::state::run_state::UnknownName;
use crate::model::{Command, Event, Record, Timestamp};

/// The output of one step: events to make durable, then commands to execute.
#[derive(Debug, Default, PartialEq)]
pub struct StepOutput {
    /// The events, in order.
    pub records: Vec<Record>,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

/// A step in progress: the run, and the events and commands that were decided so far.
pub(super) struct Transition<'r> {
    pub(super) run: &'r mut Run,
    pub(super) now: Timestamp,
    output: StepOutput,
}

impl<'r> Transition<'r> {
    pub(super) fn new(run: &'r mut Run, now: Timestamp) -> Self {
        Self { run, now, output: StepOutput::default() }
    }

    /// Adds a record that was already applied to the run.
    pub(super) fn record(&mut self, record: Record) {
        self.output.records.push(record);
    }

    pub(super) fn into_output(self) -> StepOutput {
        self.output
    }
}

impl Transition<'_> {
    /// Applies an event and records it. Events use only names of the run, so applying them cannot fail.
    pub(super) fn emit(&mut self, event: Event) {
        let seq = self.run.next_seq;
        if let Err(UnknownName(name)) = self.run.apply(&event, self.now) {
            unreachable!("the engine decided about `{name}`, which is unknown to the run");
        }
        self.output.records.push(Record { seq, at: self.now, event });
    }

    pub(super) fn push_command(&mut self, command: Command) {
        self.output.commands.push(command);
    }
}
