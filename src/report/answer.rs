//! Shows the answer of a synthesis on a terminal while a model writes it.
//! Never shows a word of it twice, and never lets text stand that was withdrawn without saying so.

use std::sync::Arc;

use super::{
    Reporter,
    screen::{OpenAnswer, Screen},
    text::{brief, printable_after},
};
use crate::{
    model::{AttemptId, ChatMessage, Event, Outcome, Record, RunStatus, TaskId},
    synthesizer::answer::problems,
};

/// The answer, as far as it is written.
#[derive(Debug)]
pub struct LiveAnswer {
    screen: Screen,
    /// The synthesis.
    task: TaskId,
    /// While text is on the terminal that is not ended.
    open: Option<OpenAnswer>,
    /// What the model wrote in this turn, as it came.
    text: String,
    /// How many bytes of `text` are shown. Space at its end waits for what follows it.
    shown: usize,
    progress: Shown,
}

/// How much of an answer is on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing that stands.
    Nothing,
    /// All of it, as it was checked, with what the check found.
    All,
}

impl LiveAnswer {
    /// Shows what the task `task` writes, on the standard output of `screen`, which must be a terminal.
    pub fn new(screen: Screen, task: TaskId) -> Self {
        Self { screen, task, open: None, text: String::new(), shown: 0, progress: Shown::Nothing }
    }

    /// Returns how much was shown, once the run has ended and the screen is flushed.
    pub fn shown(&self) -> Shown {
        if self.screen.has_failed() { Shown::Nothing } else { self.progress }
    }

    /// Goes on with the text.
    fn add(&mut self, more: &str) {
        self.text.push_str(more);
        let end = self.text.trim_end().len();
        if end <= self.shown {
            return;
        }
        let open = self.open.get_or_insert_with(|| {
            let open = self.screen.answer();
            // Apart from the talk before it.
            open.write("\n");
            open
        });
        open.write(&printable_after(&self.text[..self.shown], &self.text[self.shown..end]));
        self.shown = end;
    }

    /// Ends the text with a note, if there is any; what follows is another one.
    fn withdraw(&mut self, note: &str) {
        if let Some(open) = self.open.take() {
            open.write(&format!("\n\n({note})\n"));
        }
        self.text.clear();
        self.shown = 0;
    }

    /// Ends with the answer as it was checked.
    fn complete(&mut self, answer: &str) {
        match answer.strip_prefix(self.text.as_str()).map(str::to_owned) {
            Some(rest) => self.add(&rest),
            None => {
                self.withdraw("the answer in its final form:");
                self.add(answer);
            }
        }
        if let Some(open) = self.open.take() {
            open.write("\n\n");
        }
        self.progress = Shown::All;
    }
}

impl Reporter for LiveAnswer {
    fn report(&mut self, records: &[Record]) {
        for record in records {
            match &record.event {
                Event::ModelAsked { attempt, messages, repair: true, .. } if attempt.task == self.task => {
                    self.withdraw(&format!("the answer is written again: {}", reason(messages)));
                }
                Event::ModelAsked { attempt, retry: true, .. } if attempt.task == self.task => {
                    self.withdraw("the reply broke off; the answer is written again");
                }
                Event::TaskEnded { task, outcome: Outcome::Succeeded(output) } if *task == self.task => {
                    self.complete(&output.text());
                }
                Event::TaskEnded { task, .. } if *task == self.task => self.withdraw("the answer breaks off here"),
                // It is written again when the run is resumed.
                Event::RunEnded { status: RunStatus::Interrupted, .. } => self.withdraw("the answer breaks off here"),
                _ => {}
            }
        }
    }

    fn hear(&mut self, turn: &AttemptId, text: &str) {
        if turn.task == self.task {
            self.add(text);
        }
    }
}

/// Why another answer was asked for, in a line.
fn reason(messages: &[Arc<ChatMessage>]) -> String {
    let asked = messages.last().map(|message| message.all_text()).unwrap_or_default();
    brief(problems(&asked).unwrap_or("it could not be used"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{Block, ChatRole, Failure, FailureKind, Timestamp, ToolOutput},
        report::screen::{Abilities, memory::Memory},
        synthesizer::answer::complaint,
    };

    /// What happens to an answer.
    enum Step {
        Heard(&'static str),
        Told(Event),
    }

    use Step::{Heard, Told};

    fn turn(number: u32) -> AttemptId {
        AttemptId { task: "answer".into(), number }
    }

    fn asked_again(request: &str) -> Step {
        let messages = vec![ChatMessage::text(ChatRole::User, request).into()];
        Told(Event::ModelAsked {
            attempt: turn(2),
            messages,
            repair: true,
            most_tokens: 0,
            retry: false,
            deadline: None,
        })
    }

    fn ended(texts: &[&str]) -> Step {
        let content = texts.iter().map(|text| Block::Text((*text).into())).collect();
        let output = Arc::new(ToolOutput { content, structured: None, warning: None });
        Told(Event::TaskEnded { task: "answer".into(), outcome: Outcome::Succeeded(output) })
    }

    fn failed() -> Step {
        let failure = Failure::new(FailureKind::ModelFailed, "the endpoint is away");
        Told(Event::TaskEnded { task: "answer".into(), outcome: Outcome::Failed(failure) })
    }

    /// What a terminal shows of these steps and a line of talk after each, and how much of the answer that is.
    fn shown(steps: Vec<Step>) -> (String, Shown) {
        let memory = Memory::default();
        let screen = Screen::over(memory.clone(), Abilities { live: false, colour: false }).expect("a thread");
        let mut answer = LiveAnswer::new(screen.clone(), "answer".into());
        for step in steps {
            match step {
                Heard(text) => answer.hear(&turn(1), text),
                Told(event) => answer.report(&[Record { seq: 0, at: Timestamp(0), event }]),
            }
            screen.println("·");
        }
        let shown = answer.shown();
        drop((answer, screen));
        (memory.text(), shown)
    }

    #[test]
    fn appears_piece_by_piece_and_once() {
        let (text, all) = shown(vec![
            Heard("It is "),
            Heard("green"),
            Heard(" [a].\n\n"),
            Heard("So be it.\n"),
            ended(&["It is green [a].\n\nSo be it.\n"]),
        ]);
        assert_eq!((text.as_str(), all), ("\nIt is green [a].\n\nSo be it.\n\n·\n·\n·\n·\n·\n", Shown::All));
    }

    #[test]
    fn what_the_check_found_follows_the_answer() {
        let (text, all) = shown(vec![Heard("Green."), ended(&["Green.", "\n\n(Not verified: it cites no task.)"])]);
        assert_eq!((text.as_str(), all), ("\nGreen.\n\n\n(Not verified: it cites no task.)\n\n·\n·\n", Shown::All));
    }

    #[test]
    fn an_answer_that_is_withdrawn_says_so_and_why() {
        let (text, all) = shown(vec![
            Heard("Green."),
            asked_again(&complaint("it cites [\x1b[2J], and there is no such task")),
            Heard("Green [a]."),
            ended(&["Green [a]."]),
        ]);
        let expected = "\nGreen.\n\n\
            (the answer is written again: it cites [\\u{1b}[2J], and there is no such task)\n·\n·\n\
            \nGreen [a].\n\n·\n·\n";
        assert_eq!((text.as_str(), all), (expected, Shown::All));
    }

    #[test]
    fn an_answer_that_fails_half_way_says_that_it_ends_there() {
        let (text, all) = shown(vec![Heard("Green, be"), failed()]);
        assert_eq!((text.as_str(), all), ("\nGreen, be\n\n(the answer breaks off here)\n·\n·\n", Shown::Nothing));
        assert_eq!(shown(vec![failed()]), ("·\n".to_owned(), Shown::Nothing));
    }

    #[test]
    fn an_answer_that_nobody_heard_is_shown_when_it_is_there() {
        assert_eq!(shown(vec![ended(&["Green."])]), ("\nGreen.\n\n·\n".to_owned(), Shown::All));
    }

    #[test]
    fn an_answer_that_is_not_what_was_heard_replaces_it() {
        let (text, _) = shown(vec![Heard("Green. END"), ended(&["Green."])]);
        assert_eq!(text, "\nGreen. END\n\n(the answer in its final form:)\n·\n\nGreen.\n\n·\n");
    }

    #[test]
    fn nothing_that_commands_the_terminal_reaches_it_in_one_piece_or_two() {
        let (text, _) =
            shown(vec![Heard("a\x1b"), Heard("[2Jb\r"), Heard("\nc\u{9b}31m"), ended(&["a\x1b[2Jb\r\nc\u{9b}31m"])]);
        assert_eq!(text, "\na\\u{1b}[2Jb\nc\\u{9b}31m\n\n·\n·\n·\n·\n");
    }
}
