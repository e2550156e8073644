//! Entry points for fuzzing. Each reads data that a file, an agent, or a model may contain, and panics if a guarantee of
//! the reader does not hold. `fuzz/` runs them with libFuzzer; the tests run them on its corpus with random changes.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::config::{AgentsFile, Diagnostics, ProcessEnvironment, format_plan, load_plan, parse_agents};
use crate::expression::{
    Binding, ExpressionError, LoopPosition, Scope, TaskLookup, TaskView, evaluate, evaluate_document_condition,
    references, render, split_template,
};
use crate::mcp;
use crate::model::{Expression, Form, Plan, Template, ToolOutput};
use crate::ui::forms::form::FormSchema;

/// The agents that the plans of the corpus use.
const AGENTS: &str = "
[llm]
base_url = \"http://127.0.0.1:9/v1\"
model = \"m\"
[agents.a]
command = \"true\"
capabilities = { search = \"find\" }
[agents.b]
url = \"http://127.0.0.1:9/mcp\"
effect = \"idempotent\"
";

static AGENTS_FILE: LazyLock<AgentsFile> = LazyLock::new(|| {
    parse_agents("agents.toml", AGENTS, &ProcessEnvironment).unwrap_or_else(|errors| panic!("{errors}"))
});

/// Reads a plan file. A valid plan survives the journal, and the diagnostics of an invalid one can be displayed.
pub fn plan(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match load_plan("plan.yaml", text, &AGENTS_FILE, None) {
        Ok(valid) => {
            display(&valid.warnings);
            let json = serde_json::to_string(&valid.plan).expect("a plan is JSON");
            let read: Plan = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
            assert_eq!(read, valid.plan);
            // The formatter may refuse a plan, but never changes one.
            if let Ok(formatted) = format_plan("plan.yaml", text) {
                let read = load_plan("plan.yaml", &formatted, &AGENTS_FILE, None);
                assert_eq!(read.map(|valid| valid.plan).unwrap_or_else(|errors| panic!("{errors}")), valid.plan);
            }
        }
        Err(errors) => {
            assert!(!errors.list().is_empty(), "an invalid plan has diagnostics");
            display(&errors);
        }
    }
}

fn display(diagnostics: &Diagnostics) {
    let mut text = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    handler.render_report(&mut text, &diagnostics.report()).expect("a String accepts every write");
}

/// An ended task, and one item of it.
struct EndedTask(ToolOutput);

impl TaskLookup for EndedTask {
    fn task(&self, id: &str) -> Option<TaskView<'_>> {
        let items = crate::expression::ForeachItems { lookup: self, indices: 0..2 };
        (id == "a").then_some(TaskView { items: Some(items), ..self.item(0)? })
    }

    fn item(&self, _: usize) -> Option<TaskView<'_>> {
        Some(TaskView { status: "succeeded", agent: Some("a"), error: None, output: Some(&self.0), items: None })
    }
}

/// Evaluates an expression, and renders it as part of a template. Errors point into the text.
pub fn expression(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let check = |text: &str, error: ExpressionError| {
        let is_inside = error.range.clone().is_none_or(|range| text.get(range).is_some());
        assert!(is_inside, "{error:?} points out of {text:?}");
    };
    let value = json!({"n": 5, "text": "sea", "list": [1, "b", null], "deep": {"a b": [{"c": 1.5}]}});
    let tasks = EndedTask(ToolOutput::new([json!({"type": "text", "text": "{\"n\": 1}"})], Some(value.clone())));
    let scope = Scope {
        bindings: vec![Binding::borrowed("hit", &value)],
        position: Some(LoopPosition { index: 1, length: Some(3) }),
        ..Scope::new(&value, &tasks)
    };
    let expression = Expression(text.to_owned());
    let _ = evaluate(&expression, &scope).map_err(|error| check(text, error));
    let _ = evaluate_document_condition(&expression, &value).map_err(|error| check(text, error));
    let _ = references(&expression).map_err(|error| check(text, error));
    let _ = split_template(text).map_err(|error| check(text, error));
    for template in [text.to_owned(), format!("${{{{ {text} }}}}"), format!("é ${{{{ {text} }}}} ${{{{ 1 }}}}")] {
        let _ = render(&Template(Value::String(template.clone())), &scope).map_err(|error| check(&template, error));
    }
}

/// Reads a message of an agent as the response to each kind of request.
pub fn message(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        mcp::fuzzing::message(text);
    }
}

/// Reads a stream of server-sent events, which does not depend on how the bytes arrive.
pub fn event_stream(data: &[u8]) {
    mcp::fuzzing::event_stream(data);
}

/// Reads the parameters of a question of an agent, and answers its form. A complete answer consists of the fields.
pub fn form(data: &[u8]) {
    let Ok(params) = serde_json::from_slice::<Value>(data) else { return };
    let Some(Form::Fields { schema }) = mcp::fuzzing::elicitation(&params) else { return };
    let form = FormSchema::parse_schema(&schema);
    let mut answer = serde_json::Map::new();
    for field in &form.fields {
        let _ = field.expected_input();
        let mut typed = vec![String::new(), "yes".to_owned(), "1".to_owned(), "1, 2".to_owned(), "é".to_owned()];
        typed.extend(field.choices().map(|(key, _)| key).take(3));
        for line in typed {
            if let Ok(value) = field.parse(&line) {
                let _ = field.format_value(&value);
                answer.insert(field.name.clone(), value);
            }
        }
    }
    if let Ok(complete) = form.complete_answer(answer) {
        let fields: Vec<&str> = form.fields.iter().map(|field| field.name.as_str()).collect();
        let object = complete.as_object().expect("an answer is an object");
        assert!(object.keys().all(|key| fields.contains(&key.as_str())), "{object:?} has other keys than {fields:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// What the formats give a meaning to, besides the text of the corpus.
    const TOKENS: &[&str] = &[
        "\"",
        "'",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "\r",
        " ",
        "\t",
        "#",
        "&a",
        "*a",
        "<<: ",
        "- ",
        "|\n",
        "${{",
        "}}",
        "0",
        "-1",
        "1e999",
        "99999999999999999999",
        "0.1",
        "null",
        "true",
        "\u{feff}",
        "é",
        "\\ud800",
        "\0",
        "$ref",
        "data:",
        "id:",
        "\n\n",
    ];

    /// A change of a text, at a position that [`Index`] scales to its length.
    #[derive(Debug, Clone)]
    enum Edit {
        Insert(Index, &'static str),
        Remove(Index, usize),
        Repeat(Index, usize),
        Replace(Index, u8),
    }

    impl Edit {
        fn apply(&self, data: &mut Vec<u8>) {
            let range = |at: &Index, length: usize| {
                let start = at.index(data.len() + 1);
                start..(start + length).min(data.len())
            };
            match self {
                Self::Insert(at, token) => {
                    data.splice(range(at, 0), token.bytes());
                }
                Self::Remove(at, length) => {
                    data.drain(range(at, *length));
                }
                Self::Repeat(at, length) => {
                    let range = range(at, *length);
                    let copy = data[range.clone()].to_vec();
                    data.splice(range.end..range.end, copy);
                }
                Self::Replace(at, byte) if !data.is_empty() => {
                    let at = at.index(data.len());
                    data[at] = *byte;
                }
                Self::Replace(..) => {}
            }
        }
    }

    fn edits() -> impl Strategy<Value = Vec<Edit>> {
        let at = any::<Index>;
        let edit = prop_oneof![
            (at(), prop::sample::select(TOKENS)).prop_map(|(at, token)| Edit::Insert(at, token)),
            (at(), 0_usize..40).prop_map(|(at, length)| Edit::Remove(at, length)),
            (at(), 0_usize..40).prop_map(|(at, length)| Edit::Repeat(at, length)),
            (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        ];
        prop::collection::vec(edit, 1..6)
    }

    /// Returns the files of a corpus, in a stable order.
    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "`{}` has no files", folder.display());
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// Runs a target on its corpus, and on the files of the corpus with random changes.
    fn replay(name: &str, target: fn(&[u8])) {
        let seeds = corpus(name);
        seeds.iter().for_each(|seed| target(seed));
        // A failure is minimized and saved in `proptest-regressions/`.
        let config = ProptestConfig { cases: 256, source_file: Some(file!()), ..ProptestConfig::default() };
        proptest!(config, |(seed in any::<Index>(), edits in edits())| {
            let mut data = seed.get(&seeds).clone();
            edits.iter().for_each(|edit| edit.apply(&mut data));
            target(&data);
        });
    }

    #[test]
    fn plan_target_accepts_its_corpus() {
        replay("plan", plan);
    }

    #[test]
    fn expression_target_accepts_its_corpus() {
        replay("expression", expression);
    }

    #[test]
    fn message_target_accepts_its_corpus() {
        replay("message", message);
    }

    #[test]
    fn event_stream_target_accepts_its_corpus() {
        replay("event_stream", event_stream);
    }

    #[test]
    fn form_target_accepts_its_corpus() {
        replay("form", form);
    }

    #[test]
    fn corpus_contains_valid_data() {
        let text = |seed: Vec<u8>| String::from_utf8(seed).unwrap();
        let is_plan = |seed| load_plan("plan.yaml", &text(seed), &AGENTS_FILE, None).is_ok();
        assert!(corpus("plan").into_iter().filter(|seed| is_plan(seed.clone())).count() >= 2);
        let is_form = |seed: Vec<u8>| mcp::fuzzing::elicitation(&serde_json::from_slice(&seed).unwrap()).is_some();
        assert!(corpus("form").into_iter().all(is_form));
        let is_expression = |seed| references(&Expression(text(seed))).is_ok();
        assert!(corpus("expression").into_iter().filter(|seed| is_expression(seed.clone())).count() >= 3);
    }
}
