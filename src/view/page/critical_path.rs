//! The tasks without which a run would have ended earlier.

use super::row_tree::{RowEntry, RowTree};

/// Returns the indexes of the planned tasks on the critical path: the one that ended last, and before each the one that it
/// waited for longest.
pub(super) fn critical_path(rows: &RowTree) -> Vec<usize> {
    let ended = |entry: &RowEntry| entry.row.started.and(entry.row.ended);
    let roots = (0..rows.len()).filter(|index| rows.entry(*index).parent.is_none());
    let mut next = roots.filter(|index| ended(rows.entry(*index)).is_some()).max_by_key(|index| {
        // Of tasks that ended at once, the first of the plan.
        (ended(rows.entry(*index)), std::cmp::Reverse(*index))
    });
    let mut path = Vec::new();
    // A path without a cycle, as that of a valid plan, has each row once.
    while let Some(index) = next.filter(|_| path.len() < rows.len()) {
        path.push(index);
        let needs = rows.entry(index).row.needs.iter().filter_map(|need| rows.index(need));
        next = needs
            .filter(|need| ended(rows.entry(*need)).is_some())
            .max_by_key(|need| (ended(rows.entry(*need)), std::cmp::Reverse(*need)));
    }
    path
}
