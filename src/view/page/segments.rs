//! The times of a task as segments: waiting for a place, running, waiting for a person or a model, pausing before a retry.

use serde::ser::SerializeTuple;
use serde::{Serialize, Serializer};

use crate::model::{AgentId, Timestamp};

/// What a task does, or waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// It could start, and waits for a place.
    Queued,
    /// An agent works on it, or it waits for a time, a signal, or its parts.
    Running,
    /// A person is asked.
    Person,
    /// A language model is asked.
    Model,
    /// It pauses before its next attempt.
    Pause,
}

/// How a segment ended, if the end says something about the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentOutcome {
    /// The attempt succeeded.
    Succeeded,
    /// The attempt failed.
    Failed,
}

/// A period of a task. Serializes as `[kind, start, end, attempt, agent, outcome]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// What the task does, or waits for.
    pub kind: SegmentKind,
    /// The start.
    pub start: Timestamp,
    /// The end; absent while it lasts.
    pub end: Option<Timestamp>,
    /// The number of the attempt; 0 before the first.
    pub attempt: u32,
    /// The agent of the attempt.
    pub agent: Option<AgentId>,
    /// How the attempt ended.
    pub outcome: Option<SegmentOutcome>,
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(6)?;
        tuple.serialize_element(&self.kind)?;
        tuple.serialize_element(&self.start)?;
        tuple.serialize_element(&self.end)?;
        tuple.serialize_element(&self.attempt)?;
        tuple.serialize_element(&self.agent)?;
        tuple.serialize_element(&self.outcome)?;
        tuple.end()
    }
}

/// The maximum number of segments of a task. The oldest of a task with more of them are joined.
const MAX_SEGMENTS: usize = 200;

/// The segments of a task. At most the last one is open.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Segments(Vec<Segment>);

impl Segments {
    pub(super) fn as_slice(&self) -> &[Segment] {
        &self.0
    }

    /// Returns the segment that lasts.
    pub(super) fn current(&self) -> Option<&Segment> {
        self.0.last().filter(|segment| segment.end.is_none())
    }

    /// Ends the current segment and begins another one. Repeating the current one changes nothing.
    pub(super) fn begin(&mut self, kind: SegmentKind, at: Timestamp, (attempt, agent): (u32, Option<AgentId>)) {
        let is_same = |current: &Segment| current.kind == kind && current.attempt == attempt && current.agent == agent;
        if self.current().is_some_and(is_same) {
            return;
        }
        self.end(at, None);
        if self.0.len() == MAX_SEGMENTS {
            self.join_oldest();
        }
        self.0.push(Segment { kind, start: at, end: None, attempt, agent, outcome: None });
    }

    /// Continues with another kind in the same attempt.
    pub(super) fn switch(&mut self, kind: SegmentKind, at: Timestamp) {
        let attempt = self.0.last().map_or((0, None), |last| (last.attempt, last.agent.clone()));
        self.begin(kind, at, attempt);
    }

    /// Ends the current segment, if there is one. A row that waited for a place no time did not wait.
    pub(super) fn end(&mut self, at: Timestamp, outcome: Option<SegmentOutcome>) {
        let Some(last) = self.0.last_mut().filter(|segment| segment.end.is_none()) else {
            return self.set_outcome(at, outcome);
        };
        if last.start == at && last.kind == SegmentKind::Queued {
            self.0.pop();
            return;
        }
        last.end = Some(at);
        last.outcome = outcome;
    }

    /// Adds the outcome to a segment that ended at the same time.
    fn set_outcome(&mut self, at: Timestamp, outcome: Option<SegmentOutcome>) {
        if let Some(last) = self.0.last_mut().filter(|last| last.end == Some(at) && last.outcome.is_none()) {
            last.outcome = outcome;
        }
    }

    /// Joins the second segment with the first.
    fn join_oldest(&mut self) {
        let second = self.0.remove(1);
        self.0[0].end = second.end;
        self.0[0].outcome = second.outcome;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(segments: &Segments) -> Vec<(SegmentKind, u64, Option<u64>, u32)> {
        let parts = |segment: &Segment| (segment.kind, segment.start.0, segment.end.map(|end| end.0), segment.attempt);
        segments.as_slice().iter().map(parts).collect()
    }

    #[test]
    fn segments_end_when_others_begin() {
        let mut segments = Segments::default();
        segments.begin(SegmentKind::Queued, Timestamp(1), (0, None));
        segments.begin(SegmentKind::Queued, Timestamp(2), (0, None));
        segments.begin(SegmentKind::Running, Timestamp(5), (1, Some("a".into())));
        segments.switch(SegmentKind::Person, Timestamp(6));
        segments.switch(SegmentKind::Running, Timestamp(6));
        segments.end(Timestamp(9), Some(SegmentOutcome::Failed));
        segments.end(Timestamp(9), None);
        use SegmentKind::{Person, Queued, Running};
        let expected =
            [(Queued, 1, Some(5), 0), (Running, 5, Some(6), 1), (Person, 6, Some(6), 1), (Running, 6, Some(9), 1)];
        assert_eq!(shown(&segments), expected);
        let json = serde_json::to_string(&segments.as_slice()[3]).expect("serializes");
        assert_eq!(json, r#"["running",6,9,1,"a","failed"]"#);
    }

    #[test]
    fn oldest_segments_are_joined() {
        let mut segments = Segments::default();
        for number in 0..1_000 {
            segments.begin(SegmentKind::Running, Timestamp(number), (number as u32, None));
        }
        assert_eq!(segments.as_slice().len(), MAX_SEGMENTS);
        let first = &segments.as_slice()[0];
        assert_eq!((first.start.0, first.end, segments.as_slice()[1].start.0), (0, Some(Timestamp(801)), 801));
    }
}
