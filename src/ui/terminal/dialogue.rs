//! One question on the screen: its lines, the answers that are typed, and the keys that are explained.

use std::path::Path;

use owo_colors::OwoColorize;
use serde_json::Value;
use tokio::sync::MutexGuard;

use super::keyboard::Keyboard;
use super::line_editor::{LineEdit, LineEditor, LineHistory};
use super::screen::{InputLine, OpenPrompt};
use super::text_editor::TextEditor;
use crate::model::{JsonObject, MASKED_SECRET};
use crate::ui::forms::form::{FormField, FormSchema};
use crate::ui::forms::url_prompt::{Browser, PageUrl};
use crate::view::text::{printable, truncated};

/// The command that declines any question.
const DECLINE_COMMAND: &str = ":decline";

/// The command that dismisses any question.
pub(super) const CANCEL_COMMAND: &str = ":cancel";

/// The command that returns to the field before.
const BACK_COMMAND: &str = ":back";

/// The reason that a question ended without acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DialogueExit {
    /// The person declined.
    Declined,
    /// The person dismissed the question.
    Canceled,
    /// The person ended the input with Ctrl-D.
    EndOfInput,
    /// The terminal is gone.
    NoInput,
    /// A panic ended the screen thread.
    NoScreen,
    /// The URL cannot be opened.
    InvalidUrl,
}

/// Whether typed text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// It is shown.
    Shown,
    /// It is secret.
    Hidden,
}

/// What a person typed for a field.
enum FieldInput {
    /// A value, or none for a field that is skipped.
    Value(Option<Value>),
    /// Return to the field before.
    Back,
}

/// One question on the screen.
pub(super) struct Dialogue<'a> {
    prompt: OpenPrompt,
    keyboard: &'a Keyboard,
    history: MutexGuard<'a, LineHistory>,
    editor: Option<&'a TextEditor>,
}

impl Drop for Dialogue<'_> {
    fn drop(&mut self) {
        self.keyboard.close();
    }
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(
        prompt: OpenPrompt,
        keyboard: &'a Keyboard,
        history: MutexGuard<'a, LineHistory>,
        editor: Option<&'a TextEditor>,
    ) -> Self {
        Self { prompt, keyboard, history, editor }
    }

    /// Reads the next line that does not end the question.
    pub(super) async fn read_line(&mut self, label: &str) -> Result<String, DialogueExit> {
        self.read_line_from(label, "").await
    }

    /// Reads the next line that does not end the question. Where keys edit it, it begins with `text`.
    pub(super) async fn read_line_from(&mut self, label: &str, text: &str) -> Result<String, DialogueExit> {
        let line = self.read_answer(label, text, Echo::Shown).await?;
        self.history.add(&line);
        Ok(line)
    }

    /// Reads the next line that does not end the question, and neither shows nor remembers it.
    async fn read_secret(&mut self, label: &str) -> Result<String, DialogueExit> {
        self.read_answer(label, "", Echo::Hidden).await
    }

    async fn read_answer(&mut self, label: &str, text: &str, echo: Echo) -> Result<String, DialogueExit> {
        let label = format!("  {label}> ");
        let line = match self.keyboard {
            Keyboard::Keys(_) => self.edit_line(label, text, echo).await?,
            Keyboard::Lines(lines) => {
                let _hidden = (echo == Echo::Hidden).then(|| lines.hide_echo());
                self.request_line(label).await?
            }
        };
        match line.trim() {
            DECLINE_COMMAND => Err(DialogueExit::Declined),
            CANCEL_COMMAND => Err(DialogueExit::Canceled),
            line => Ok(line.to_owned()),
        }
    }

    /// Edits a line on a screen that shows each key.
    async fn edit_line(&mut self, label: String, text: &str, echo: Echo) -> Result<String, DialogueExit> {
        let Keyboard::Keys(keys) = self.keyboard else { return Err(DialogueExit::NoInput) };
        let nothing = LineHistory::default();
        let history = if echo == Echo::Shown { &*self.history } else { &nothing };
        let mut editor = LineEditor::new(text, history);
        let result = loop {
            let (text, cursor) = match echo {
                Echo::Shown => (editor.text().to_owned(), editor.cursor()),
                Echo::Hidden => (String::new(), 0),
            };
            self.prompt.show_input(InputLine { label: label.clone(), text, cursor });
            let key = tokio::select! {
                biased;
                () = self.prompt.failed() => break Err(DialogueExit::NoScreen),
                key = keys.next_key() => key,
            };
            self.prompt.show_notice(None);
            match key.map(|key| editor.press(key)) {
                None => break Err(DialogueExit::NoInput),
                Some(LineEdit::EndOfInput) => break Err(DialogueExit::EndOfInput),
                Some(LineEdit::Submitted) => break Ok(editor.text().to_owned()),
                Some(LineEdit::Back) => break Ok(BACK_COMMAND.to_owned()),
                Some(LineEdit::Changed) => {}
                Some(LineEdit::Refused(reason)) => {
                    self.prompt.show_notice(Some(format!("  {}", printable(&reason).yellow())));
                }
            }
        };
        self.prompt.end_input();
        result
    }

    /// Requests lines until one has no control characters.
    async fn request_line(&mut self, label: String) -> Result<String, DialogueExit> {
        let Keyboard::Lines(lines) = self.keyboard else { return Err(DialogueExit::NoInput) };
        loop {
            // Of several pasted lines, only the first one is an answer.
            lines.discard_pending_input();
            self.prompt.show_input(InputLine { label: label.clone(), ..InputLine::default() });
            let line = tokio::select! {
                biased;
                () = self.prompt.failed() => return Err(DialogueExit::NoScreen),
                line = lines.next_line() => line,
            };
            let Some(line) = line else {
                return Err(if lines.has_ended() { DialogueExit::NoInput } else { DialogueExit::EndOfInput });
            };
            self.prompt.end_input();
            match line.chars().find(|c| c.is_control() && *c != '\t') {
                Some(c) => self.print(&format!("`{}` does not fit in an answer", c.escape_unicode())),
                None => return Ok(line),
            }
        }
    }

    /// Opens the editor of the person for a text. Returns `None` if none is named.
    pub(super) async fn edit_text(&self, text: &str, suffix: &str) -> Option<Result<String, String>> {
        let editor = self.editor?;
        self.keyboard.close();
        let edited = editor.edit_text(text, suffix, self.prompt.pause_screen()).await;
        self.keyboard.open();
        Some(edited)
    }

    /// Opens the editor of the person for a file. Returns `None` if none is named.
    pub(super) async fn edit_file(&self, path: &Path) -> Option<Result<(), String>> {
        let editor = self.editor?;
        self.keyboard.close();
        let edited = editor.edit_file(path, self.prompt.pause_screen()).await;
        self.keyboard.open();
        Some(edited)
    }

    pub(super) fn write_lines(&self, lines: impl IntoIterator<Item = String>) {
        self.prompt.write_lines(lines);
    }

    pub(super) fn print(&self, text: &str) {
        self.prompt.write_lines([format!("  {}", printable(text))]);
    }

    /// Asks until the person types yes or no.
    async fn confirm_yes_or_no(&mut self, verb: &str) -> Result<Option<Value>, DialogueExit> {
        loop {
            match self.read_line(&format!("{verb}? [y/n, {CANCEL_COMMAND}]")).await?.to_lowercase().as_str() {
                "y" | "yes" => return Ok(None),
                "n" | "no" => return Err(DialogueExit::Declined),
                other => self.explain(other),
            }
        }
    }

    /// Asks until the person types yes or no; Enter alone means yes.
    pub(super) async fn yes_or_enter(&mut self, verb: &str) -> Result<Option<Value>, DialogueExit> {
        loop {
            match self.read_line(&format!("{verb}? [Y/n, {CANCEL_COMMAND}]")).await?.to_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(None),
                "n" | "no" => return Err(DialogueExit::Declined),
                other => self.explain(other),
            }
        }
    }

    /// Explains the keys of a question that is answered with yes or no.
    fn explain(&self, typed: &str) {
        match typed {
            "?" | "h" | "help" | ":help" => {
                self.print(&format!("`y` approves, `n` declines, {CANCEL_COMMAND} dismisses the question"));
            }
            "" => self.print("type `y` or `n`, or `?` for help"),
            other => self.print(&format!("`{other}` is neither `y` nor `n`; type `?` for help")),
        }
    }

    /// Asks for each field until it is valid. Several fields are reviewed before they are sent.
    pub(super) async fn fill_form(&mut self, form: &FormSchema) -> Result<Option<Value>, DialogueExit> {
        if form.fields.is_empty() {
            return self.confirm_yes_or_no("accept").await.map(|_| Some(Value::Object(JsonObject::new())));
        }
        let back = match (form.fields.len(), self.keyboard) {
            (1, _) => String::new(),
            (_, Keyboard::Keys(_)) => format!("{BACK_COMMAND} or Shift-Tab returns to the field before, "),
            (_, Keyboard::Lines(_)) => format!("{BACK_COMMAND} returns to the field before, "),
        };
        self.print(&format!("({back}{DECLINE_COMMAND} declines, {CANCEL_COMMAND} dismisses the question)"));
        if let Some(reason) = &form.unchecked_reason {
            self.print(&format!("warning: answers are not checked: {reason}"));
        }
        let mut given = vec![None; form.fields.len()];
        let mut first = 0;
        loop {
            self.fill_fields(form, first, &mut given).await?;
            match self.review(form, &mut given).await? {
                Some(answer) => return Ok(Some(answer)),
                None => first = form.fields.len() - 1,
            }
        }
    }

    /// Asks for the fields from `first` to the last one. A value that was given before is the default.
    async fn fill_fields(
        &mut self,
        form: &FormSchema,
        first: usize,
        given: &mut [Option<Value>],
    ) -> Result<(), DialogueExit> {
        let mut position = first;
        while let Some(field) = form.fields.get(position) {
            match self.fill_field(field, (position, form.fields.len()), given[position].as_ref()).await? {
                FieldInput::Value(value) => {
                    given[position] = value;
                    position += 1;
                }
                FieldInput::Back if position == 0 => self.print("this is the first field"),
                FieldInput::Back => position -= 1,
            }
        }
        Ok(())
    }

    /// Shows the values of a form with several fields, and lets the person change them. Returns the valid answer, or
    /// `None` to return to the last field.
    async fn review(&mut self, form: &FormSchema, given: &mut [Option<Value>]) -> Result<Option<Value>, DialogueExit> {
        let count = form.fields.len();
        let complete = |given: &[Option<Value>]| {
            let values = form.fields.iter().zip(given);
            form.complete_answer(
                values.filter_map(|(field, value)| Some((field.name.clone(), value.clone()?))).collect(),
            )
        };
        if count == 1 {
            return Ok(complete(given).map_err(|problem| self.print(&problem)).ok());
        }
        self.show_values(form, given);
        loop {
            let line = self.read_line("send? [Y/n/number to change]").await?;
            match line.to_lowercase().as_str() {
                "" | "y" | "yes" => match complete(given) {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(problem) => self.print(&problem),
                },
                "n" | "no" => return Err(DialogueExit::Declined),
                BACK_COMMAND => return Ok(None),
                "?" | "h" | "help" => self.print(&format!(
                    "`y` or Enter sends the values, `n` declines the question, a number changes that value, \
                     {CANCEL_COMMAND} dismisses the question"
                )),
                other => match other.parse::<usize>().ok().filter(|number| (1..=count).contains(number)) {
                    Some(number) => {
                        let at = number - 1;
                        let before = given[at].clone();
                        if let FieldInput::Value(value) =
                            self.fill_field(&form.fields[at], (at, count), before.as_ref()).await?
                        {
                            given[at] = value;
                        }
                        self.show_values(form, given);
                    }
                    None => {
                        self.print(&format!("`{other}` does not fit: type `y`, `n`, or a number from 1 to {count}"))
                    }
                },
            }
        }
    }

    /// Lists the values of a form with their numbers.
    fn show_values(&self, form: &FormSchema, given: &[Option<Value>]) {
        let width = form.fields.len().to_string().len();
        for (index, (field, value)) in form.fields.iter().zip(given).enumerate() {
            let title = truncated(field.title.as_deref().unwrap_or(&field.name));
            let value = match value {
                None => "–".to_owned(),
                Some(_) if field.secret => MASKED_SECRET.to_owned(),
                Some(value) => truncated(&field.format_value(value)),
            };
            self.prompt.write_lines([format!("  {:>width$}) {title}: {}", index + 1, value.bold())]);
        }
    }

    /// Asks for the value of a field. Returns its default, if any, for an empty line if the field may be skipped.
    async fn fill_field(
        &mut self,
        field: &FormField,
        place: (usize, usize),
        before: Option<&Value>,
    ) -> Result<FieldInput, DialogueExit> {
        self.describe_field(field, place);
        let default = before.or(field.default.as_ref());
        let hint = match default {
            Some(_) if field.secret => format!(" [{MASKED_SECRET}]"),
            Some(default) => format!(" [{}]", truncated(&field.format_value(default))),
            None if field.required && !field.nullable => String::new(),
            None => " [skip]".to_owned(),
        };
        let label = format!("{}{hint}", truncated(&field.name));
        loop {
            let line = if field.secret { self.read_secret(&label).await? } else { self.read_line(&label).await? };
            if line == BACK_COMMAND {
                return Ok(FieldInput::Back);
            }
            if line.is_empty() {
                if default.is_some() || !field.required || field.nullable {
                    return Ok(FieldInput::Value(default.cloned()));
                }
                self.print(&format!("an answer is required: {}", field.expected_input()));
                continue;
            }
            match field.parse(&line) {
                Ok(value) => return Ok(FieldInput::Value(Some(value))),
                Err(problem) => self.print(&problem),
            }
        }
    }

    fn describe_field(&self, field: &FormField, (position, count): (usize, usize)) {
        let title = field.title.as_deref().unwrap_or(&field.name);
        let description = field.description.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let presence = if field.required && !field.nullable { "required" } else { "optional" };
        let (title, description, expects) =
            (truncated(title), truncated(&description), truncated(&field.expected_input()));
        let place = if count > 1 { format!("{}/{count} ", position + 1) } else { String::new() };
        self.prompt.write_lines([format!("  {}{}{description} ({expects}; {presence})", place.dimmed(), title.bold())]);
        for (pick, choice) in field.choices() {
            self.print(&format!("  {pick}) {}", choice.title));
        }
    }

    /// Shows a URL and opens the page after consent.
    pub(super) async fn confirm_page(
        &mut self,
        address: &str,
        browser: Browser,
    ) -> Result<Option<Value>, DialogueExit> {
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
