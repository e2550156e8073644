//! The entries of the list of runs, with what their events say.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::open_page::OpenPage;
use super::page_cache::PageCache;
use crate::engine::SpendingTotals;
use crate::journal::{JournalError, RunSummary, Store};
use crate::model::{MicroDollars, RunId, RunStatus, Timestamp};
use crate::view::page::RowCounts;

/// The maximum number of runs whose events are remembered as an entry.
const MAX_ENTRIES: usize = 10_000;

/// A run of the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ListEntry {
    pub(crate) run: RunId,
    short: String,
    plan: String,
    pub(crate) status: RunStatus,
    started: Timestamp,
    ended: Option<Timestamp>,
    process: Option<u32>,
    seq: u64,
    pub(crate) counts: RowCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<MicroDollars>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun_of: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<String>,
    #[serde(skip)]
    pub(crate) spent: SpendingTotals,
}

impl ListEntry {
    /// Returns the entry of a run whose events cannot be read.
    fn unreadable(summary: &RunSummary) -> Self {
        Self {
            run: summary.run.clone(),
            short: summary.run.short().to_owned(),
            plan: summary.name.clone(),
            status: summary.current_status(),
            started: summary.started,
            ended: summary.ended,
            process: summary.driver.and_then(|driver| driver.pid),
            seq: 0,
            counts: RowCounts::default(),
            cost_usd: None,
            rerun_of: None,
            goal: None,
            spent: SpendingTotals::default(),
        }
    }

    fn of_page(summary: &RunSummary, open: &OpenPage) -> Self {
        let (page, view) = (open.page(), open.page().view());
        let spent = view.result().spent;
        Self {
            seq: page.seq().unwrap_or_default(),
            counts: page.counts(),
            cost_usd: Some(spent.cost_usd).filter(|cost| !cost.is_zero()),
            rerun_of: view.earlier_run().cloned(),
            goal: view.history().planning.as_ref().map(|planning| planning.goal.clone()),
            spent,
            ..Self::unreadable(summary)
        }
    }
}

/// The entries that were computed before. Those of runs that have ended do not change.
#[derive(Debug)]
pub(crate) struct ListEntries {
    store: Arc<dyn Store>,
    content_root: PathBuf,
    /// Each with the time of the last event that it includes. Locked for short times only.
    known: Mutex<HashMap<RunId, (Timestamp, ListEntry)>>,
}

impl ListEntries {
    pub(crate) fn new(store: Arc<dyn Store>, content_root: PathBuf) -> Self {
        Self { store, content_root, known: Mutex::default() }
    }

    /// Returns the entry of a run. Blocks.
    pub(crate) fn entry(&self, summary: &RunSummary, pages: &PageCache) -> ListEntry {
        let has_ended = !summary.status.is_unfinished();
        if has_ended
            && let Some((at, entry)) = self.known.lock().get(&summary.run)
            && *at == summary.last_event
        {
            return entry.clone();
        }
        let read = || -> Result<ListEntry, JournalError> {
            if has_ended {
                let mut page = OpenPage::open(&*self.store, &summary.run, &self.content_root)?;
                page.update()?;
                return Ok(ListEntry::of_page(summary, &page));
            }
            // Reading continues where the last look ended.
            let page = pages.open(&summary.run)?;
            let page = page.lock();
            Ok(ListEntry::of_page(summary, &page))
        };
        let Ok(entry) = read() else { return ListEntry::unreadable(summary) };
        if has_ended {
            let mut known = self.known.lock();
            if known.len() >= MAX_ENTRIES {
                known.clear();
            }
            known.insert(summary.run.clone(), (summary.last_event, entry.clone()));
        }
        entry
    }
}
