//! Asks a person at the terminal, one question at a time.
//! Never sends an agent's text to the terminal as it came, and never opens a page that nobody agreed to.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
};

use owo_colors::OwoColorize;
use serde_json::Value;

use super::{
    Human, Reply,
    form::{Field, Fields},
    lines::{Lines, is_in_foreground},
    page::{Browser, Page},
    policy::nobody,
    sheet::{call_lines, details, who},
};
use crate::{
    model::{Answer, Form, JsonObject, Question, RunId},
    report::{
        screen::{Prompt, Screen},
        text::{brief, printable, printable_lines},
    },
};

/// What a person types to say no, whatever is asked.
const DECLINE: &str = ":decline";

/// Who answers here, as the journal says it.
const BY: &str = "person at terminal";

/// What a person types to say neither yes nor no.
const CANCEL: &str = ":cancel";

/// Why a question has no answer when there is no input.
const CLOSED: &str = "standard input is closed";

/// Why a question has no answer when a panic has ended the screen.
const FAILED: &str = "the question cannot be shown after an internal error (this is a bug in kapell)";

/// A person at the terminal, who sees the questions on the screen.
pub struct Terminal {
    screen: Screen,
    run: RunId,
    lines: Lines,
    browser: Browser,
    /// Whose question is on the screen; the others queue here.
    turn: tokio::sync::Mutex<()>,
}

impl Terminal {
    /// Asks for `run` on `screen`, where there is a terminal to ask on. What comes through a pipe is data, and never the
    /// answer of a person.
    ///
    /// # Errors
    /// When the system gives no further thread.
    pub fn open(screen: Screen, run: RunId) -> io::Result<Option<Self>> {
        let Some(keyboard) = keyboard() else { return Ok(None) };
        let lines = Lines::of_terminal(keyboard)?;
        Ok(Some(Self { screen, run, lines, browser: Browser::default(), turn: tokio::sync::Mutex::default() }))
    }

    fn head(&self, question: &Question) -> String {
        format!("{} {} (run {}):", "?".cyan(), brief(&who(question)).bold(), self.run)
    }
}

/// Finds the terminal that questions are shown on and answers are typed at: standard input, or the controlling terminal.
fn keyboard() -> Option<File> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return stdin.as_fd().try_clone_to_owned().ok().map(File::from);
    }
    let terminal = OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open("/dev/tty").ok()?;
    // Reading it in the background would stop the process.
    is_in_foreground(&terminal).then_some(terminal)
}

#[async_trait::async_trait]
impl Human for Terminal {
    async fn ask(&self, question: &Question) -> Reply {
        let _turn = self.turn.lock().await;
        self.lines.discard_typed();
        let prompt = self.screen.prompt();
        prompt.lines([self.head(question)]);
        prompt.lines(printable_lines(&question.message).map(|line| format!("  {line}")));
        prompt.lines(call_lines(question).into_iter().map(|line| format!("  {line}")));
        let dialogue = Dialogue { prompt, lines: &self.lines };
        let said = match &question.form {
            Form::Approval => match dialogue.approval(question).await {
                Ok(Yes::ToAll) => return Reply::AllApproved { by: BY.to_owned() },
                Ok(Yes::ToThis) => Ok(None),
                Err(stop) => Err(stop),
            },
            Form::Fields { schema } => dialogue.form(&Fields::read(schema)).await,
            Form::Url { url } => dialogue.page(url, self.browser).await,
        };
        let answer = match said {
            Ok(content) => Answer::Accept { content },
            Err(Stop::Declined) => Answer::Decline,
            Err(Stop::Cancelled) => Answer::Cancel,
            Err(Stop::NoInput) => return nobody(question, CLOSED),
            Err(Stop::NoScreen) => return nobody(question, FAILED),
            Err(Stop::NoPage) => return Reply::Answered { answer: Answer::Decline, by: "the host".to_owned() },
        };
        Reply::Answered { answer, by: BY.to_owned() }
    }

    fn is_person_here(&self) -> bool {
        true
    }

    fn discard_typed(&self) {
        // Without a question, what is typed is for the shell.
        if self.turn.try_lock().is_err() {
            self.lines.discard_typed();
        }
    }

    async fn confirm(&self, what: &str) -> Reply {
        let _turn = self.turn.lock().await;
        self.lines.discard_typed();
        let prompt = self.screen.prompt();
        prompt.lines([format!("{} {} (run {}):", "?".cyan(), brief(what).bold(), self.run)]);
        let dialogue = Dialogue { prompt, lines: &self.lines };
        let answer = match dialogue.yes_or_enter("go ahead").await {
            Ok(()) => Answer::Accept { content: None },
            Err(Stop::NoInput) => return Reply::LeftOpen { reason: CLOSED.to_owned() },
            Err(Stop::NoScreen) => return Reply::LeftOpen { reason: FAILED.to_owned() },
            Err(Stop::Cancelled) => Answer::Cancel,
            Err(Stop::Declined | Stop::NoPage) => Answer::Decline,
        };
        Reply::Answered { answer, by: BY.to_owned() }
    }
}

/// Why a question ended without a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The person said no.
    Declined,
    /// The person dismissed it.
    Cancelled,
    /// The input has ended.
    NoInput,
    /// A panic has ended the screen.
    NoScreen,
    /// There is no page that could be visited.
    NoPage,
}

/// What an approval is a yes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Yes {
    /// The call that is shown.
    ToThis,
    /// That call and every further one of its task.
    ToAll,
}

/// One question on the screen.
struct Dialogue<'a> {
    prompt: Prompt,
    lines: &'a Lines,
}

impl Drop for Dialogue<'_> {
    fn drop(&mut self) {
        // What was typed for this question must reach neither the next one nor the shell.
        self.lines.discard_typed();
    }
}

impl Dialogue<'_> {
    /// The next line that is no command.
    async fn line(&self, label: &str) -> Result<String, Stop> {
        self.prompt.write(&format!("  {label}> "));
        let line = tokio::select! {
            biased;
            () = self.prompt.failed() => return Err(Stop::NoScreen),
            line = self.lines.next() => line.ok_or(Stop::NoInput)?,
        };
        self.prompt.typed();
        match line.trim() {
            DECLINE => Err(Stop::Declined),
            CANCEL => Err(Stop::Cancelled),
            line => Ok(line.to_owned()),
        }
    }

    fn say(&self, text: &str) {
        self.prompt.lines([format!("  {}", printable(text))]);
    }

    /// A yes, or why not.
    async fn yes_or_no(&self, verb: &str) -> Result<Option<Value>, Stop> {
        loop {
            match self.line(&format!("{verb}? [y/n, {CANCEL}]")).await?.to_lowercase().as_str() {
                "y" | "yes" => return Ok(None),
                "n" | "no" => return Err(Stop::Declined),
                other => self.explain(other, &[]),
            }
        }
    }

    /// A yes, which Enter alone says too, or why not.
    async fn yes_or_enter(&self, verb: &str) -> Result<(), Stop> {
        loop {
            match self.line(&format!("{verb}? [Y/n, {CANCEL}]")).await?.to_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(()),
                "n" | "no" => return Err(Stop::Declined),
                other => self.explain(other, &[]),
            }
        }
    }

    /// A yes to a call or to all calls of its task, or why not.
    async fn approval(&self, question: &Question) -> Result<Yes, Stop> {
        let task = question.asker.task().filter(|_| question.item.is_some_and(|item| item.of > 1));
        let details = details(question);
        let mut keys = Vec::new();
        if let Some(item) = task {
            let parent = item.as_str().rsplit_once('[').map_or(item.as_str(), |(parent, _)| parent);
            keys.push(("a", format!("says yes to this and to every further call of `{parent}` in this run")));
        }
        if details.is_some() {
            keys.push(("d", "shows the arguments in full".to_owned()));
        }
        let further: String = keys.iter().map(|(key, _)| format!("/{key}")).collect();
        loop {
            match (self.line(&format!("approve? [y/n{further}, {CANCEL}]")).await?.to_lowercase().as_str(), &details) {
                ("y" | "yes", _) => return Ok(Yes::ToThis),
                ("n" | "no", _) => return Err(Stop::Declined),
                ("a" | "all", _) if task.is_some() => return Ok(Yes::ToAll),
                ("d" | "details", Some(details)) => self.prompt.lines(details.iter().map(|line| format!("  {line}"))),
                (other, _) => self.explain(other, &keys),
            }
        }
    }

    /// Says which keys there are, beside `y` and `n`.
    fn explain(&self, typed: &str, further: &[(&str, String)]) {
        match typed {
            "?" | "h" | "help" | ":help" => {
                let further: String = further.iter().map(|(key, does)| format!(", `{key}` {does}")).collect();
                self.say(&format!("`y` says yes, `n` says no{further}, {CANCEL} dismisses the question"));
            }
            "" => self.say("type `y` or `n`, or `?` for help"),
            other => self.say(&format!("`{other}` is neither `y` nor `n`; type `?` for help")),
        }
    }

    /// The fields, each asked until it fits.
    async fn form(&self, form: &Fields) -> Result<Option<Value>, Stop> {
        if form.is_empty() {
            return self.yes_or_no("accept").await.map(|_| Some(Value::Object(JsonObject::new())));
        }
        self.say(&format!("({DECLINE} says no, {CANCEL} dismisses the question)"));
        if let Some(reason) = &form.unchecked {
            self.say(&format!("warning: answers are not checked: {reason}"));
        }
        loop {
            let mut given = JsonObject::new();
            for field in form.iter() {
                if let Some(value) = self.field(field).await? {
                    given.insert(field.name.clone(), value);
                }
            }
            match form.complete(given) {
                Ok(answer) => return Ok(Some(answer)),
                Err(problem) => self.say(&problem),
            }
        }
    }

    /// The value of a field, or none for an optional one that was left empty.
    async fn field(&self, field: &Field) -> Result<Option<Value>, Stop> {
        self.describe(field);
        let default = field.default.as_ref();
        let hint = match default {
            Some(default) => format!(" [{}]", brief(&field.show(default))),
            None if field.required && !field.nullable => String::new(),
            None => " [skip]".to_owned(),
        };
        let label = format!("{}{hint}", brief(&field.name));
        loop {
            let line = self.line(&label).await?;
            if line.is_empty() {
                if default.is_some() || !field.required || field.nullable {
                    return Ok(default.cloned());
                }
                self.say(&format!("an answer is required: {}", field.expects()));
                continue;
            }
            match field.parse(&line) {
                Ok(value) => return Ok(Some(value)),
                Err(problem) => self.say(&problem),
            }
        }
    }

    fn describe(&self, field: &Field) {
        let title = field.title.as_deref().unwrap_or(&field.name);
        let description = field.description.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let needed = if field.required && !field.nullable { "required" } else { "optional" };
        let (title, description, expects) = (brief(title), brief(&description), brief(&field.expects()));
        self.prompt.lines([format!("  {}{description} ({expects}; {needed})", title.bold())]);
        for (pick, choice) in field.choices() {
            self.say(&format!("  {pick}) {}", choice.title));
        }
    }

    /// A yes once the person has agreed to visit the page.
    async fn page(&self, address: &str, browser: Browser) -> Result<Option<Value>, Stop> {
        let page = match Page::read(address) {
            Ok(page) => page,
            Err(problem) => {
                self.say(&problem);
                return Err(Stop::NoPage);
            }
        };
        self.say(&format!("address: {}", page.address()));
        self.say(&format!("host:    {}", page.host()));
        for warning in page.warnings() {
            self.prompt.lines([format!("  {} {warning}", "warning:".yellow().bold())]);
        }
        self.yes_or_no("open it in the browser").await?;
        if let Err(problem) = browser.open(&page).await {
            self.say(&format!("{problem}; open the address yourself if you want to"));
            return self.yes_or_no("go on").await;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
