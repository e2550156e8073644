//! The difference that a retry with another plan makes (`kapell retry --plan`).

use crate::engine::{RerunDecision, RerunPreview};
use crate::model::TaskId;
use crate::ui::text_table::{TableRow, TextTable};

/// Formats what happens to each task: those without a reason of their own share a line.
pub fn rerun_text(preview: &RerunPreview) -> String {
    let mut table = TextTable::default();
    let with = |wanted: &RerunDecision| {
        let tasks = preview.tasks.iter().filter(|(_, decision)| decision == wanted).map(|(id, _)| id);
        tasks.collect::<Vec<_>>()
    };
    push_list(&mut table, "reused", &with(&RerunDecision::Reused));
    for (id, decision) in &preview.tasks {
        let (word, reason) = match decision {
            RerunDecision::Reused | RerunDecision::New => continue,
            RerunDecision::NotRepeated => {
                ("reused", "a task before it runs again, but its call is `at_most_once` and succeeded".to_owned())
            }
            RerunDecision::Unfinished => ("again", "it has no result".to_owned()),
            RerunDecision::Requested => ("again", "as requested".to_owned()),
            RerunDecision::Changed(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                ("changed", format!("{} changed", parts.join(" and ")))
            }
            RerunDecision::After(cause) => ("again", format!("it comes after `{cause}`")),
        };
        table.push(TableRow::new([word, &format!("`{id}`: {reason}")]));
    }
    push_list(&mut table, "new", &with(&RerunDecision::New));
    push_list(&mut table, "removed", &preview.removed.iter().collect::<Vec<_>>());
    table.to_string()
}

fn push_list(table: &mut TextTable, word: &str, tasks: &[&TaskId]) {
    if !tasks.is_empty() {
        let names: Vec<String> = tasks.iter().map(|id| format!("`{id}`")).collect();
        table.push(TableRow::new([word, &names.join(", ")]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ChangedPart;

    #[test]
    fn lists_tasks_by_decision() {
        let tasks = [
            ("a", RerunDecision::Reused),
            ("b", RerunDecision::Changed(vec![ChangedPart::Call, ChangedPart::Input("topic".to_owned())])),
            ("c", RerunDecision::After("b".into())),
            ("d", RerunDecision::Reused),
            ("e", RerunDecision::Unfinished),
            ("f", RerunDecision::NotRepeated),
            ("g", RerunDecision::New),
            ("h", RerunDecision::Requested),
        ];
        let preview = RerunPreview {
            tasks: tasks.into_iter().map(|(id, decision)| (id.into(), decision)).collect(),
            removed: vec!["old".into()],
            ..RerunPreview::default()
        };
        insta::assert_snapshot!(rerun_text(&preview), @r"
        reused   `a`, `d`
        changed  `b`: its call and the input `topic` changed
        again    `c`: it comes after `b`
        again    `e`: it has no result
        reused   `f`: a task before it runs again, but its call is `at_most_once` and succeeded
        again    `h`: as requested
        new      `g`
        removed  `old`
        ");
    }
}
