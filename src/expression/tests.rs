//! The semantics of expressions, tested on a run with a few tasks.

mod bounds;
mod resources;

use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;
use crate::model::{Expression, Template, Timestamp, ToolOutput};

/// A run without tasks.
pub(super) struct NoTasks;

impl TaskLookup for NoTasks {
    fn task(&self, _: &str) -> Option<TaskView<'_>> {
        None
    }

    fn item(&self, _: usize) -> Option<TaskView<'_>> {
        None
    }
}

struct EndedTasks {
    tasks: HashMap<&'static str, TaskView<'static>>,
    /// The items of the `foreach` task `each`.
    items: Vec<TaskView<'static>>,
}

impl TaskLookup for EndedTasks {
    fn task(&self, id: &str) -> Option<TaskView<'_>> {
        let items = (id == "each").then_some(ForeachItems { lookup: self, indices: 0..self.items.len() });
        Some(TaskView { items, ..self.tasks.get(id).cloned()? })
    }

    fn item(&self, index: usize) -> Option<TaskView<'_>> {
        self.items.get(index).cloned()
    }
}

fn leak_output(output: ToolOutput) -> Option<&'static ToolOutput> {
    Some(Box::leak(Box::new(output)))
}

fn succeeded(structured: Value) -> TaskView<'static> {
    let content = [
        json!({"type": "text", "text": "one"}),
        json!({"type": "resource_link", "uri": "doc://1"}),
        json!({"type": "text", "text": "two"}),
    ];
    let output = leak_output(ToolOutput::new(content, Some(structured)));
    TaskView { status: "succeeded", agent: Some("travel"), error: None, output, items: None }
}

fn failed() -> TaskView<'static> {
    TaskView { status: "failed", agent: Some("travel"), error: Some("it broke"), output: None, items: None }
}

fn with_scope<R>(body: impl FnOnce(&Scope<'_>) -> R) -> R {
    let text = leak_output(ToolOutput::new([json!({"type": "text", "text": "{\"a\": 1} ${{ inputs.limit }}"})], None));
    let tasks = HashMap::from([
        ("find-hotels", succeeded(json!({"results": [{"url": "u1"}, {"url": "u2"}], "total": 2, "big": u64::MAX}))),
        ("say", TaskView { output: text, ..succeeded(Value::Null) }),
        ("broken", failed()),
        ("unused", TaskView { status: "skipped", agent: None, error: None, output: None, items: None }),
        ("each", succeeded(Value::Null)),
    ]);
    let items = vec![succeeded(json!(1)), failed(), succeeded(json!({"n": 3}))];
    let tasks = EndedTasks { tasks, items };
    let inputs =
        json!({"topic": "sea", "limit": 5, "low": -3, "ratio": 1.0, "empty": [], "deep": {"a b": {"c": null}}});
    let env = indexmap::IndexMap::from([("REGION".to_owned(), "eu".to_owned())]);
    let hit = json!({"url": "u9", "tags": ["x", "y"]});
    body(&Scope {
        bindings: vec![Binding::borrowed("hit", &hit)],
        position: Some(LoopPosition { index: 1, length: Some(3) }),
        run: RunValues {
            id: "01a",
            started_at: Timestamp(1_700_000_000_000),
            plan: "trip",
            env: Some(&env),
            time: Timestamp(1_700_000_001_500),
        },
        ..Scope::new(&inputs, &tasks)
    })
}

fn expression(text: &str) -> Expression {
    Expression(text.to_owned())
}

#[test]
fn path_resolves_to_its_value() {
    with_scope(|scope| {
        for (text, value) in [
            ("inputs.topic", json!("sea")),
            (" inputs.limit ", json!(5)),
            ("inputs.low", json!(-3)),
            ("inputs.ratio", json!(1.0)),
            ("inputs['deep']['a b'].c", json!(null)),
            ("hit.tags[0]", json!("x")),
            ("[loop.index, loop.index0, loop.length]", json!([2, 1, 3])),
            ("[loop.first, loop.last]", json!([false, false])),
            ("loop.index", json!(2)),
            ("hit.tags[-1]", json!("y")),
            ("hit", json!({"url": "u9", "tags": ["x", "y"]})),
            ("tasks.find-hotels.output.results[1].url", json!("u2")),
            ("tasks['find-hotels'].output.big", json!(u64::MAX)),
            ("tasks.find-hotels.text", json!("one\ntwo")),
            ("tasks.find-hotels.content[1].uri", json!("doc://1")),
            ("tasks.find-hotels.resources", json!([{"type": "resource_link", "uri": "doc://1"}])),
            ("tasks.find-hotels.status", json!("succeeded")),
            ("tasks.find-hotels.agent", json!("travel")),
            ("tasks.find-hotels.error", json!(null)),
            ("tasks.find-hotels.succeeded", json!(true)),
            ("tasks.broken.failed", json!(true)),
            ("tasks.broken.error", json!("it broke")),
            ("tasks.unused.skipped", json!(true)),
            ("tasks.unused.succeeded", json!(false)),
            ("tasks.each.succeeded", json!(2)),
            ("tasks.each.failed", json!(1)),
            ("tasks.each.skipped", json!(0)),
            ("tasks.each.outputs", json!([1, {"n": 3}])),
            ("tasks.each.output[1].n", json!(3)),
            ("tasks.each.items[1].error", json!("it broke")),
            ("tasks.each.items[2].output.n", json!(3)),
            ("run.id", json!("01a")),
            ("run.started_at", json!("2023-11-14T22:13:20.000Z")),
            ("run", json!({"id": "01a", "started_at": "2023-11-14T22:13:20.000Z"})),
            ("plan.name", json!("trip")),
            ("env.REGION", json!("eu")),
            ("now()", json!("2023-11-14T22:13:21.500Z")),
            (" now( ) ", json!("2023-11-14T22:13:21.500Z")),
            (
                "tasks.each.items[1]",
                json!({"status": "failed", "output": null, "text": null, "error": "it broke", "agent": "travel"}),
            ),
        ] {
            assert_eq!(evaluate(&expression(text), scope), Ok(value), "{text}");
        }
    });
}

#[test]
fn evaluates_compound_expressions() {
    with_scope(|scope| {
        for (text, value) in [
            ("tasks.find-hotels.output.total + 1", json!(3)),
            ("tasks.find-hotels.output.big", json!(u64::MAX)),
            ("[tasks.find-hotels.output.big, inputs.ratio, inputs.low]", json!([u64::MAX, 1.0, -3])),
            ("9007199254740993 + 0", json!(9_007_199_254_740_993_u64)),
            ("inputs.limit - 1", json!(4)),
            ("tasks.each.succeeded >= 2 and not tasks.broken.succeeded", json!(true)),
            ("inputs.topic ~ '-' ~ inputs.limit", json!("sea-5")),
            ("{'a': {'b': inputs.topic}}", json!({"a": {"b": "sea"}})),
            ("tasks.find-hotels.output.results | map(attribute='url') | join(', ')", json!("u1, u2")),
            ("tasks.find-hotels.output.results | length", json!(2)),
            ("tasks.find-hotels.output['resul' ~ 'ts'][0].url", json!("u1")),
            ("tasks.broken.output | default('nothing')", json!("nothing")),
            ("tasks.broken.output is defined", json!(false)),
            ("inputs.topic is not defined", json!(false)),
            ("inputs.nothing.at.all is undefined", json!(true)),
            ("tasks.broken.output.n if tasks.broken.succeeded else 0", json!(0)),
            ("tasks.broken.succeeded and tasks.broken.output.n > 2", json!(false)),
            ("(tasks.say.output | replace(' ${{ inputs.limit }}', '') | fromjson).a", json!(1)),
            ("hit | tojson", json!("{\"url\":\"u9\",\"tags\":[\"x\",\"y\"]}")),
            ("inputs.deep | keys", json!(["a b"])),
            ("inputs.deep | values", json!([{"c": null}])),
            ("range(3) | list", json!([0, 1, 2])),
            ("[hit.url, 'tasks.nope.output']", json!(["u9", "tasks.nope.output"])),
            ("'sea' in inputs.topic", json!(true)),
            ("hit.tags[inputs.limit - 4]", json!("y")),
            ("1e3", json!(1000.0)),
            ("now() | date", json!("2023-11-14")),
            ("now() | date('%H:%M')", json!("22:13")),
            ("'2024-02-28' | add_time('1d12h') | date('%d.%m.%Y %H')", json!("29.02.2024 12")),
            ("'2024-03-01T00:30:00+02:00' | add_time('-1h')", json!("2024-02-29T21:30:00.000Z")),
            ("'2024-03-01T00:00:01' | timestamp", json!(1_709_251_201)),
            ("1709251201 | date('%A')", json!("Friday")),
            ("env.NOTHING | default('none')", json!("none")),
            ("env.NOTHING is defined", json!(false)),
            ("run.id ~ '/' ~ plan.name", json!("01a/trip")),
            ("'ä' ~ inputs.topic", json!("äsea")),
        ] {
            assert_eq!(evaluate(&expression(text), scope), Ok(value), "{text}");
        }
    });
}

/// Formats an error as its message and its help.
fn error_text(text: &str, error: &ExpressionError) -> String {
    let help = error.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
    format!("{text}\n  {error}{help}\n")
}

#[test]
fn missing_names_have_kinds_and_ranges() {
    use ExpressionErrorKind::{IndexOutOfRange, NoOutput, UnknownInput, UnknownKey, UnknownName, UnknownTask};
    let mut report = String::new();
    with_scope(|scope| {
        for (text, kind, part) in [
            ("tasks.find-hotels.output.resluts", UnknownKey, "tasks.find-hotels.output.resluts"),
            ("1 + tasks.find-hotels.output.resluts", UnknownKey, "tasks.find-hotels.output.resluts"),
            ("tasks.find-hotels.output.resluts == 1", UnknownKey, "tasks.find-hotels.output.resluts"),
            ("tasks.find-hotels.output.results[7].url", IndexOutOfRange, "tasks.find-hotels.output.results[7]"),
            ("hit.tags[0].x", UnknownKey, "hit.tags[0].x"),
            ("tasks.find-hotels.output.results.url", UnknownKey, "tasks.find-hotels.output.results.url"),
            ("tasks.say.output.a", UnknownKey, "tasks.say.output.a"),
            ("tasks.broken.output", NoOutput, "tasks.broken.output"),
            ("tasks.unused.text", NoOutput, "tasks.unused.text"),
            ("tasks.each.text", UnknownKey, "tasks.each.text"),
            ("tasks.say.outputs", UnknownKey, "tasks.say.outputs"),
            ("tasks.say.ouput", UnknownKey, "tasks.say.ouput"),
            ("tasks.nope.output", UnknownTask, "tasks.nope"),
            ("inputs.topics", UnknownInput, "inputs.topics"),
            ("inputs.limit-1", UnknownInput, "inputs.limit-1"),
            ("hti.url", UnknownName, "hti"),
            ("1 + sea", UnknownName, "sea"),
            ("run.name", UnknownKey, "run.name"),
            ("env.HOME", UnknownKey, "env.HOME"),
        ] {
            let start = text.find(part).expect("the part is in the text");
            let error = evaluate(&expression(text), scope).expect_err(text);
            assert_eq!((error.kind, error.range.clone()), (kind, Some(start..start + part.len())), "{text}");
            report += &error_text(text, &error);
        }
    });
    insta::assert_snapshot!(report);
}

#[test]
fn check_finds_syntax_errors() {
    use ExpressionErrorKind::{InvalidSyntax, UnknownFunction};
    let mut report = String::new();
    for (text, kind, part) in [
        ("", InvalidSyntax, ""),
        ("tasks", InvalidSyntax, "tasks"),
        ("tasks[inputs.which].output", InvalidSyntax, "tasks"),
        ("inputs.a == 'x", InvalidSyntax, "'x"),
        ("inputs.topic | lenght", UnknownFunction, "lenght"),
        ("inputs.topic is evn", UnknownFunction, "evn"),
        ("rang(3)", UnknownFunction, "rang"),
        ("inputs.topic | format(3)", UnknownFunction, "format"),
        ("debug()", UnknownFunction, "debug"),
        ("nov()", UnknownFunction, "nov"),
        ("now(1)", InvalidSyntax, "now("),
    ] {
        let error = references(&expression(text)).expect_err(text);
        let start = text.find(part).expect("the part is in the text");
        assert_eq!((error.kind, error.range.clone()), (kind, Some(start..start + part.len())), "{text}");
        report += &error_text(text, &error);
    }
    for text in [
        "inputs.a +",
        "(inputs.a",
        "inputs.a inputs.b",
        "a && b",
        "a || b",
        "!a",
        "a = 'y'",
        "a == 'x = y' b",
        "inputs..a",
        "}}",
        "{% if %}",
        "{{ a }}",
    ] {
        let error = references(&expression(text)).expect_err(text);
        assert_eq!(error.kind, InvalidSyntax, "{text}: {error}");
        report += &error_text(text, &error);
        assert!(text.get(error.range.expect("syntax errors are located")).is_some(), "{text}");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn template_keeps_types_and_interpolates_text() {
    with_scope(|scope| {
        let template = json!({
            "whole": "${{ inputs.limit }}",
            "list": ["${{ hit.tags }}", 1, null],
            "text": "about ${{ inputs.topic }}: ${{ hit.tags }}, ${{ inputs.limit }}!",
            "map": "${{ {'a': {'b': '}}'}} }}",
            "escaped": "a $${{ literal }} and ${{ inputs.topic }}",
            "data": "${{ tasks.say.output }}",
            "data inside": "say ${{ tasks.say.output }}",
            "money": "costs $5 {and} ${VAR}",
        });
        assert_eq!(
            render(&Template(template), scope),
            Ok(json!({
                "whole": 5,
                "list": [["x", "y"], 1, null],
                "text": "about sea: [\"x\",\"y\"], 5!",
                "map": {"a": {"b": "}}"}},
                "escaped": "a ${{ literal }} and sea",
                "data": "{\"a\": 1} ${{ inputs.limit }}",
                "data inside": "say {\"a\": 1} ${{ inputs.limit }}",
                "money": "costs $5 {and} ${VAR}",
            }))
        );
    });
}

#[test]
fn template_errors_have_ranges() {
    with_scope(|scope| {
        for (text, part) in [
            ("so: ${{ inputs.nope }}", "inputs.nope"),
            ("so: ${{ 1 + inputs.nope }}.", "inputs.nope"),
            ("ä ${{ x", "${{"),
        ] {
            let error = render(&Template(json!([text])), scope).expect_err(text);
            assert_eq!(&text[error.range.expect("the range is known")], part);
        }
    });
}

#[test]
fn empty_values_are_falsy() {
    with_scope(|scope| {
        for (text, holds) in [
            ("inputs.empty", false),
            ("inputs.topic", true),
            ("inputs.deep['a b'].c", false),
            ("0", false),
            ("0.0", false),
            ("''", false),
            ("inputs.low", true),
            ("tasks.broken.succeeded or tasks.unused.skipped", true),
        ] {
            assert_eq!(evaluate_condition(&expression(text), scope), Ok(holds), "{text}");
        }
        assert!(evaluate_condition(&expression("inputs.nope"), scope).is_err());
    });
}

#[test]
fn missing_document_fields_are_null() {
    let document = json!({"status": "done", "tasks": [1, 2], "deep": {"n": 0}});
    for (text, holds) in [
        ("status == 'done'", true),
        ("status", true),
        ("error", false),
        ("error == 'x' or deep.n == 0", true),
        ("error is defined", false),
        ("resource.tasks | length == 2", true),
        ("resource.error is defined", false),
    ] {
        assert_eq!(evaluate_document_condition(&expression(text), &document), Ok(holds), "{text}");
    }
    let error = evaluate_document_condition(&expression("error.message == 'x'"), &document).unwrap_err();
    assert_eq!(error.kind, ExpressionErrorKind::UnknownKey);
    assert_eq!(error.help.as_deref(), Some("known names: `status`, `tasks`, `deep`, `resource`"));
    assert_eq!(evaluate_document_condition(&expression("resource == 'done'"), &json!("done")), Ok(true));
}

#[test]
fn finds_references_everywhere() {
    let task = |id: &str, path: &[&str]| Reference::Task {
        id: id.to_owned().into(),
        path: path.iter().map(|&name| name.to_owned().into()).collect(),
    };
    let template = Template(json!({
        "a": "${{ tasks.find-hotels.output.results[0].url }} and ${{ inputs.q-1 | upper }}",
        "b": ["${{ [hit.url, tasks['x y'].status][inputs] }}", "tasks.not.one"],
    }));
    assert_eq!(
        template_references(&template),
        Ok(vec![
            task("find-hotels", &["output", "results", "0", "url"]),
            Reference::Input("q-1".into()),
            Reference::Name("hit"),
            task("x y", &["status"]),
        ])
    );
}

#[test]
fn detects_outcome_references() {
    for (text, is_outcome) in [
        ("tasks.a.succeeded >= 2", true),
        ("inputs.x or tasks['a'].status == 'failed'", true),
        ("tasks.a.error", true),
        ("tasks.a.output.status", false),
        ("inputs.failed", false),
        ("'tasks.a.failed'", false),
    ] {
        assert_eq!(has_outcome_reference(&expression(text)), is_outcome, "{text}");
    }
}

#[test]
fn hostile_expressions_fail() {
    with_scope(|scope| {
        for text in [
            "1+".repeat(8_000),
            "-".repeat(16_000),
            "not ".repeat(4_000),
            format!("{}1{}", "(".repeat(8_000), ")".repeat(8_000)),
            format!("{}1{}", "[".repeat(140), "]".repeat(140)) + "|nope",
            format!("1{}", "|list".repeat(3_000)),
            format!("inputs.deep{}", ".a".repeat(7_000)),
            "'a' * 10000000000".to_owned(),
            "range(99999) | map('string') | join('x' * 100000)".to_owned(),
            "'aaaa' | replace('', 'b' * 10000000) | replace('', 'b' * 10000000)".to_owned(),
            "range(10000000000)".to_owned(),
            "2 ** 1000".to_owned(),
            "1 / 0".to_owned(),
            "x".repeat(20_000),
        ] {
            let shown: String = text.chars().take(40).collect();
            assert!(evaluate(&expression(&text), scope).is_err(), "{shown}");
        }
        // At the maximum depth, an expression must return a value or an error and not overflow the stack.
        for text in
            ["1+".repeat(498) + "1", "not ".repeat(990) + "1", "-".repeat(990) + "1", "1 if 1 else ".repeat(240) + "1"]
        {
            let _ = evaluate(&expression(&text), scope);
        }
    });
}

#[test]
fn offered_filters_tests_and_functions_exist() {
    with_scope(|scope| {
        for name in jinja::names(scan::InvocationKind::Filter) {
            let error = evaluate(&expression(&format!("inputs.topic | {name}")), scope).err();
            assert_ne!(error.map(|error| error.kind), Some(ExpressionErrorKind::UnknownFunction), "{name}");
        }
        for name in jinja::names(scan::InvocationKind::Test) {
            let error = evaluate(&expression(&format!("inputs.topic is {name}")), scope).err();
            assert_ne!(error.map(|error| error.kind), Some(ExpressionErrorKind::UnknownFunction), "{name}");
        }
    });
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in "(inputs|tasks|hit|\\.|-|\\[|\\]|'|\"|\\{|\\}|\\$|\\||a|1| |\\(|\\)|ä|not|is|default){0,24}") {
        with_scope(|scope| {
            for error in [
                evaluate(&expression(&text), scope).err(),
                references(&expression(&text)).err(),
                render(&Template(json!(format!("${{{{ {text} }}}}"))), scope).err().map(|error| ExpressionError { range: None, ..error }),
            ].into_iter().flatten() {
                if let Some(range) = error.range {
                    proptest::prop_assert!(text.get(range).is_some());
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn hyphenated_key_is_suggested() {
    for (text, at, key) in [
        ("f.file-inputs", 6, Some("file-inputs")),
        ("f.a.b-2", 5, Some("b-2")),
        ("f.hello-there", 8, Some("hello-there")),
        ("f.to-do-list", 8, Some("to-do-list")),
        ("f.file - inputs", 6, None),
        ("f.file", 6, None),
        ("limit-there", 6, None),
        ("1 + sea", 4, None),
        ("f.é-b", 4, None),
    ] {
        let help = key.map(|key| format!("`-` is a minus sign here; a key with a hyphen is written `['{key}']`"));
        assert_eq!(hyphenated_key_help(text, at), help, "{text}");
    }
}
