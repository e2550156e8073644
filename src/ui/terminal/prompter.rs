//! Asks a person at the terminal, one question at a time.
//! Text of agents is always escaped, and a page is opened only with consent.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use owo_colors::OwoColorize;
use serde_json::Value;

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
    prompt_lock: tokio::sync::Mutex<()>,
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
        Ok(Some(Self { screen, run, lines, browser: Browser::default(), prompt_lock: tokio::sync::Mutex::default() }))
    }

    fn question_heading(&self, question: &Question) -> String {
        format!("{} {} (run {}):", "?".cyan(), truncated(&asker_name(question)).bold(), self.run)
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
        let _turn = self.prompt_lock.lock().await;
        self.lines.discard_pending_input();
        let prompt = self.screen.prompt();
        prompt.write_lines([self.question_heading(question)]);
        prompt.write_lines(printable_lines(&question.message).map(|line| format!("  {line}")));
        prompt.write_lines(call_lines(question).into_iter().map(|line| format!("  {line}")));
        let dialogue = Dialogue { prompt, lines: &self.lines };
        let said = match &question.form {
            Form::Approval => match dialogue.approval(question).await {
                Ok(Yes::ToAll) => return HumanResponse::AllApproved { by: ANSWERED_BY.to_owned() },
                Ok(Yes::ToThis) => Ok(None),
                Err(stop) => Err(stop),
            },
            Form::Fields { schema } => dialogue.fill_form(&FormSchema::parse_schema(schema)).await,
            Form::Url { url } => dialogue.confirm_page(url, self.browser).await,
        };
        let answer = match said {
            Ok(content) => Answer::Accept { content },
            Err(DialogueExit::Declined) => Answer::Decline,
            Err(DialogueExit::Canceled) => Answer::Cancel,
            Err(DialogueExit::NoInput) => return default_response(question, CLOSED),
            Err(DialogueExit::NoScreen) => return default_response(question, FAILED),
            Err(DialogueExit::InvalidUrl) => {
                return HumanResponse::Answered { answer: Answer::Decline, answered_by: "the host".to_owned() };
            }
        };
        HumanResponse::Answered { answer, answered_by: ANSWERED_BY.to_owned() }
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

    async fn confirm(&self, what: &str) -> HumanResponse {
        let _turn = self.prompt_lock.lock().await;
        self.lines.discard_pending_input();
        let prompt = self.screen.prompt();
        prompt.write_lines([format!("{} {} (run {}):", "?".cyan(), truncated(what).bold(), self.run)]);
        let dialogue = Dialogue { prompt, lines: &self.lines };
        let answer = match dialogue.yes_or_enter("continue").await {
            Ok(()) => Answer::Accept { content: None },
            Err(DialogueExit::NoInput) => return HumanResponse::Deferred { reason: CLOSED.to_owned() },
            Err(DialogueExit::NoScreen) => return HumanResponse::Deferred { reason: FAILED.to_owned() },
            Err(DialogueExit::Canceled) => Answer::Cancel,
            Err(DialogueExit::Declined | DialogueExit::InvalidUrl) => Answer::Decline,
        };
        HumanResponse::Answered { answer, answered_by: ANSWERED_BY.to_owned() }
    }
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
    async fn yes_or_enter(&self, verb: &str) -> Result<(), DialogueExit> {
        loop {
            match self.read_line(&format!("{verb}? [Y/n, {CANCEL_COMMAND}]")).await?.to_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(()),
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
        let further: String = keys.iter().map(|(key, _)| format!("/{key}")).collect();
        loop {
            match (
                self.read_line(&format!("approve? [y/n{further}, {CANCEL_COMMAND}]")).await?.to_lowercase().as_str(),
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
    fn explain(&self, typed: &str, further: &[(&str, String)]) {
        match typed {
            "?" | "h" | "help" | ":help" => {
                let further: String = further.iter().map(|(key, does)| format!(", `{key}` {does}")).collect();
                self.print(&format!("`y` approves, `n` declines{further}, {CANCEL_COMMAND} dismisses the question"));
            }
            "" => self.print("type `y` or `n`, or `?` for help"),
            other => self.print(&format!("`{other}` is neither `y` nor `n`; type `?` for help")),
        }
    }

    /// Asks for each field until it is valid, and for all fields again if the whole answer is invalid.
    async fn fill_form(&self, form: &FormSchema) -> Result<Option<Value>, DialogueExit> {
        if form.is_empty() {
            return self.confirm_yes_or_no("accept").await.map(|_| Some(Value::Object(JsonObject::new())));
        }
        self.print(&format!("({DECLINE_COMMAND} declines, {CANCEL_COMMAND} dismisses the question)"));
        if let Some(reason) = &form.unchecked_reason {
            self.print(&format!("warning: answers are not checked: {reason}"));
        }
        loop {
            let mut given = JsonObject::new();
            for field in form.iter() {
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
        let needed = if field.required && !field.nullable { "required" } else { "optional" };
        let (title, description, expects) =
            (truncated(title), truncated(&description), truncated(&field.expected_input()));
        self.prompt.write_lines([format!("  {}{description} ({expects}; {needed})", title.bold())]);
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
