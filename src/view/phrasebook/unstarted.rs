//! Sums the tasks that never started, so that one failure does not fill a screen.

use crate::model::Timestamp;
use crate::view::report_line::{LineKind, ReportLine};

/// The maximum number of tasks with the same outcome that have a line each.
const MAX_LINES: usize = 3;

/// Replaces many lines about tasks that never started by one line for each outcome, at the place of the first.
pub fn sum_unstarted(lines: Vec<(Timestamp, ReportLine)>) -> Vec<(Timestamp, ReportLine)> {
    let mut summed = lines;
    for kind in [LineKind::Skipped, LineKind::Cancelled] {
        let is_unstarted = |line: &ReportLine| line.kind == kind && (kind == LineKind::Skipped || line.text.is_empty());
        let tasks: Vec<String> =
            summed.iter().filter(|(_, line)| is_unstarted(line)).map(|(_, line)| line.subject.clone()).collect();
        if tasks.len() <= MAX_LINES {
            continue;
        }
        let what = if tasks.iter().any(|task| task.ends_with(']')) { "tasks and items" } else { "tasks" };
        let subject = format!("{} {what}", tasks.len());
        let text = format!("{}, and {} more", tasks[..MAX_LINES].join(", "), tasks.len() - MAX_LINES);
        let mut sum = Some(ReportLine::new(kind, &subject, text));
        summed = summed
            .into_iter()
            .filter_map(|(at, line)| if is_unstarted(&line) { Some((at, sum.take()?)) } else { Some((at, line)) })
            .collect();
    }
    summed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: LineKind, subject: &str, text: &str) -> (Timestamp, ReportLine) {
        (Timestamp(0), ReportLine::new(kind, subject, text))
    }

    fn texts(lines: Vec<(Timestamp, ReportLine)>) -> Vec<String> {
        sum_unstarted(lines).iter().map(|(_, line)| line.to_string()).collect()
    }

    #[test]
    fn many_unstarted_tasks_are_summed() {
        let skipped = |n: usize| line(LineKind::Skipped, &format!("t{n}"), "it needs `find`, which failed");
        let mut lines = vec![line(LineKind::Failed, "find", "no such page")];
        lines.extend((0..40).map(skipped));
        lines.extend((0..2).map(|n| line(LineKind::Cancelled, &format!("read[{n}]"), "")));
        lines.push(line(LineKind::Cancelled, "post", "archive.post, 1.2s"));
        assert_eq!(
            texts(lines),
            [
                "find: failed: no such page",
                "40 tasks: skipped: t0, t1, t2, and 37 more",
                "read[0]: cancelled",
                "read[1]: cancelled",
                "post: cancelled: archive.post, 1.2s",
            ]
        );
    }

    #[test]
    fn few_unstarted_tasks_keep_their_reasons() {
        let lines: Vec<_> =
            (0..3).map(|n| line(LineKind::Skipped, &format!("t{n}"), "its condition is false")).collect();
        assert_eq!(texts(lines)[2], "t2: skipped: its condition is false");
    }
}
