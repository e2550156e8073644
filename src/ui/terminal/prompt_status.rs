//! The status line of a prompt: what else waits, and the time that is left.

use std::sync::Arc;
use std::time::Duration;

use owo_colors::OwoColorize;
use parking_lot::Mutex;

use super::screen::PromptStatus;
use crate::model::{DefaultAnswer, QuestionDeadline, Timestamp};
use crate::system::clock;
use crate::view::text::truncated;

/// The maximum number of waiting questions that are named.
const MAX_NAMES: usize = 3;

/// The questions that wait while another one is on the screen.
#[derive(Debug, Default)]
pub(super) struct WaitingQuestions {
    /// Held briefly, and never while asking.
    names: Mutex<Vec<(u64, String)>>,
}

/// A question that waits until this is dropped.
pub(super) struct WaitingQuestion {
    list: Arc<WaitingQuestions>,
    number: u64,
}

impl WaitingQuestions {
    /// Adds a question.
    pub(super) fn add(self: &Arc<Self>, name: &str) -> WaitingQuestion {
        let mut names = self.names.lock();
        let number = names.last().map_or(0, |(number, _)| number + 1);
        names.push((number, truncated(name)));
        WaitingQuestion { list: Arc::clone(self), number }
    }

    /// Describes the questions that wait: `2 more questions wait: \`trip\`, \`hotel\``.
    fn describe(&self) -> Option<String> {
        let names = self.names.lock();
        let count = match names.len() {
            0 => return None,
            1 => "1 more question waits".to_owned(),
            count => format!("{count} more questions wait"),
        };
        let mut named: Vec<_> = names.iter().take(MAX_NAMES).map(|(_, name)| format!("`{name}`")).collect();
        if names.len() > MAX_NAMES {
            named.push("…".to_owned());
        }
        Some(format!("{count}: {}", named.join(", ")))
    }
}

impl Drop for WaitingQuestion {
    fn drop(&mut self) {
        self.list.names.lock().retain(|(number, _)| *number != self.number);
    }
}

/// Returns the status of a question with this deadline.
pub(super) fn prompt_status(waiting: Arc<WaitingQuestions>, deadline: Option<QuestionDeadline>) -> PromptStatus {
    Arc::new(move || {
        let now = Timestamp::default().after(clock::since_epoch());
        let parts: Vec<_> = waiting.describe().into_iter().chain(deadline.map(|at| countdown(at, now))).collect();
        if parts.is_empty() { Vec::new() } else { vec![format!("  {}", parts.join(" · ").dimmed())] }
    })
}

/// Describes the answer that a question gets at its deadline: `declines in 2m 10s`.
fn countdown(deadline: QuestionDeadline, now: Timestamp) -> String {
    let action = match deadline.default {
        DefaultAnswer::Accept => "accepts",
        DefaultAnswer::Decline => "declines",
        DefaultAnswer::Cancel => "is dismissed",
    };
    // Rounded up, so that zero means that the time is over.
    let remaining = deadline.at.since(now) + Duration::from_millis(999);
    let (seconds, minutes, hours) =
        (remaining.as_secs() % 60, remaining.as_secs() / 60 % 60, remaining.as_secs() / 3_600);
    let time = match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds:02}s"),
        _ => format!("{hours}h {minutes:02}m"),
    };
    format!("{action} in {time}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_questions_that_wait() {
        let waiting = Arc::<WaitingQuestions>::default();
        assert_eq!(waiting.describe(), None);
        let first = waiting.add("trip");
        assert_eq!(waiting.describe().as_deref(), Some("1 more question waits: `trip`"));
        let _others = ["b", "c", "d"].map(|name| waiting.add(name));
        assert_eq!(waiting.describe().as_deref(), Some("4 more questions wait: `trip`, `b`, `c`, …"));
        drop(first);
        let _again = waiting.add("e");
        assert_eq!(waiting.describe().as_deref(), Some("4 more questions wait: `b`, `c`, `d`, …"));
    }

    #[test]
    fn counts_down() {
        let at = |at: u64, default| QuestionDeadline { at: Timestamp(at), default };
        for (deadline, shown) in [
            (at(130_000, DefaultAnswer::Decline), "declines in 2m 10s"),
            (at(4_500, DefaultAnswer::Accept), "accepts in 5s"),
            (at(3_900_000, DefaultAnswer::Cancel), "is dismissed in 1h 05m"),
        ] {
            assert_eq!(countdown(deadline, Timestamp(0)), shown);
        }
        assert_eq!(countdown(at(5, DefaultAnswer::Decline), Timestamp(10_000)), "declines in 0s");
    }
}
