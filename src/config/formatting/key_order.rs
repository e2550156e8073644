//! Sorts the keys of a plan and of its tasks.

use crate::config::schema::keys::{PLAN, TASK};
use crate::config::schema::table::{EXTENSION_PREFIX, KeySchema, TableSchema};
use crate::config::yaml::syntax_tree::{SyntaxDocument, SyntaxEntry, SyntaxKind, SyntaxNode, TriviaLine};

/// The keys of a task that come before what it does, in this order. The other keys have the order of the reference.
fn first_task_keys() -> [&'static KeySchema; 9] {
    let keys = [&TASK.id, &TASK.title, &TASK.description, &TASK.condition, &TASK.needs, &TASK.foreach, &TASK.binding];
    let [id, title, description, condition, needs, foreach, binding] = keys.map(|key| &key.schema);
    [id, title, description, condition, needs, foreach, binding, &TASK.max_parallel.schema, &TASK.approve.schema]
}

/// Sorts the keys of a plan and of its tasks. Comments move with the keys that they precede.
pub(super) fn sort_keys(document: &mut SyntaxDocument) {
    let Some(SyntaxNode { kind: SyntaxKind::Map { entries, .. }, .. }) = &mut document.root else { return };
    // The comments at the start of the file are about the whole file.
    let header = entries.first_mut().map(|first| std::mem::take(&mut first.before)).unwrap_or_default();
    let first_keys = [&PLAN.name.schema, &PLAN.description.schema];
    sort_entries(entries, &first_keys, &PLAN.table);
    if let Some(first) = entries.first_mut() {
        // Blank lines at the start of the file have no meaning.
        let own = first.before.drain(..).filter(|line| *line != TriviaLine::Blank || !header.is_empty());
        let own: Vec<TriviaLine> = own.collect();
        first.before = header.into_iter().chain(own).collect();
    }
    sort_tasks(entries);
}

/// Sorts the keys of each task in a list under `tasks`.
fn sort_tasks(entries: &mut [SyntaxEntry]) {
    for entry in entries.iter_mut().filter(|entry| entry.key.as_deref() == Some(PLAN.tasks.name)) {
        let SyntaxKind::List { entries: tasks, .. } = &mut entry.value.kind else { continue };
        for task in tasks {
            if let SyntaxKind::Map { entries, .. } = &mut task.value.kind {
                sort_entries(entries, &first_task_keys(), &TASK.table);
                sort_tasks(entries);
            }
        }
    }
}

fn sort_entries(entries: &mut [SyntaxEntry], first_keys: &[&'static KeySchema], table: &'static TableSchema) {
    let rank = |entry: &SyntaxEntry| {
        let name = entry.key.as_deref().unwrap_or_default();
        let is_named = |key: &&KeySchema| key.names().any(|known| known == name);
        if let Some(index) = first_keys.iter().position(&is_named) {
            return (0, index);
        }
        // What others refer to comes first.
        if name.starts_with(EXTENSION_PREFIX) {
            return (1, 0);
        }
        table.keys.iter().position(&is_named).map_or((3, 0), |index| (2, index))
    };
    if entries.is_sorted_by_key(rank) {
        return;
    }
    // A blank line says something about the entry before it, which may be another one then.
    for entry in entries.iter_mut() {
        let blanks = entry.before.iter().take_while(|line| **line == TriviaLine::Blank).count();
        entry.before.drain(..blanks);
    }
    entries.sort_by_key(rank);
}
