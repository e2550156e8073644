//! Shows the answer of a synthesis on a terminal while a model writes it.
//! No text is shown twice, and withdrawn text is always marked.

use std::sync::Arc;

use super::reporter::Reporter;
use crate::engine::synthesis::answer::parse_repair_request;
use crate::model::{AttemptId, ChatMessage, Event, Outcome, Record, RunStatus, TaskId};
use crate::ui::terminal::screen::{OpenAnswer, Screen};
use crate::view::RunView;
use crate::view::text::{printable_after, truncated};

/// A reporter that shows the answer as it is written.
#[derive(Debug)]
pub struct LiveAnswer {
    screen: Screen,
    /// The task of the synthesis.
    task: TaskId,
    /// Set while the terminal shows unfinished text.
    open_answer: Option<OpenAnswer>,
    /// The text of the current exchange, unescaped.
    text: String,
    /// The number of bytes of `text` that are shown. Trailing whitespace waits for more text.
    shown_bytes: usize,
    displayed: DisplayedAnswer,
}

/// The part of an answer that is on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisplayedAnswer {
    /// No valid text.
    Nothing,
    /// The complete, validated answer, including the diagnostics of the validation.
    Complete,
}

impl LiveAnswer {
    /// Shows the text of the task `task` on the standard output of `screen`, which must be a terminal.
    pub fn new(screen: Screen, task: TaskId) -> Self {
        Self {
            screen,
            task,
            open_answer: None,
            text: String::new(),
            shown_bytes: 0,
            displayed: DisplayedAnswer::Nothing,
        }
    }

    /// Returns how much was shown. Call it after the run has ended and the screen is flushed.
    pub fn displayed(&self) -> DisplayedAnswer {
        if self.screen.has_failed() { DisplayedAnswer::Nothing } else { self.displayed }
    }

    /// Appends text.
    fn add(&mut self, more: &str) {
        self.text.push_str(more);
        let end = self.text.trim_end().len();
        if end <= self.shown_bytes {
            return;
        }
        let open = self.open_answer.get_or_insert_with(|| {
            let open = self.screen.answer();
            // Separates the answer from the progress lines before it.
            open.write("\n");
            open
        });
        open.write(&printable_after(&self.text[..self.shown_bytes], &self.text[self.shown_bytes..end]));
        self.shown_bytes = end;
    }

    /// Ends the text, if any, with the reason. Later text starts over.
    fn withdraw(&mut self, reason: &str) {
        if let Some(open) = self.open_answer.take() {
            open.write(&format!("\n\n({reason})\n"));
        }
        self.text.clear();
        self.shown_bytes = 0;
    }

    /// Ends with the validated answer.
    fn complete(&mut self, answer: &str) {
        match answer.strip_prefix(self.text.as_str()).map(str::to_owned) {
            Some(rest) => self.add(&rest),
            None => {
                self.withdraw("the answer in its final form:");
                self.add(answer);
            }
        }
        if let Some(open) = self.open_answer.take() {
            open.write("\n\n");
        }
        self.displayed = DisplayedAnswer::Complete;
    }
}

impl Reporter for LiveAnswer {
    fn report(&mut self, _: &RunView, record: &Record) {
        match &record.event {
            Event::ModelRequested { attempt, messages, repair: true, .. } if attempt.task == self.task => {
                self.withdraw(&format!("the answer is rewritten: {}", retry_reason(messages)));
            }
            Event::ModelRequested { attempt, retry: true, .. } if attempt.task == self.task => {
                self.withdraw("the reply was interrupted; the answer is rewritten");
            }
            Event::TaskEnded { task, outcome: Outcome::Succeeded(output) } if *task == self.task => {
                self.complete(&output.text());
            }
            Event::TaskEnded { task, .. } if *task == self.task => self.withdraw("the answer was interrupted here"),
            // The answer is written again when the run is resumed.
            Event::RunEnded { status: RunStatus::Interrupted, .. } => self.withdraw("the answer was interrupted here"),
            _ => {}
        }
    }

    fn report_delta(&mut self, attempt: &AttemptId, text: &str) {
        if attempt.task == self.task {
            self.add(text);
        }
    }
}

/// Returns, in one line, the reason that another answer was requested.
fn retry_reason(messages: &[Arc<ChatMessage>]) -> String {
    let asked = messages.last().map(|message| message.text_content()).unwrap_or_default();
    truncated(parse_repair_request(&asked).unwrap_or("it was not valid"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::synthesis::answer::repair_request;
    use crate::model::{ChatRole, ContentBlock, Failure, FailureKind, Timestamp, ToolOutput};
    use crate::ui::reporters::reporter::report_batch;
    use crate::ui::terminal::screen::ScreenCapabilities;
    use crate::ui::terminal::screen::memory::MemoryDevice;

    /// A step of an answer in a test.
    enum AnswerStep {
        Delta(&'static str),
        Recorded(Event),
    }

    use AnswerStep::{Delta, Recorded};

    fn test_attempt(number: u32) -> AttemptId {
        AttemptId { task: "answer".into(), number }
    }

    fn retry_requested(request: &str) -> AnswerStep {
        let messages = vec![ChatMessage::text(ChatRole::User, request).into()];
        Recorded(Event::ModelRequested {
            attempt: test_attempt(2),
            messages,
            repair: true,
            estimated_tokens: 0,
            retry: false,
            deadline: None,
        })
    }

    fn attempt_succeeded(texts: &[&str]) -> AnswerStep {
        let content = texts.iter().map(|text| ContentBlock::Text((*text).into())).collect();
        let output = Arc::new(ToolOutput { content, ..ToolOutput::default() });
        Recorded(Event::TaskEnded { task: "answer".into(), outcome: Outcome::Succeeded(output) })
    }

    fn attempt_failed() -> AnswerStep {
        let failure = Failure::new(FailureKind::ModelFailed, "the endpoint is away");
        Recorded(Event::TaskEnded { task: "answer".into(), outcome: Outcome::Failed(failure) })
    }

    /// Returns the terminal output of these steps with a progress line after each, and the part of the answer that is
    /// shown.
    fn display_of(steps: Vec<AnswerStep>) -> (String, DisplayedAnswer) {
        let memory = MemoryDevice::default();
        let screen =
            Screen::with_device(memory.clone(), ScreenCapabilities { live: false, color: false }).expect("a thread");
        let mut answer = LiveAnswer::new(screen.clone(), "answer".into());
        for step in steps {
            match step {
                Delta(text) => answer.report_delta(&test_attempt(1), text),
                Recorded(event) => report_batch(&mut answer, &[Record { seq: 0, at: Timestamp(0), event }]),
            }
            screen.println("·");
        }
        let shown = answer.displayed();
        drop((answer, screen));
        (memory.text(), shown)
    }

    #[test]
    fn appears_incrementally_and_once() {
        let (text, all) = display_of(vec![
            Delta("It is "),
            Delta("green"),
            Delta(" [a].\n\n"),
            Delta("So be it.\n"),
            attempt_succeeded(&["It is green [a].\n\nSo be it.\n"]),
        ]);
        assert_eq!(
            (text.as_str(), all),
            ("\nIt is green [a].\n\nSo be it.\n\n·\n·\n·\n·\n·\n", DisplayedAnswer::Complete)
        );
    }

    #[test]
    fn check_results_appear_below_the_answer() {
        let (text, all) =
            display_of(vec![Delta("Green."), attempt_succeeded(&["Green.", "\n\n(Not verified: it cites no task.)"])]);
        assert_eq!(
            (text.as_str(), all),
            ("\nGreen.\n\n\n(Not verified: it cites no task.)\n\n·\n·\n", DisplayedAnswer::Complete)
        );
    }

    #[test]
    fn withdrawn_answer_states_the_reason() {
        let (text, all) = display_of(vec![
            Delta("Green."),
            retry_requested(&repair_request("it cites [\x1b[2J], and there is no such task")),
            Delta("Green [a]."),
            attempt_succeeded(&["Green [a]."]),
        ]);
        let expected = "\nGreen.\n\n\
            (the answer is rewritten: it cites [\\u{1b}[2J], and there is no such task)\n·\n·\n\
            \nGreen [a].\n\n·\n·\n";
        assert_eq!((text.as_str(), all), (expected, DisplayedAnswer::Complete));
    }

    #[test]
    fn failed_answer_is_marked_incomplete() {
        let (text, all) = display_of(vec![Delta("Green, be"), attempt_failed()]);
        assert_eq!(
            (text.as_str(), all),
            ("\nGreen, be\n\n(the answer was interrupted here)\n·\n·\n", DisplayedAnswer::Nothing)
        );
        assert_eq!(display_of(vec![attempt_failed()]), ("·\n".to_owned(), DisplayedAnswer::Nothing));
    }

    #[test]
    fn answer_without_deltas_is_shown_at_the_end() {
        assert_eq!(
            display_of(vec![attempt_succeeded(&["Green."])]),
            ("\nGreen.\n\n·\n".to_owned(), DisplayedAnswer::Complete)
        );
    }

    #[test]
    fn final_answer_replaces_different_deltas() {
        let (text, _) = display_of(vec![Delta("Green. END"), attempt_succeeded(&["Green."])]);
        assert_eq!(text, "\nGreen. END\n\n(the answer in its final form:)\n·\n\nGreen.\n\n·\n");
    }

    #[test]
    fn escapes_split_across_deltas_are_removed() {
        let (text, _) = display_of(vec![
            Delta("a\x1b"),
            Delta("[2Jb\r"),
            Delta("\nc\u{9b}31m"),
            attempt_succeeded(&["a\x1b[2Jb\r\nc\u{9b}31m"]),
        ]);
        assert_eq!(text, "\na\\u{1b}[2Jb\nc\\u{9b}31m\n\n·\n·\n·\n·\n");
    }
}
