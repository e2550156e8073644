//! Asks a person at the terminal, one question at a time.
//! Text of agents is always escaped, and a page is opened only with consent.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use owo_colors::OwoColorize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::approval::Yes;
use super::controlling_terminal::{open_terminal, screen_for};
use super::dialogue::{Dialogue, DialogueExit};
use super::key_reader::KeyReader;
use super::keyboard::Keyboard;
use super::line_editor::LineHistory;
use super::line_reader::LineReader;
use super::prompt_status::{WaitingQuestions, prompt_status};
use super::screen::Screen;
use super::text_editor::TextEditor;
use crate::model::{Answer, Asker, Form, JsonObject, Question, QuestionDeadline, RunId};
use crate::ui::forms::form::FormSchema;
use crate::ui::forms::form_prompt::{asker_name, call_lines};
use crate::ui::forms::url_prompt::Browser;
use crate::ui::human::{Human, HumanResponse, PlanReview, ReviewDecision, default_response};
use crate::view::text::{printable_lines, truncated};

/// The name of this answer source in the journal.
const ANSWERED_BY: &str = "person at terminal";

/// The reason that a question stays open after the person has ended the input.
const UNANSWERED: &str = "the person at the terminal did not answer";

/// The reason that a question is not answered after the terminal was closed.
const CLOSED: &str = "the terminal is closed";

/// The reason that a question is not answered after a panic of the screen thread.
const FAILED: &str = "the question cannot be shown after an internal error (this is a bug in kapell)";

/// A prompter for a person at the terminal, which shows questions on the screen.
pub struct TerminalPrompter {
    screen: Screen,
    run: RunId,
    keyboard: Keyboard,
    browser: Browser,
    editor: Option<TextEditor>,
    waiting: Arc<WaitingQuestions>,
    /// Held by the question on the screen; other questions queue here.
    prompt_lock: Mutex<LineHistory>,
}

impl TerminalPrompter {
    /// Opens a prompter for `run` on the controlling terminal. Uses `screen` if that is on the same terminal. Returns
    /// `None` without a terminal: piped input is data, and never an answer.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn open(screen: Screen, run: RunId) -> io::Result<Option<Self>> {
        let Some(terminal) = open_terminal() else { return Ok(None) };
        let screen = screen_for(&terminal, screen)?;
        let keyboard = if screen.capabilities().live {
            Keyboard::Keys(KeyReader::start(terminal, screen.clone())?)
        } else {
            Keyboard::Lines(LineReader::from_terminal(terminal)?)
        };
        Ok(Some(Self { editor: TextEditor::from_environment(), ..Self::new(screen, run, keyboard) }))
    }

    fn new(screen: Screen, run: RunId, keyboard: Keyboard) -> Self {
        let browser = Browser::default();
        Self { screen, run, keyboard, browser, editor: None, waiting: Arc::default(), prompt_lock: Mutex::default() }
    }

    /// Opens a dialogue with this heading, once no other question is on the screen.
    async fn open_dialogue(&self, subject: &Subject<'_>) -> Dialogue<'_> {
        let waits = self.waiting.add(&subject.name);
        let history = self.prompt_lock.lock().await;
        drop(waits);
        self.keyboard.open();
        let prompt = self.screen.prompt();
        if self.keyboard.is_terminal() {
            prompt.ring();
        }
        let heading = truncated(&subject.heading);
        prompt.write_lines([format!("{} {} (run {}):", "?".cyan(), heading.bold(), self.run.short())]);
        prompt.write_lines(subject.lines.iter().map(|line| format!("  {line}")));
        prompt.show_status(prompt_status(Arc::clone(&self.waiting), subject.deadline));
        Dialogue::new(prompt, &self.keyboard, history, self.editor.as_ref())
    }

    /// Explains the effect of the end of the input.
    fn explain_end_of_input(&self, dialogue: &Dialogue<'_>, question: &Question) {
        match question.asker {
            Asker::Agent(_) => dialogue.print("Ctrl-D: declined"),
            _ => dialogue.print(&format!(
                "Ctrl-D: left open; `kapell questions {}` shows the command that answers it",
                self.run.short()
            )),
        }
    }
}

/// What a dialogue is about.
struct Subject<'a> {
    /// A short name, for the list of what waits.
    name: Cow<'a, str>,
    heading: Cow<'a, str>,
    /// Printable lines below the heading.
    lines: Vec<String>,
    deadline: Option<QuestionDeadline>,
}

impl<'a> Subject<'a> {
    fn of_question(question: &'a Question) -> Self {
        let name = match (question.asker.task(), question.asker.agent()) {
            (Some(task), _) => task.as_str().into(),
            (None, Some(agent)) => agent.as_str().into(),
            (None, None) => question.id.as_str().into(),
        };
        let lines = printable_lines(&question.message).map(Cow::into_owned).chain(call_lines(question)).collect();
        Self { name, heading: asker_name(question).into(), lines, deadline: question.deadline }
    }

    fn of_host(heading: &'a str) -> Self {
        Self { name: heading.into(), heading: heading.into(), lines: Vec::new(), deadline: None }
    }
}

#[async_trait::async_trait]
impl Human for TerminalPrompter {
    async fn ask(&self, question: &Question) -> HumanResponse {
        let mut dialogue = self.open_dialogue(&Subject::of_question(question)).await;
        let result = match &question.form {
            Form::Approval => match dialogue.approval(question).await {
                Ok(Yes::ToAll) => return HumanResponse::AllApproved { by: ANSWERED_BY.to_owned() },
                Ok(Yes::ToThis(edited)) => Ok(edited.map(Value::Object)),
                Err(exit) => Err(exit),
            },
            Form::Fields { schema } => dialogue.fill_form(&FormSchema::parse_schema(schema)).await,
            Form::Url { url, .. } => dialogue.confirm_page(url, self.browser).await,
        };
        if result == Err(DialogueExit::EndOfInput) {
            self.explain_end_of_input(&dialogue, question);
            if question.asker.agent().is_some() {
                return HumanResponse::Answered { answer: Answer::Decline, answered_by: ANSWERED_BY.to_owned() };
            }
        }
        response(result, |reason| default_response(question, reason))
    }

    fn is_person_here(&self) -> bool {
        true
    }

    fn discard_typed(&self) {
        // Without an open question, the typed input is for the shell.
        if self.prompt_lock.try_lock().is_err() {
            self.keyboard.close();
        }
    }

    async fn fill_form(&self, heading: &str, schema: &JsonObject) -> HumanResponse {
        let subject = Subject::of_host(heading);
        let mut dialogue = self.open_dialogue(&subject).await;
        response(dialogue.fill_form(&FormSchema::parse_schema(schema)).await, deferred)
    }

    async fn confirm(&self, what: &str) -> HumanResponse {
        let subject = Subject::of_host(what);
        let mut dialogue = self.open_dialogue(&subject).await;
        response(dialogue.yes_or_enter("continue").await, deferred)
    }

    async fn review_plan(&self, review: &PlanReview<'_>) -> ReviewDecision {
        let lines = printable_lines(review.text).map(Cow::into_owned).collect();
        let subject = Subject { lines, ..Subject::of_host("plan") };
        let mut dialogue = self.open_dialogue(&subject).await;
        match dialogue.review_plan(review).await {
            Ok(decision) => decision,
            Err(exit) => match response(Err(exit), deferred) {
                HumanResponse::Deferred { reason } => ReviewDecision::Deferred { reason },
                HumanResponse::Answered { .. } | HumanResponse::AllApproved { .. } => ReviewDecision::Rejected,
            },
        }
    }
}

fn deferred(reason: &str) -> HumanResponse {
    HumanResponse::Deferred { reason: reason.to_owned() }
}

/// Converts the result of a dialogue. `unanswered` returns the response to a question that could not be asked.
fn response(result: Result<Option<Value>, DialogueExit>, unanswered: impl Fn(&str) -> HumanResponse) -> HumanResponse {
    let (answer, answered_by) = match result {
        Ok(content) => (Answer::Accept { content }, ANSWERED_BY),
        Err(DialogueExit::Declined) => (Answer::Decline, ANSWERED_BY),
        Err(DialogueExit::Canceled) => (Answer::Cancel, ANSWERED_BY),
        Err(DialogueExit::InvalidUrl) => (Answer::Decline, "the host"),
        Err(DialogueExit::EndOfInput) => return unanswered(UNANSWERED),
        Err(DialogueExit::NoInput) => return unanswered(CLOSED),
        Err(DialogueExit::NoScreen) => return unanswered(FAILED),
    };
    HumanResponse::Answered { answer, answered_by: answered_by.to_owned() }
}

#[cfg(test)]
mod tests;
