//! The rows of a run with their connections, and the number of rows in each state.

use std::sync::Arc;

use super::segments::Segments;
use super::task_row::{RowCounts, RowKind, RowState, TaskRow};
use crate::model::{AgentId, IdMap, QuestionId, Task, TaskId, Timestamp};

/// What is known of a row when it is added.
#[derive(Debug, Clone)]
pub(super) struct NewRow {
    pub(super) id: TaskId,
    pub(super) name: String,
    pub(super) kind: RowKind,
    /// The definition of the task that it is, or is an item of; absent for a call of a prompt.
    pub(super) definition: Option<Arc<Task>>,
    pub(super) route: Option<(AgentId, Arc<str>)>,
}

/// A row and its connections, which are indexes of other rows.
#[derive(Debug, Clone)]
pub(super) struct RowEntry {
    pub(super) row: TaskRow,
    pub(super) definition: Option<Arc<Task>>,
    /// The only route that it has.
    pub(super) route: Option<(AgentId, Arc<str>)>,
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
    pub(super) child_counts: RowCounts,
    pub(super) dependents: Vec<usize>,
    /// The number of rows that must end before it can start.
    pub(super) unmet_needs: usize,
    pub(super) has_ended: bool,
    pub(super) segments: Segments,
    pub(super) open_questions: Vec<QuestionId>,
    /// Set if it is one of the rows that the run counts.
    is_counted: bool,
    /// The event that changed it last.
    pub(super) changed: u64,
}

impl RowEntry {
    /// Returns whether it starts as soon as nothing remains that it waits for.
    pub(super) fn starts_by_itself(&self) -> bool {
        let is_last = self.row.kind == RowKind::Synthesis && self.row.needs.is_empty();
        self.row.kind != RowKind::Hook && !is_last
    }

    fn new(new: NewRow, parent: Option<&TaskId>) -> Self {
        let NewRow { id, name, kind, definition, route } = new;
        let row = TaskRow {
            id,
            parent: parent.cloned(),
            name,
            kind,
            state: RowState::Waiting,
            agent: None,
            tool: None,
            attempts: 0,
            started: None,
            ended: None,
            retry_at: None,
            segments: Vec::new(),
            progress: None,
            error: None,
            reason: None,
            needs: Arc::default(),
            children: None,
            is_critical: false,
            is_reused: false,
            cost_usd: None,
            tokens: None,
            question: None,
            effect: None,
        };
        Self {
            row,
            definition,
            route,
            parent: None,
            children: Vec::new(),
            child_counts: RowCounts::default(),
            dependents: Vec::new(),
            unmet_needs: 0,
            has_ended: false,
            segments: Segments::default(),
            open_questions: Vec::new(),
            is_counted: false,
            changed: 0,
        }
    }
}

/// All rows, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub(super) struct RowTree {
    rows: IdMap<TaskId, RowEntry>,
    /// The number of rows without parts, apart from the calls of prompts, and from tasks that no one wrote as work.
    pub(super) counts: RowCounts,
}

impl RowTree {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn index(&self, id: &TaskId) -> Option<usize> {
        self.rows.get_index_of(id)
    }

    pub(super) fn entry(&self, index: usize) -> &RowEntry {
        &self.rows[index]
    }

    pub(super) fn entry_mut(&mut self, index: usize) -> &mut RowEntry {
        &mut self.rows[index]
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &RowEntry> {
        self.rows.values()
    }

    /// Adds a row, and returns its index. A row that exists already is kept.
    pub(super) fn add(&mut self, new: NewRow, parent: Option<usize>) -> usize {
        if let Some(index) = self.index(&new.id) {
            return index;
        }
        let mut entry = RowEntry::new(new, parent.map(|parent| &self.rows[parent].row.id));
        entry.parent = parent;
        let is_call = entry.definition.is_none();
        let is_side_task = matches!(entry.row.kind, RowKind::Synthesis | RowKind::Hook)
            || entry.row.id.is_resource_read()
            || parent.is_some_and(|parent| self.rows[parent].row.kind == RowKind::Hook);
        entry.is_counted = !is_call && !is_side_task;
        if entry.is_counted {
            self.counts.add(RowState::Waiting);
        }
        let index = self.rows.len();
        self.rows.insert(entry.row.id.clone(), entry);
        if let Some(parent) = parent {
            let parent = &mut self.rows[parent];
            parent.children.push(index);
            parent.child_counts.add(RowState::Waiting);
            if parent.is_counted && !is_call {
                // Its parts are counted in its place.
                parent.is_counted = false;
                self.counts.remove(parent.row.state);
            }
        }
        index
    }

    /// Connects a row with those that it waits for.
    pub(super) fn connect(&mut self, index: usize, needs: Vec<TaskId>) {
        let indexes: Vec<usize> = needs.iter().filter_map(|need| self.index(need)).collect();
        for need in indexes {
            let needed = &mut self.rows[need];
            needed.dependents.push(index);
            let is_open = !needed.has_ended;
            self.rows[index].unmet_needs += usize::from(is_open);
        }
        self.rows[index].row.needs = needs.into();
    }

    /// Replaces the contents of a row. Returns whether they differ.
    pub(super) fn replace(&mut self, index: usize, row: TaskRow, seq: u64) -> bool {
        let entry = &mut self.rows[index];
        if entry.row == row {
            return false;
        }
        let (before, now) = (entry.row.state, row.state);
        entry.row = row;
        entry.changed = seq;
        let (is_counted, parent) = (entry.is_counted, entry.parent);
        if is_counted {
            self.counts.remove(before);
            self.counts.add(now);
        }
        if let Some(parent) = parent {
            let counts = &mut self.rows[parent].child_counts;
            counts.remove(before);
            counts.add(now);
        }
        true
    }

    /// Returns the indexes in the order in which rows are shown: each before its parts, and a synthesis last.
    pub(super) fn shown_order(&self) -> Vec<usize> {
        let roots = (0..self.rows.len()).filter(|index| self.rows[*index].parent.is_none());
        let (last, first): (Vec<usize>, Vec<usize>) =
            roots.partition(|index| self.rows[*index].row.kind == RowKind::Synthesis);
        let mut open: Vec<usize> = first.into_iter().chain(last).rev().collect();
        let mut order = Vec::with_capacity(self.rows.len());
        while let Some(index) = open.pop() {
            order.push(index);
            open.extend(self.rows[index].children.iter().rev());
        }
        order
    }
}

/// An event that is being applied.
pub(super) struct RowStep {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    /// The time of the event before.
    pub(super) before: Timestamp,
    pub(super) touched: Vec<usize>,
}

impl RowStep {
    pub(super) fn touch(&mut self, index: usize) {
        self.touched.push(index);
    }
}
