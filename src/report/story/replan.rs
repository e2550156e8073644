//! Tells how the rest of a plan was planned anew: what goes, what stays, what is new.
//! Never shows a title or a reason as it came.

use std::{collections::HashMap, sync::Arc};

use super::{Line, Mark, Story, tell::line};
use crate::{
    model::{Failure, Remainder, Task, TaskId},
    report::text::{brief, task_in_words},
};

impl Story {
    pub(super) fn replan_started(&mut self, number: u32, failed: &[TaskId]) -> Vec<Line> {
        self.replanning = Some(number);
        let failed: Vec<_> = failed.iter().map(|id| format!("`{id}`")).collect();
        let text = format!("the rest is planned anew, without {}", failed.join(", "));
        vec![line(Mark::Noted, &subject(number), text)]
    }

    /// The change, before a person is asked about it.
    pub(super) fn replan_proposed(&mut self, number: u32, remainder: &Remainder) -> Vec<Line> {
        self.replanning = None;
        self.change(number, remainder)
    }

    pub(super) fn replanned(&mut self, number: u32, result: &Result<Arc<Remainder>, Failure>) -> Vec<Line> {
        // What was proposed has been told already.
        let is_new = self.replanning.take().is_some();
        match result {
            Ok(remainder) => {
                let change = if is_new { self.change(number, remainder) } else { Vec::new() };
                self.added.extend(remainder.added.iter().cloned());
                change
            }
            Err(failure) => {
                let mut reasons = failure.message.lines();
                let first = format!("nothing changes: {}", brief(reasons.next().unwrap_or_default()));
                let mut lines = vec![line(Mark::Failed, &subject(number), first)];
                lines.extend(reasons.map(|reason| line(Mark::Noted, &subject(number), brief(reason))));
                if let Some(last) = lines.last_mut() {
                    last.help = failure.help.as_deref().map(brief);
                }
                lines
            }
        }
    }

    /// A line for each task that had not started, and for each new one.
    fn change(&self, number: u32, remainder: &Remainder) -> Vec<Line> {
        let planned: HashMap<_, _> = self.planned().map(|task| (&task.id, task)).collect();
        let known = |id: &TaskId| planned.get(id).map_or_else(|| id.to_string(), |task| task_in_words(task));
        let removed = remainder.removed.iter().map(|id| format!("- {}", known(id)));
        let kept = remainder.kept.iter().map(|id| format!("  {}", known(id)));
        let added = remainder.added.iter().map(|task: &Arc<Task>| format!("+ {}", task_in_words(task)));
        let mut texts: Vec<String> = removed.chain(kept).chain(added).collect();
        if remainder.kept.is_empty() && remainder.added.is_empty() {
            texts.push("nothing is left to do".to_owned());
        }
        texts.into_iter().map(|text| line(Mark::Noted, &subject(number), text)).collect()
    }
}

fn subject(number: u32) -> String {
    format!("replan {number}")
}
