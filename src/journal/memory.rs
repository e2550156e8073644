//! Stores the events of runs in memory, for tests and for programs that need no durability.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use parking_lot::Mutex;
use serde_json::Value;

use super::raw_record::PAGE_BYTES;
use super::store::check_accepts_requests;
use super::{
    CommitFuture, ControlQueue, ControlRequest, Durability, Holder, JournalError, JournalReader, JournalWriter, Lease,
    QueuedRequest, RawRecord, RecoveryScan, RunFilter, RunSummary, ScheduleLog, SchedulePosition, Store,
};
use crate::model::{CheckpointKey, Checkpoints, Event, QuestionId, Record, RunId, RunStatus, Timestamp};
use crate::system::process::RequestSender;

/// A journal that lasts as long as its process. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    // A lock, since runs may be driven and read by different threads. It is held only for single operations.
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    runs: HashMap<RunId, MemoryRun>,
    /// The runs that have started, in this order.
    run_order: Vec<RunId>,
    last_request_id: i64,
    schedules: HashMap<String, SchedulePosition>,
}

#[derive(Debug, Default)]
struct MemoryRun {
    records: Vec<Record>,
    /// The summary without the driver. Present once the run has started.
    summary: Option<RunSummary>,
    checkpoints: Checkpoints,
    requests: Vec<QueuedRequest>,
    is_driven: bool,
}

impl Store for MemoryJournal {
    fn open_writer(&self, _: Durability) -> Result<Arc<dyn JournalWriter>, JournalError> {
        Ok(Arc::new(self.clone()))
    }

    fn open_reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(self.clone()))
    }

    fn acquire_lease(&self, run: &RunId) -> Result<Lease, JournalError> {
        let mut content = self.content.lock();
        let driven = &mut content.runs.entry(run.clone()).or_default().is_driven;
        if *driven {
            return Err(JournalError::Driven { run: run.clone(), holder: this_process() });
        }
        *driven = true;
        Ok(Box::new(MemoryLease { journal: self.clone(), run: run.clone() }))
    }

    fn control_queue(&self, run: &RunId) -> Box<dyn ControlQueue> {
        Box::new(MemoryControlQueue { journal: self.clone(), run: run.clone(), last_read_id: 0 })
    }

    fn schedule_log(&self) -> Box<dyn ScheduleLog> {
        Box::new(self.clone())
    }

    fn prune(&self, run: &RunId) -> Result<(), JournalError> {
        let _lease = self.acquire_lease(run)?;
        let mut content = self.content.lock();
        content.run_order.retain(|other| other != run);
        content.runs.remove(run);
        Ok(())
    }

    fn delete_checkpoints(&self, run: &RunId) -> Result<Vec<CheckpointKey>, JournalError> {
        let _lease = self.acquire_lease(run)?;
        let mut content = self.content.lock();
        let deleted = content.runs.get_mut(run).map(|run| std::mem::take(&mut run.checkpoints)).unwrap_or_default();
        let sessions = deleted.sessions.into_keys().map(CheckpointKey::Session);
        Ok(sessions.chain(deleted.calls.into_keys().map(CheckpointKey::Call)).collect())
    }

    fn recovery_scan(&self) -> RecoveryScan {
        RecoveryScan { intact: self.content.lock().run_order.iter().rev().cloned().collect(), damaged: Vec::new() }
    }
}

impl ScheduleLog for MemoryJournal {
    fn position(&mut self, schedule: &str, now: Timestamp) -> Result<SchedulePosition, JournalError> {
        let mut content = self.content.lock();
        let begin = SchedulePosition { handled: now, claimed: None };
        Ok(*content.schedules.entry(schedule.to_owned()).or_insert(begin))
    }

    fn advance(&mut self, schedule: &str, from: SchedulePosition, to: SchedulePosition) -> Result<bool, JournalError> {
        let mut content = self.content.lock();
        let position = content.schedules.get_mut(schedule).filter(|position| **position == from);
        Ok(position.map(|position| *position = to).is_some())
    }
}

impl JournalWriter for MemoryJournal {
    fn append(&self, run: &RunId, records: Arc<[Record]>) -> CommitFuture {
        futures::future::ready(self.content.lock().append(run, &records)).boxed()
    }

    fn save_checkpoint(&self, run: &RunId, key: CheckpointKey, checkpoint: Value) -> CommitFuture {
        self.content.lock().runs.entry(run.clone()).or_default().checkpoints.insert(key, checkpoint);
        futures::future::ready(Ok(())).boxed()
    }
}

impl JournalReader for MemoryJournal {
    fn filtered_runs(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunSummary>, JournalError> {
        Ok(self.content.lock().summaries().filter(|run| filter.matches(run)).take(limit).collect())
    }

    fn reruns(&self, run: &RunId) -> Result<Vec<RunId>, JournalError> {
        let content = self.content.lock();
        let is_rerun = |record: &Record| matches!(&record.event, Event::RunRerun { of, .. } if of == run);
        let reruns = content.run_order.iter().filter(|id| content.runs[*id].records.iter().any(is_rerun));
        Ok(reruns.cloned().collect())
    }

    fn unfinished_runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        Ok(self.content.lock().summaries().filter(|summary| summary.status.is_unfinished()).collect())
    }

    fn run(&self, run: &RunId) -> Result<RunSummary, JournalError> {
        let summary = self.content.lock().runs.get(run).and_then(MemoryRun::summary);
        summary.ok_or_else(|| JournalError::unknown_run(run))
    }

    fn matching_runs(&self, name: &str, limit: usize) -> Result<Vec<RunId>, JournalError> {
        let is_match = |run: &&RunId| run.as_str().starts_with(name) || run.as_str().ends_with(name);
        let mut matches: Vec<_> = self.content.lock().run_order.iter().rev().filter(is_match).cloned().collect();
        // Stable, so the order of the others stays.
        matches.sort_by_key(|run| run.as_str() != name);
        matches.truncate(limit);
        Ok(matches)
    }

    fn driver(&self, run: &RunId) -> Result<Option<Holder>, JournalError> {
        Ok(self.content.lock().runs.get(run).filter(|run| run.is_driven).map(|_| this_process()))
    }

    fn pending_answers(&self, run: &RunId) -> Result<Vec<QuestionId>, JournalError> {
        let content = self.content.lock();
        let requests = content.runs.get(run).into_iter().flat_map(|run| &run.requests);
        Ok(requests.filter_map(|queued| queued.request.question()).cloned().collect())
    }

    fn checkpoints(&self, run: &RunId) -> Result<Checkpoints, JournalError> {
        Ok(self.content.lock().runs.get(run).map(|run| run.checkpoints.clone()).unwrap_or_default())
    }

    fn read_page(&self, run: &RunId, from_seq: u64) -> Result<Vec<RawRecord>, JournalError> {
        let content = self.content.lock();
        let (mut page, mut bytes) = (Vec::new(), 0);
        let first = usize::try_from(from_seq).unwrap_or(usize::MAX);
        for record in content.runs.get(run).into_iter().flat_map(|run| run.records.iter().skip(first)) {
            let json =
                serde_json::to_string(record).map_err(|error| JournalError::invalid_record(run, record.seq, error))?;
            bytes += json.len();
            page.push(RawRecord { seq: record.seq, json });
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(page)
    }
}

impl Content {
    fn append(&mut self, run: &RunId, records: &[Record]) -> Result<(), JournalError> {
        let stored = self.runs.entry(run.clone()).or_default();
        let gap = records.iter().zip(stored.records.len() as u64..).find(|(record, expected)| record.seq != *expected);
        if let Some((record, expected)) = gap {
            return Err(JournalError::SequenceGap { run: run.clone(), expected, found: record.seq });
        }
        stored.records.extend_from_slice(records);
        for record in records {
            if matches!(record.event, Event::RunStarted { .. }) {
                self.run_order.push(run.clone());
            }
            stored.apply(run, record);
        }
        Ok(())
    }

    /// Returns the runs that have started, latest first.
    fn summaries(&self) -> impl Iterator<Item = RunSummary> {
        self.run_order.iter().rev().filter_map(|run| self.runs.get(run)?.summary())
    }
}

impl MemoryRun {
    /// Keeps the state of the run and its requests consistent with its events.
    fn apply(&mut self, run: &RunId, record: &Record) {
        match &record.event {
            Event::RunStarted { plan, .. } => {
                self.summary = Some(RunSummary {
                    run: run.clone(),
                    name: plan.name.clone(),
                    started: record.at,
                    ended: None,
                    status: RunStatus::Running,
                    last_event: record.at,
                    driver: None,
                });
            }
            Event::RunEnded { status, .. } => {
                if !status.is_unfinished() {
                    self.checkpoints = Checkpoints::default();
                    self.requests.clear();
                }
                self.set_status(*status, Some(record.at));
            }
            Event::RunResumed { .. } => self.set_status(RunStatus::Running, None),
            Event::QuestionAnswered { question, .. } => {
                self.requests.retain(|queued| queued.request.question() != Some(question));
            }
            Event::SignalReceived { name, .. } => {
                let is_same = |queued: &QueuedRequest| matches!(&queued.request, ControlRequest::Signal { name: sent, .. } if sent == name);
                if let Some(index) = self.requests.iter().position(is_same) {
                    self.requests.remove(index);
                }
            }
            Event::CancelRequested { .. } => self.requests.retain(|queued| queued.request != ControlRequest::Cancel),
            _ => {}
        }
        if let Some(summary) = &mut self.summary {
            summary.last_event = record.at;
        }
    }

    fn set_status(&mut self, status: RunStatus, ended: Option<Timestamp>) {
        if let Some(summary) = &mut self.summary {
            (summary.status, summary.ended) = (status, ended);
        }
    }

    fn summary(&self) -> Option<RunSummary> {
        let summary = self.summary.clone()?;
        let driver = (summary.ended.is_none() && self.is_driven).then(this_process);
        Some(RunSummary { driver, ..summary })
    }
}

/// Releases the lease of a run when it is dropped.
#[derive(Debug)]
struct MemoryLease {
    journal: MemoryJournal,
    run: RunId,
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        if let Some(run) = self.journal.content.lock().runs.get_mut(&self.run) {
            run.is_driven = false;
        }
    }
}

/// The control queue of a run.
#[derive(Debug)]
struct MemoryControlQueue {
    journal: MemoryJournal,
    run: RunId,
    last_read_id: i64,
}

impl ControlQueue for MemoryControlQueue {
    fn send(&mut self, request: &ControlRequest, sender: &RequestSender) -> Result<(), JournalError> {
        let mut content = self.journal.content.lock();
        let Content { runs, last_request_id, .. } = &mut *content;
        let run = runs.entry(self.run.clone()).or_default();
        check_accepts_requests(&self.run, run.summary.as_ref().map(|summary| summary.status))?;
        if let Some(question) = request.question()
            && run.requests.iter().any(|queued| queued.request.question() == Some(question))
        {
            return Err(JournalError::AlreadyAnswered { run: self.run.clone(), question: question.clone() });
        }
        *last_request_id += 1;
        run.requests.push(QueuedRequest {
            id: *last_request_id,
            request: request.clone(),
            sender: Some(sender.clone()),
        });
        Ok(())
    }

    fn read_new(&mut self) -> Result<Vec<QueuedRequest>, JournalError> {
        let content = self.journal.content.lock();
        let requests = content.runs.get(&self.run).into_iter().flat_map(|run| &run.requests);
        let new: Vec<_> = requests.filter(|queued| queued.id > self.last_read_id).cloned().collect();
        self.last_read_id = new.last().map_or(self.last_read_id, |queued| queued.id);
        Ok(new)
    }

    fn remove(&mut self, id: i64) -> Result<(), JournalError> {
        if let Some(run) = self.journal.content.lock().runs.get_mut(&self.run) {
            run.requests.retain(|queued| queued.id != id);
        }
        Ok(())
    }
}

fn this_process() -> Holder {
    Holder { pid: Some(std::process::id()) }
}
