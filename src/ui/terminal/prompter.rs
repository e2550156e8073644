//! Asks a person at the terminal, one question at a time.
//! Text of agents is always escaped, and a page is opened only with consent.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use owo_colors::OwoColorize;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::line_reader::{LineReader, is_in_foreground};
use super::screen::{OpenPrompt, Screen};
use crate::model::{Answer, Form, JsonObject, Question, RunId};
use crate::ui::forms::form::{FormField, FormSchema};
use crate::ui::forms::form_prompt::{asker_name, call_lines, details};
use crate::ui::forms::url_prompt::{Browser, PageUrl};
use crate::ui::human::{Human, HumanResponse, default_response};
use crate::view::text::{printable, printable_lines, truncated};

/// The command that declines any question.
const DECLINE_COMMAND: &str = ":decline";

/// The name of this answer source in the journal.
const ANSWERED_BY: &str = "person at terminal";

/// The command that dismisses any question.
const CANCEL_COMMAND: &str = ":cancel";

/// The reason that a question is not answered after the end of the input.
const CLOSED: &str = "standard input is closed";

/// The reason that a question is not answered after a panic of the screen thread.
const FAILED: &str = "the question cannot be shown after an internal error (this is a bug in kapell)";

/// A prompter for a person at the terminal, which shows questions on the screen.
pub struct TerminalPrompter {
    screen: Screen,
    run: RunId,
    lines: LineReader,
    browser: Browser,
    /// Held by the question on the screen; other questions queue here.
    prompt_lock: Mutex<()>,
}

impl TerminalPrompter {
    /// Opens a prompter for `run` on `screen`, or returns `None` without a terminal. Piped input is data, and never an
    /// answer.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn open(screen: Screen, run: RunId) -> io::Result<Option<Self>> {
        let Some(keyboard) = open_input_terminal() else { return Ok(None) };
        let lines = LineReader::from_terminal(keyboard)?;
        Ok(Some(Self { screen, run, lines, browser: Browser::default(), prompt_lock: Mutex::default() }))
    }

    /// Opens a dialogue with this heading, once no other question is on the screen.
    async fn open_dialogue(&self, heading: &str) -> Dialogue<'_> {
        let permit = self.prompt_lock.lock().await;
        self.lines.discard_pending_input();
        let prompt = self.screen.prompt();
        prompt.write_lines([format!("{} {} (run {}):", "?".cyan(), truncated(heading).bold(), self.run)]);
        Dialogue { prompt, lines: &self.lines, _permit: permit }
    }
}

/// Returns the terminal for typed answers: standard input, or else the controlling terminal.
fn open_input_terminal() -> Option<File> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return stdin.as_fd().try_clone_to_owned().ok().map(File::from);
    }
    let terminal = OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open("/dev/tty").ok()?;
    // Reading from the terminal in the background would stop the process.
    is_in_foreground(&terminal).then_some(terminal)
}

#[async_trait::async_trait]
impl Human for TerminalPrompter {
    async fn ask(&self, question: &Question) -> HumanResponse {
        let dialogue = self.open_dialogue(&asker_name(question)).await;
        let lines = printable_lines(&question.message).map(Cow::into_owned).chain(call_lines(question));
        dialogue.prompt.write_lines(lines.map(|line| format!("  {line}")));
        let result = match &question.form {
            Form::Approval => match dialogue.approval(question).await {
                Ok(Yes::ToAll) => return HumanResponse::AllApproved { by: ANSWERED_BY.to_owned() },
                Ok(Yes::ToThis) => Ok(None),
                Err(exit) => Err(exit),
            },
            Form::Fields { schema } => dialogue.fill_form(&FormSchema::parse_schema(schema)).await,
            Form::Url { url, .. } => dialogue.confirm_page(url, self.browser).await,
        };
        response(result, |reason| default_response(question, reason))
    }

    fn is_person_here(&self) -> bool {
        true
    }

    fn discard_typed(&self) {
        // Without an open question, the typed input is for the shell.
        if self.prompt_lock.try_lock().is_err() {
            self.lines.discard_pending_input();
        }
    }

    async fn fill_form(&self, heading: &str, schema: &JsonObject) -> HumanResponse {
        let dialogue = self.open_dialogue(heading).await;
        response(dialogue.fill_form(&FormSchema::parse_schema(schema)).await, |reason| HumanResponse::Deferred {
            reason: reason.to_owned(),
        })
    }

    async fn confirm(&self, what: &str) -> HumanResponse {
        let dialogue = self.open_dialogue(what).await;
        response(dialogue.yes_or_enter("continue").await, |reason| HumanResponse::Deferred {
            reason: reason.to_owned(),
        })
    }
}

/// Converts the result of a dialogue. `unanswered` returns the response to a question that could not be asked.
fn response(result: Result<Option<Value>, DialogueExit>, unanswered: impl Fn(&str) -> HumanResponse) -> HumanResponse {
    let (answer, answered_by) = match result {
        Ok(content) => (Answer::Accept { content }, ANSWERED_BY),
        Err(DialogueExit::Declined) => (Answer::Decline, ANSWERED_BY),
        Err(DialogueExit::Canceled) => (Answer::Cancel, ANSWERED_BY),
        Err(DialogueExit::InvalidUrl) => (Answer::Decline, "the host"),
        Err(DialogueExit::NoInput) => return unanswered(CLOSED),
        Err(DialogueExit::NoScreen) => return unanswered(FAILED),
    };
    HumanResponse::Answered { answer, answered_by: answered_by.to_owned() }
}

/// The reason that a question ended without acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DialogueExit {
    /// The person declined.
    Declined,
    /// The person dismissed the question.
    Canceled,
    /// The input has ended.
    NoInput,
    /// A panic ended the screen thread.
    NoScreen,
    /// The URL cannot be opened.
    InvalidUrl,
}

/// The scope of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Yes {
    /// The call that is shown.
    ToThis,
    /// That call and all further calls of its task.
    ToAll,
}

/// One question on the screen.
struct Dialogue<'a> {
    prompt: OpenPrompt,
    lines: &'a LineReader,
    _permit: MutexGuard<'a, ()>,
}

impl Drop for Dialogue<'_> {
    fn drop(&mut self) {
        // Input that was typed for this question must reach neither the next question nor the shell.
        self.lines.discard_pending_input();
    }
}

impl Dialogue<'_> {
    /// Reads the next line that is not a command.
    async fn read_line(&self, label: &str) -> Result<String, DialogueExit> {
        self.prompt.write(&format!("  {label}> "));
        let line = tokio::select! {
            biased;
            () = self.prompt.failed() => return Err(DialogueExit::NoScreen),
            line = self.lines.next_line() => line.ok_or(DialogueExit::NoInput)?,
        };
        self.prompt.record_input();
        match line.trim() {
            DECLINE_COMMAND => Err(DialogueExit::Declined),
            CANCEL_COMMAND => Err(DialogueExit::Canceled),
            line => Ok(line.to_owned()),
        }
    }

    fn print(&self, text: &str) {
        self.prompt.write_lines([format!("  {}", printable(text))]);
    }

    /// Asks until the person types yes or no.
    async fn confirm_yes_or_no(&self, verb: &str) -> Result<Option<Value>, DialogueExit> {
        loop {
            match self.read_line(&format!("{verb}? [y/n, {CANCEL_COMMAND}]")).await?.to_lowercase().as_str() {
                "y" | "yes" => return Ok(None),
                "n" | "no" => return Err(DialogueExit::Declined),
                other => self.explain(other, &[]),
            }
        }
    }

    /// Asks until the person types yes or no; Enter alone means yes.
    async fn yes_or_enter(&self, verb: &str) -> Result<Option<Value>, DialogueExit> {
        loop {
            match self.read_line(&format!("{verb}? [Y/n, {CANCEL_COMMAND}]")).await?.to_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(None),
                "n" | "no" => return Err(DialogueExit::Declined),
                other => self.explain(other, &[]),
            }
        }
    }

    /// Asks for approval of one call, or of all calls of its task.
    async fn approval(&self, question: &Question) -> Result<Yes, DialogueExit> {
        let task = question.asker.task().filter(|_| question.item.is_some_and(|item| item.of > 1));
        let details = details(question);
        let mut keys = Vec::new();
        if let Some(item) = task {
            let parent = item.as_str().rsplit_once('[').map_or(item.as_str(), |(parent, _)| parent);
            keys.push(("a", format!("approves this and all further calls of `{parent}` in this run")));
        }
        if details.is_some() {
            keys.push(("d", "shows all arguments".to_owned()));
        }
        let more: String = keys.iter().map(|(key, _)| format!("/{key}")).collect();
        loop {
            match (
                self.read_line(&format!("approve? [y/n{more}, {CANCEL_COMMAND}]")).await?.to_lowercase().as_str(),
                &details,
            ) {
                ("y" | "yes", _) => return Ok(Yes::ToThis),
                ("n" | "no", _) => return Err(DialogueExit::Declined),
                ("a" | "all", _) if task.is_some() => return Ok(Yes::ToAll),
                ("d" | "details", Some(details)) => {
                    self.prompt.write_lines(details.iter().map(|line| format!("  {line}")))
                }
                (other, _) => self.explain(other, &keys),
            }
        }
    }

    /// Explains the available keys.
    fn explain(&self, typed: &str, more_keys: &[(&str, String)]) {
        match typed {
            "?" | "h" | "help" | ":help" => {
                let more: String = more_keys.iter().map(|(key, effect)| format!(", `{key}` {effect}")).collect();
                self.print(&format!("`y` approves, `n` declines{more}, {CANCEL_COMMAND} dismisses the question"));
            }
            "" => self.print("type `y` or `n`, or `?` for help"),
            other => self.print(&format!("`{other}` is neither `y` nor `n`; type `?` for help")),
        }
    }

    /// Asks for each field until it is valid, and for all fields again if the whole answer is invalid.
    async fn fill_form(&self, form: &FormSchema) -> Result<Option<Value>, DialogueExit> {
        if form.fields.is_empty() {
            return self.confirm_yes_or_no("accept").await.map(|_| Some(Value::Object(JsonObject::new())));
        }
        self.print(&format!("({DECLINE_COMMAND} declines, {CANCEL_COMMAND} dismisses the question)"));
        if let Some(reason) = &form.unchecked_reason {
            self.print(&format!("warning: answers are not checked: {reason}"));
        }
        loop {
            let mut given = JsonObject::new();
            for field in &form.fields {
                if let Some(value) = self.fill_field(field).await? {
                    given.insert(field.name.clone(), value);
                }
            }
            match form.complete_answer(given) {
                Ok(answer) => return Ok(Some(answer)),
                Err(problem) => self.print(&problem),
            }
        }
    }

    /// Asks for the value of a field. Returns its default, if any, for an empty line if the field may be skipped.
    async fn fill_field(&self, field: &FormField) -> Result<Option<Value>, DialogueExit> {
        self.describe_field(field);
        let default = field.default.as_ref();
        let hint = match default {
            Some(default) => format!(" [{}]", truncated(&field.format_value(default))),
            None if field.required && !field.nullable => String::new(),
            None => " [skip]".to_owned(),
        };
        let label = format!("{}{hint}", truncated(&field.name));
        loop {
            let line = self.read_line(&label).await?;
            if line.is_empty() {
                if default.is_some() || !field.required || field.nullable {
                    return Ok(default.cloned());
                }
                self.print(&format!("an answer is required: {}", field.expected_input()));
                continue;
            }
            match field.parse(&line) {
                Ok(value) => return Ok(Some(value)),
                Err(problem) => self.print(&problem),
            }
        }
    }

    fn describe_field(&self, field: &FormField) {
        let title = field.title.as_deref().unwrap_or(&field.name);
        let description = field.description.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let presence = if field.required && !field.nullable { "required" } else { "optional" };
        let (title, description, expects) =
            (truncated(title), truncated(&description), truncated(&field.expected_input()));
        self.prompt.write_lines([format!("  {}{description} ({expects}; {presence})", title.bold())]);
        for (pick, choice) in field.choices() {
            self.print(&format!("  {pick}) {}", choice.title));
        }
    }

    /// Shows a URL and opens the page after consent.
    async fn confirm_page(&self, address: &str, browser: Browser) -> Result<Option<Value>, DialogueExit> {
        let page = match PageUrl::parse(address) {
            Ok(page) => page,
            Err(problem) => {
                self.print(&problem);
                return Err(DialogueExit::InvalidUrl);
            }
        };
        self.print(&format!("address: {}", page.address()));
        self.print(&format!("host:    {}", page.displayed_host()));
        for warning in page.warnings() {
            self.prompt.write_lines([format!("  {} {warning}", "warning:".yellow().bold())]);
        }
        self.confirm_yes_or_no("open it in the browser").await?;
        if let Err(problem) = browser.open(&page).await {
            self.print(&format!("{problem}; open the address yourself"));
            return self.confirm_yes_or_no("go on").await;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
