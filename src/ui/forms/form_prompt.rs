//! Formats a pending question for display, and parses an answer that is given on the command line.
//! Text of agents is always escaped, and an answer must fit the form of the question.

use serde_json::{Value, json};

use super::form::{FormField, FormSchema};
use super::typed_text::strip_control_sequences;
use super::url_prompt::PageUrl;
use crate::model::{Answer, Asker, Effect, Form, ItemPlace, JsonObject, ProposedCall, Question, RunId};
use crate::view::text::{printable, printable_lines, truncated};

/// An answer to a question, as given on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerInput {
    /// Accepts, with these fields as `NAME=VALUE`; defaults of the form apply to the others.
    Accept(Vec<String>),
    /// Declines.
    Decline,
    /// Dismisses the question.
    Cancel,
}

impl AnswerInput {
    /// Converts the input to an answer for a question with this form.
    ///
    /// # Errors
    /// Describes the field that is unknown, missing, or invalid, and the expected value.
    pub fn into_answer(self, form: &Form) -> Result<Answer, String> {
        let given = match self {
            Self::Decline => return Ok(Answer::Decline),
            Self::Cancel => return Ok(Answer::Cancel),
            Self::Accept(given) => given,
        };
        match form {
            Form::Fields { schema } => {
                let form = FormSchema::parse_schema(schema);
                let content = form.complete_answer(parse_fields(&form, &given)?)?;
                Ok(Answer::Accept { content: Some(content) })
            }
            Form::Approval | Form::Url { .. } if given.is_empty() => Ok(Answer::Accept { content: None }),
            Form::Approval | Form::Url { .. } => Err("the question has no fields: accept or decline it".to_owned()),
        }
    }
}

/// Parses values of the fields of a form, given as `NAME=VALUE`.
///
/// # Errors
/// Describes the field that is invalid, and the expected value.
pub(crate) fn parse_fields(form: &FormSchema, given: &[String]) -> Result<JsonObject, String> {
    let mut content = JsonObject::new();
    for pair in given {
        let (name, text) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not of the form `NAME=VALUE`"))?;
        // Control sequences, such as those of arrow keys in a shell, are not part of an answer.
        let text = &strip_control_sequences(text);
        let value = match form.fields.iter().find(|field| field.name == name) {
            Some(field) => {
                field.parse(text).map_err(|problem| format!("`{name}`: {problem}{}", choices_text(field)))?
            }
            // The form rejects the unknown field and lists the fields that it has.
            None => Value::String(text.to_owned()),
        };
        if content.insert(name.to_owned(), value).is_some() {
            return Err(format!("`{name}` is set twice"));
        }
    }
    Ok(content)
}

/// Returns the choices of a field as part of a sentence, or an empty string if it has none.
fn choices_text(field: &FormField) -> String {
    let picks: Vec<String> =
        field.choices().map(|(_, choice)| format!("`{}`", field.format_value(&choice.value))).collect();
    if picks.is_empty() { String::new() } else { format!(": {}", picks.join(", ")) }
}

/// Describes who asks the question.
pub fn asker_name(question: &Question) -> String {
    match &question.asker {
        Asker::Plan { task } => {
            let place = question.item.map(|ItemPlace { number, of }| format!(", {number} of {of}"));
            format!("task `{task}` needs approval{}", place.unwrap_or_default())
        }
        Asker::Host { attempt } => format!("task `{}` was interrupted", attempt.task),
        Asker::Replan { number } => format!("replan {number} needs approval"),
        Asker::Agent(origin) => match &origin.attempt {
            Some(attempt) => format!("agent `{}` asks, in task `{}`", origin.agent, attempt.task),
            None => format!("agent `{}` asks", origin.agent),
        },
    }
}

/// Describes the effect of repeating a call.
pub fn effect_in_words(effect: Effect) -> &'static str {
    match effect {
        Effect::ReadOnly => "read only",
        Effect::Idempotent => "safe to repeat",
        Effect::AtMostOnce => "not safe to repeat",
    }
}

/// Limits the arguments of a call that are shown, each on a line.
const MAX_SHOWN_ARGUMENTS: usize = 12;

/// Returns the call that awaits approval, with its arguments, in lines of text.
pub(crate) fn call_lines(question: &Question) -> Vec<String> {
    let Some(ProposedCall { agent, tool, arguments, effect, .. }) = &question.call else { return Vec::new() };
    let effect = effect_in_words(*effect);
    let mut lines = vec![format!("call: {}.{} ({effect})", truncated(agent.as_str()), truncated(tool))];
    match arguments {
        Value::Object(arguments) => {
            let shown = arguments.iter().take(MAX_SHOWN_ARGUMENTS);
            lines
                .extend(shown.map(|(name, value)| format!("  {}: {}", truncated(name), truncated(&value.to_string()))));
            let hidden = arguments.len().saturating_sub(MAX_SHOWN_ARGUMENTS);
            if hidden > 0 {
                lines.push(format!("  and {hidden} more arguments"));
            }
        }
        Value::Null => {}
        other => lines.push(format!("  {}", truncated(other.as_str().unwrap_or_default()))),
    }
    lines
}

/// Returns all arguments of the call that awaits approval, in lines of text, if [`call_lines`] shortens them.
pub(crate) fn details(question: &Question) -> Option<Vec<String>> {
    let arguments = &question.call.as_ref()?.arguments;
    let is_long = |value: &Value| {
        let text = value.to_string();
        truncated(&text) != printable(&text)
    };
    let is_cut = match arguments {
        Value::Object(members) => {
            members.len() > MAX_SHOWN_ARGUMENTS
                || members.iter().any(|(name, value)| is_long(&name.as_str().into()) || is_long(value))
        }
        other => is_long(other),
    };
    let text = match arguments {
        // The question keeps only the beginning of very long arguments.
        Value::String(beginning) => format!("{beginning}\nthe rest of the arguments is not stored"),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    is_cut.then(|| printable_lines(&text).map(|line| line.into_owned()).collect())
}

/// Returns the question in lines of text, with the command that answers it.
pub fn question_lines(run: &RunId, question: &Question) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", question.id, truncated(&asker_name(question)))];
    lines.extend(printable_lines(&question.message).map(|line| format!("    {line}")));
    lines.extend(call_lines(question).into_iter().map(|line| format!("    {line}")));
    let mut options = "--accept".to_owned();
    match &question.form {
        Form::Approval => {}
        Form::Url { url, .. } => {
            lines.push(format!("    page: {}", printable(url)));
            match PageUrl::parse(url) {
                Ok(page) => lines.extend(page.warnings().into_iter().map(|warning| format!("    warning: {warning}"))),
                Err(problem) => lines.push(format!("    warning: {}", printable(&problem))),
            }
        }
        Form::Fields { schema } => {
            let form = FormSchema::parse_schema(schema);
            if let Some(reason) = &form.unchecked_reason {
                lines.push(format!("    warning: answers are not checked: {}", truncated(reason)));
            }
            lines.extend(form.fields.iter().flat_map(field_lines));
            let required: Vec<String> = form
                .fields
                .iter()
                .filter(|field| field.required && !field.nullable && field.default.is_none())
                .map(|field| format!("--field {}=…", truncated(&field.name)))
                .collect();
            if !required.is_empty() {
                options = required.join(" ");
            }
        }
    }
    lines.push(format!("    kapell answer {} {} {options}", run.short(), question.id));
    lines
}

/// Returns the command that answers the question.
pub fn answer_command(run: &RunId, question: &Question) -> Option<String> {
    question_lines(run, question).pop().map(|command| command.trim().to_owned())
}

fn field_lines(field: &FormField) -> Vec<String> {
    let about = [&field.title, &field.description].into_iter().flatten();
    let about: String = about.map(|text| truncated(text) + ": ").collect();
    let presence = match &field.default {
        Some(default) => format!("default {}", truncated(&field.format_value(default))),
        None if field.required && !field.nullable => "required".to_owned(),
        None => "optional".to_owned(),
    };
    let mut lines =
        vec![format!("    {}  {about}{}; {presence}", truncated(&field.name), truncated(&field.expected_input()))];
    lines.extend(
        field.choices().map(|(pick, choice)| format!("        {}) {}", truncated(&pick), truncated(&choice.title))),
    );
    lines
}

/// Returns the question as JSON: `{question, asker, item, tool, call, message, form, fields, deadline}`.
///
/// `form` holds the agent's schema or address. Each of `fields` is `{name, title, description, takes, required,
/// default, choices}`.
pub fn question_json(question: &Question) -> Value {
    let fields: Vec<Value> = match &question.form {
        Form::Fields { schema } => FormSchema::parse_schema(schema).fields.iter().map(field_json).collect(),
        Form::Approval | Form::Url { .. } => Vec::new(),
    };
    json!({
        "question": question.id,
        "asker": question.asker,
        "item": question.item,
        "tool": question.tool,
        "call": question.call,
        "message": question.message,
        "form": question.form,
        "fields": fields,
        "deadline": question.deadline,
    })
}

fn field_json(field: &FormField) -> Value {
    let choices: Vec<Value> =
        field.choices().map(|(_, choice)| json!({"value": choice.value, "title": choice.title})).collect();
    json!({
        "name": field.name,
        "title": field.title,
        "description": field.description,
        "takes": field.expected_input(),
        "required": field.required,
        "default": field.default,
        "choices": choices,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::agent_question;

    fn fields() -> Form {
        let schema = json!({
            "properties": {
                "confirm": {"type": "boolean", "title": "Book it", "description": "at this price"},
                "seats": {"type": "integer", "minimum": 1, "maximum": 9},
                "class": {"oneOf": [{"const": "eco", "title": "Economy"}, {"const": "biz", "title": "Business"}],
                    "default": "eco"},
                "notes": {"type": "string"},
            },
            "required": ["confirm", "class"],
        });
        Form::Fields { schema: schema.as_object().expect("an object").clone() }
    }

    fn accept(given: &[&str]) -> AnswerInput {
        AnswerInput::Accept(given.iter().map(|&pair| pair.to_owned()).collect())
    }

    #[test]
    fn parses_fields_by_the_form_and_adds_defaults() {
        let answer = accept(&["confirm=yes", "seats=2", "notes=a=b"]).into_answer(&fields());
        let content = json!({"confirm": true, "seats": 2, "notes": "a=b", "class": "eco"});
        assert_eq!(answer, Ok(Answer::Accept { content: Some(content) }));
        let picked = accept(&["confirm=no", "class=business"]).into_answer(&fields());
        assert_eq!(picked, Ok(Answer::Accept { content: Some(json!({"confirm": false, "class": "biz"})) }));
        assert_eq!(AnswerInput::Decline.into_answer(&fields()), Ok(Answer::Decline));
        assert_eq!(AnswerInput::Cancel.into_answer(&Form::Approval), Ok(Answer::Cancel));
        assert_eq!(accept(&[]).into_answer(&Form::Approval), Ok(Answer::Accept { content: None }));
    }

    #[test]
    fn reads_forms_of_schema_libraries() {
        let schema = json!({
            "$defs": {"Room": {"enum": ["single", "double"], "title": "Room", "type": "string"},
                "Count": {"type": "integer", "minimum": 1}},
            "properties": {
                "room": {"$ref": "#/$defs/Room"},
                "notes": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null},
                "nights": {"allOf": [{"$ref": "#/$defs/Count"}]},
                "extras": {"type": "array", "items": {"$ref": "#/$defs/Room"}},
                "board": {"anyOf": [{"const": "full", "title": "Full board"}, {"const": "none"}, {"type": "null"}]},
                "pet": {"type": ["boolean", "null"]},
                "class": {"anyOf": [{"$ref": "#/$defs/Room"}, {"type": "null"}]},
                "mixed": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            },
            "required": ["room", "nights", "pet"],
        });
        let form = Form::Fields { schema: schema.as_object().expect("an object").clone() };
        let given = ["room=double", "notes=window", "nights=2", "extras=single,double", "board=full board", "mixed=x"];
        let content = json!({"room": "double", "notes": "window", "nights": 2, "extras": ["single", "double"],
            "board": "full", "mixed": "x", "pet": null});
        assert_eq!(accept(&given).into_answer(&form), Ok(Answer::Accept { content: Some(content) }));
        let content = json!({"room": "single", "nights": 1, "notes": null, "class": "double", "pet": true});
        let given = ["room=\u{1b}[Asingle", "nights=1", "notes=null", "class=double", "pet=yes"];
        assert_eq!(accept(&given).into_answer(&form), Ok(Answer::Accept { content: Some(content) }));
        let problem = "`room`: `suite` does not fit: expected one of the choices: `single`, `double`";
        assert_eq!(accept(&["room=suite"]).into_answer(&form), Err(problem.to_owned()));
        let problem = "`nights`: 0 does not fit: expected a whole number, at least 1";
        assert_eq!(accept(&["room=single", "nights=0"]).into_answer(&form), Err(problem.to_owned()));
        let json = question_json(&agent_question("?", form.clone()));
        let choices = json!([{"value": "single", "title": "single"}, {"value": "double", "title": "double"}]);
        assert_eq!((&json["fields"][0]["choices"], &json["fields"][6]["choices"]), (&choices, &choices));
        let shown = question_lines(&"0190".into(), &agent_question("?", form)).join("\n");
        for part in [
            "    room  Room: one of the choices; required\n        1) single",
            "    notes  text; optional",
            "--field room=… --field nights=…",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn errors_name_the_field_and_expected_input() {
        for (given, problem) in [
            (&["confirm=perhaps"][..], "`confirm`: `perhaps` does not fit: expected yes or no"),
            (&["confirm=yes", "seats=12"], "`seats`: 12 does not fit: expected a whole number, 1 to 9"),
            (
                &["confirm=yes", "seats=007"],
                "`seats`: `007` does not fit: expected a whole number, 1 to 9; digits with a leading zero are text, \
                 and a \
                 number is written without it",
            ),
            (
                &["confirm=yes", "class=first"],
                "`class`: `first` does not fit: expected one of the choices: `Economy`, `Business`",
            ),
            (&["seats=2"], "`confirm` is required"),
            (
                &["confirm=yes", "row=3"],
                "`row` is not a field of the form; it has `confirm`, `seats`, `class`, `notes`",
            ),
            (&["confirm"], "`confirm` is not of the form `NAME=VALUE`"),
            (&["confirm=yes", "confirm=no"], "`confirm` is set twice"),
        ] {
            assert_eq!(accept(given).into_answer(&fields()), Err(problem.to_owned()), "{given:?}");
        }
        let problem = "the question has no fields: accept or decline it";
        assert_eq!(accept(&["confirm=yes"]).into_answer(&Form::Approval), Err(problem.to_owned()));
    }

    #[test]
    fn shows_a_question_with_its_answer_command() {
        let run = RunId::from("0190");
        let shown = |question: &Question| question_lines(&run, question).join("\n");
        insta::assert_snapshot!(shown(&agent_question("Book for\n120 EUR?", fields())), @r"
        q1  agent `travel` asks, in task `book`
            Book for
            120 EUR?
            confirm  Book it: at this price: yes or no; required
            seats  a whole number, 1 to 9; optional
            class  one of the choices; default Economy
                1) Economy
                2) Business
            notes  text; optional
            kapell answer 0190 q1 --field confirm=…
        ");
        let approval =
            Question { asker: Asker::Plan { task: "post".into() }, ..agent_question("Post it?", Form::Approval) };
        insta::assert_snapshot!(shown(&approval), @r"
        q1  task `post` needs approval
            Post it?
            kapell answer 0190 q1 --accept
        ");
        let page = agent_question("Sign in", Form::Url { url: "http://a.test/login".to_owned(), id: None });
        insta::assert_snapshot!(shown(&page), @r"
        q1  agent `travel` asks, in task `book`
            Sign in
            page: http://a.test/login
            warning: the connection is not encrypted
            kapell answer 0190 q1 --accept
        ");
    }

    #[test]
    fn agent_text_is_escaped() {
        let evil = "\x1b]0;owned\x07\u{202e}";
        let schema = json!({"properties": {(evil): {"type": "string", "title": evil, "description": evil,
            "pattern": evil, "default": evil}, "pick": {"enum": [evil]}}, "required": [evil]});
        let forms = [
            Form::Fields { schema: schema.as_object().expect("an object").clone() },
            Form::Url { url: format!("ftp://{evil}"), id: None },
        ];
        for form in forms {
            let shown = question_lines(&"0190".into(), &agent_question(evil, form)).concat();
            assert!(!shown.chars().any(|c| c == '\u{202e}' || c.is_control()), "{shown:?}");
        }
    }

    #[test]
    fn serializes_questions_as_json() {
        let json = question_json(&agent_question("Book?", fields()));
        assert_eq!(json["form"]["fields"]["schema"]["required"], json!(["confirm", "class"]));
        assert_eq!(
            json["fields"][2],
            json!({
                "name": "class", "title": null, "description": null, "takes": "one of the choices", "required": true,
                "default": "eco",
                "choices": [{"value": "eco", "title": "Economy"}, {"value": "biz", "title": "Business"}],
            })
        );
    }
}
