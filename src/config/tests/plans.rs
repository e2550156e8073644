//! Tests of plans: values, defaults, and diagnostics.

use serde_json::{Value, json};

use super::*;
use crate::model::{LlmSpec, Prompt, PromptSource, PromptTool, Task, Template, Work};

const VALID_PLAN: &str = r#"
name: competitor-brief
description: Compares what is found.
inputs:
  topic: { type: string, required: true, description: what to look for }
  limit: { type: integer, default: 5 }
defaults: { timeout: 2m, retry: { max_attempts: 3, backoff: exponential } }
max_parallel: 4
tasks:
  - id: find
    title: Find pages
    capability: web-search
    with: { query: "${{ inputs.topic }}", limit: "${{ inputs.limit }}" }
  - name: read
    foreach: ${{ tasks.find.output.results }}
    as: hit
    max_parallel: 3
    agent: research
    tool: fetch
    args: { url: "${{ hit.url }}" }
    retry: 5
    fallback: [{ agent: archive }]
    on_failure: continue
  - id: store
    if: tasks.read.succeeded >= 2
    approve: Store ${{ tasks.read.succeeded }} pages?
    agent: travel
    tool: keep
    depends_on: find
    with:
      pages: ${{ tasks.read.outputs }}
    timeout: 10s
    deadline: 1h
    effect: idempotent
    retry: { backoff: { kind: fixed, initial: 50ms } }
    await: { resource: "${{ status == 'completed' }}", failed: resource.error is defined }
outputs: { brief: "${{ tasks.store.text }}" }
"#;

#[test]
fn reads_every_key_of_a_plan() {
    let agents = agents();
    let ValidatedPlan { plan, warnings, .. } =
        load_plan("plans/x.yaml", VALID_PLAN, &agents, None).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(warnings.is_empty(), "{warnings}");
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).expect("a plan is JSON"));
    let stored: crate::model::Plan =
        serde_json::from_value(json!(plan)).expect("a plan is read back from what it was written as");
    assert_eq!(stored, plan);
}

#[test]
fn reports_all_errors_of_a_plan() {
    let errors = load_test_plan(include_str!("broken.yaml")).expect_err("the plan is broken");
    insta::assert_snapshot!(rendered(&errors));
    insta::assert_snapshot!("broken_plan_plain", errors.to_string());
}

#[test]
fn diagnostics_serialize_as_json() {
    let errors =
        load_test_plan("tasks:\n  - id: a\n    agnet: travel\n    agent: travel\n    tool: x\n").expect_err("a typo");
    assert_eq!(
        json!(errors),
        json!([{
            "code": "plan::unknown_key",
            "severity": "error",
            "message": "a task has no key `agnet`",
            "file": "plans/test.yaml",
            "offset": 21, "length": 5, "line": 3, "column": 5,
            "help": "did you mean `agent`?",
        }, {
            "code": "plan::unreachable_agent",
            "severity": "warning",
            "message": "the tools of agent `travel` are unknown: it exited immediately",
            "file": "plans/test.yaml",
            "offset": 46, "length": 6, "line": 4, "column": 12,
            "help": "its tools and arguments are not checked",
        }])
    );
}

#[test]
fn explains_unquoted_expressions() {
    let errors = load_test_plan("tasks:\n  - { id: a, with: { url: ${{ inputs.url }} } }").expect_err("invalid YAML");
    assert_eq!(
        errors.list()[0].help.as_deref(),
        Some("inside `{ }` and `[ ]`, a string with `${{ }}` must be in quotes"),
        "{errors}"
    );
}

/// Returns a plan with these tasks, each on an agent that accepts any arguments.
fn plan_with_tasks(tasks: &[(&str, &str)]) -> String {
    let task = |(id, more): &(&str, &str)| format!("  - {{ id: {id}, agent: archive, tool: reserve, {more} }}\n");
    format!("tasks:\n{}", tasks.iter().map(task).collect::<String>())
}

#[test]
fn errors_have_codes_and_lines() {
    for (more, code) in [
        ("needs: [b]", "unknown_task"),
        ("needs: a", "cycle"),
        ("with: { x: '${{ tasks.a.output }}' }", "cycle"),
        ("if: tasks.b.succeeded", "unknown_task"),
        ("if: '${{ 1 + }}'", "expression"),
        ("if: 'x ${{ 1 }}'", "expression"),
        ("with: { x: '${{ 1' }", "expression"),
        ("with: { x: '${{ inputs.y }}' }", "unknown_input"),
        ("with: { x: '${{ item }}' }", "unknown_name"),
        ("foreach: '${{ item }}'", "unknown_name"),
        ("foreach: 5", "wrong_type"),
        ("foreach: [1], as: tasks", "bad_name"),
        ("foreach: [1], as: a-b", "bad_name"),
        ("await: { resource: 'status ==' }", "expression"),
        ("await: { resource: 'tasks.a.output' }", "unknown_name"),
        ("await: { resource: done, failed: inputs.x }", "unknown_name"),
        ("await: { failed: error }", "missing_key"),
        ("await: done", "wrong_type"),
        ("as: x", "useless_key"),
        ("max_parallel: 2", "useless_key"),
        ("foreach: [1], max_parallel: 0", "out_of_range"),
        ("timeout: 5", "wrong_type"),
        ("timeout: 5 parsecs", "duration"),
        ("timeout: 0s", "duration"),
        ("retry: 0", "out_of_range"),
        ("retry: { max_attempts: 1.5 }", "wrong_type"),
        ("retry: { backoff: { jitter: 2 }, max_attempts: 2 }", "out_of_range"),
        ("retry: { backoff: { kind: fixed, factor: 2 }, max_attempts: 2 }", "backoff"),
        ("retry: { backoff: { initial: 2s, max: 1s }, max_attempts: 2 }", "backoff"),
        ("retry: { backoff: linear, max_attempts: 2 }", "unknown_word"),
        ("retry: { backoff: fixed }", "pointless_backoff"),
        ("effect: none", "unknown_word"),
        ("on_failure: ask", "unknown_word"),
        ("capability: booking", "two_routes"),
        ("fallback: [{ tool: x }]", "missing_key"),
        ("fallback: [{ agent: unknown }]", "unknown_agent"),
        ("fallback: [{ agent: old }]", "disabled_agent"),
        ("fallback: [{ agent: research }]", "tool_not_allowed"),
        ("fallback: [{ agent: archive }]", "duplicate_route"),
        ("fallback: [{ agent: archive, tool: x }]", "unknown_tool"),
        ("fallback: [{ agent: archive, tool: find }]", "bad_schema"),
        ("tasks: []", "two_works"),
        ("else: [{ id: c, sleep: 1s }]", "useless_key"),
        ("on_failure: [{ id: b, sleep: soon }]", "duration"),
        ("finally: [{ id: b, until: tomorrow }]", "time"),
        ("finally: [{ id: b, sleep: 1s, finally: [{ id: c, sleep: 1s }] }]", "nested_hook"),
        ("finally: [{ id: b, wait: {} }]", "missing_key"),
        ("finally: [{ id: b, ask: { message: hi, schema: { type: object } } }]", "bad_schema"),
        ("finally: [{ id: b, switch: x, cases: { y: [{ id: c, sleep: 1s }] } }]", "bad_switch"),
        ("repeat: { until: output, max: 2 }, foreach: [1]", "two_loops"),
        ("repeat: { until: output }", "missing_key"),
        ("name: b", "duplicate_key"),
        ("title: 5", "wrong_type"),
        ("title: ''", "empty"),
        ("with: [1]", "wrong_type"),
        ("with: { a: 1, a: 2 }", "duplicate_key"),
        ("with: { a: .nan }", "scalar"),
        ("with: { a: 99999999999999999999 }", "scalar"),
        ("with: { a: !thing 1 }", "scalar"),
        ("with: { <<: { a: 1 } }", "key"),
    ] {
        assert_eq!(diagnostic_codes(&plan_with_tasks(&[("a", more)])), [(format!("plan::{code}"), 2)], "{more}");
    }
}

#[test]
fn reports_errors_of_plan_keys() {
    for (text, code) in [
        ("", "plan::empty"),
        ("# nothing\n", "plan::empty"),
        ("5", "plan::wrong_type"),
        ("name: x", "plan::missing_key"),
        ("tasks: []", "plan::no_tasks"),
        ("tasks:", "plan::no_tasks"),
        ("a: b: c", "plan::syntax"),
        ("tasks:\n\t- x", "plan::syntax"),
        ("tasks: []\n---\ntasks: []", "plan::syntax"),
        ("? [a]\n: b", "plan::key"),
        ("tasks: &a [*a]", "plan::alias"),
    ] {
        let diagnostic = diagnostic_codes(text);
        assert_eq!(diagnostic.first().map(|(code, _)| code.as_str()), Some(code), "{text}: {diagnostic:?}");
    }
    assert_eq!(
        diagnostic_codes(
            "plan: x\ninputs: { a b: { type: text }, c: { type: integer, default: x } }\nmax_parallel: 0\ntasks: [{}]"
        ),
        [
            ("plan::unknown_key".to_owned(), 1),
            ("plan::bad_name".to_owned(), 2),
            ("plan::unknown_word".to_owned(), 2),
            ("plan::input_type".to_owned(), 2),
            ("plan::out_of_range".to_owned(), 3),
            ("plan::missing_key".to_owned(), 4),
        ]
    );
}

#[test]
fn checks_known_arguments() {
    let search = |with: &str| {
        format!(
            "inputs: {{ q: {{ type: string }} }}\ntasks:\n  - {{ id: a, agent: research, tool: search, with: {{ \
             {with} }}, title: \"x\" }}\noutputs: {{ q: '${{{{ inputs.q }}}}' }}"
        )
    };
    for (with, code) in [
        ("query: x", None),
        ("query: '${{ inputs.q }}', limit: '${{ inputs.q }}', tags: '${{ inputs.q }}'", None),
        ("query: x, tags: [a, '${{ inputs.q }}']", None),
        ("limit: 3", Some("missing_argument")),
        ("query: x, limt: 3", Some("unknown_argument")),
        ("query: '${{ inputs.q }}', limit: 99", Some("bad_argument")),
        ("query: 5", Some("bad_argument")),
        ("query: x, tags: []", Some("bad_argument")),
        ("query: x, tags: [c]", Some("bad_argument")),
        ("query: x, tags: { a: '${{ inputs.q }}' }", Some("bad_argument")),
    ] {
        let expected: Vec<_> = code.into_iter().map(|code| (format!("plan::{code}"), 3)).collect();
        assert_eq!(diagnostic_codes(&search(with)), expected, "{with}");
    }
}

fn arguments(task: &Task) -> Value {
    task.arguments().expect("a call").0.clone()
}

#[test]
fn capability_selects_all_agents_that_list_it() {
    let routes = |more: &str| {
        let text = format!("tasks:\n  - {{ id: a, {more} }}");
        let plan = load_plan("x", &text, &agents(), None).unwrap_or_else(|errors| panic!("{errors}")).plan;
        plan.tasks[0]
            .routes()
            .iter()
            .map(|route| format!("{} {} {}", route.rank, route.agent, route.tool))
            .collect::<Vec<_>>()
    };
    assert_eq!(routes("capability: web-search"), ["0 research search", "0 archive find"]);
    assert_eq!(
        routes("capability: booking, tool: book, fallback: [{ agent: archive }, { agent: research, tool: fetch }]"),
        ["0 travel book", "0 archive reserve", "1 archive book", "2 research fetch"]
    );
    assert_eq!(
        diagnostic_codes("tasks:\n  - { id: a, capability: booking }").first(),
        Some(&("plan::no_tool".to_owned(), 2))
    );
    assert_eq!(
        diagnostic_codes("tasks:\n  - { id: a, capability: cooking }"),
        [("plan::unknown_capability".to_owned(), 2)]
    );
    assert_eq!(diagnostic_codes("tasks:\n  - { id: a }"), [("plan::no_route".to_owned(), 2)]);
}

#[test]
fn locates_expression_errors() {
    let at = |value: &str, part: &str| {
        let text = format!("tasks:\n  - id: a\n    agent: archive\n    tool: reserve\n    with:\n      x: {value}\n");
        let errors = load_test_plan(&text).expect_err(value);
        let position = errors.list()[0].position.expect("it is located");
        assert_eq!(&text[position.offset..position.offset + position.length], part, "{value}");
    };
    at("${{ inputs.nope }}", "inputs.nope");
    at("\"a ${{ inputs.nope }}\"", "inputs.nope");
    at("'it''s ${{ inputs.nope }}'", "inputs.nope");
    at("\"tab \\t ${{ inputs.nope }}\"", "inputs.nope");
    at("|\n        ä line\n        and ${{ inputs.nope }}\n", "inputs.nope");
    at(">-\n        ${{ 1\n        + inputs.nope }}\n", "inputs.nope");
    at("ä ${{ tasks.b.output }}", "tasks.b.output");
    at("ä ${{ 'a' ~ }}", "~");
}

#[test]
fn reads_scalars_by_the_core_schema() {
    let text = plan_with_tasks(&[(
        "a",
        "with: { a: 0x10, b: 0o17, c: 1e3, d: -7, e: +7, f: .5, g: 18446744073709551615, h: yes, i: ~, j: '5', \
         k: 1.0, l: 12:30, m: 1_000, n: True, o: -a, p: 5., q: !!str 5, r: -9223372036854775808, s: 2026-11-20 }",
    )]);
    let plan = load_test_plan(&text).unwrap_or_else(|errors| panic!("{errors}")).plan;
    assert_eq!(
        arguments(&plan.tasks[0]),
        json!({
            "a": 16, "b": 15, "c": 1000.0, "d": -7, "e": 7, "f": 0.5, "g": u64::MAX, "h": "yes", "i": null, "j": "5",
            "k": 1.0, "l": "12:30", "m": "1_000", "n": true, "o": "-a", "p": 5.0, "q": "5", "r": i64::MIN,
            "s": "2026-11-20",
        })
    );
}

#[test]
fn reports_cycles_with_their_edges() {
    let text = plan_with_tasks(&[
        ("a", "needs: [b]"),
        ("b", "with: { x: '${{ tasks.c.output }}' }"),
        ("c", "needs: [a]"),
        ("d", "needs: [e]"),
        ("e", "needs: [d]"),
        ("f", "needs: [f]"),
    ]);
    let errors = load_test_plan(&text).expect_err("there are cycles");
    let messages: Vec<_> = errors
        .list()
        .iter()
        .map(|diagnostic| {
            (
                diagnostic.position.map_or(0, |position| position.line),
                diagnostic.message.as_str(),
                diagnostic.help.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        messages,
        [
            (
                4,
                "tasks depend on each other: `a` needs `b`, `b` needs `c`, `c` needs `a`",
                Some("remove one of these dependencies: lines 2, 3, 4")
            ),
            (
                6,
                "tasks depend on each other: `d` needs `e`, `e` needs `d`",
                Some("remove one of these dependencies: lines 5, 6")
            ),
            (
                7,
                "task `f` depends on itself and can never start",
                Some("a task cannot use its own result: refer to another task, or remove this")
            ),
        ]
    );
}

#[test]
fn aliases_repeat_values() {
    let text = "tasks:\n  - { id: a, agent: &who archive, tool: &what reserve, with: &args { x: [1, { y: 2 }] } }\n  \
                - { id: b, agent: *who, tool: *what, with: *args }\n";
    let plan = load_test_plan(text).unwrap_or_else(|errors| panic!("{errors}")).plan;
    assert_eq!(arguments(&plan.tasks[1]), json!({"x": [1, {"y": 2}]}));
    assert_eq!(plan.tasks[1].routes(), plan.tasks[0].routes());
}

#[test]
fn reads_prompts_with_tools_and_schema() {
    let agents = AgentsFile { models: vec![model()], ..agents() };
    let text = "tasks:\n  - id: a\n    prompt: Why?\n    model: small\n    tools: [research, archive.find]\n    \
                output_schema: { type: object }\n    max_turns: 2\n";
    let plan = load_plan("x", text, &agents, None).unwrap_or_else(|errors| panic!("{errors}")).plan;
    let tool = |agent: &str, tool: Option<&str>| PromptTool { agent: agent.into(), tool: tool.map(Into::into) };
    let expected = Prompt {
        model: Some("small".into()),
        system: None,
        source: PromptSource::Prompt(Template(json!("Why?"))),
        output_schema: Some(json!({"type": "object"})),
        tools: vec![tool("research", None), tool("archive", Some("find"))],
        max_turns: 2,
        max_tokens: 4_096,
    };
    assert_eq!(plan.tasks[0].work, Work::Prompt(Box::new(expected)));
    assert_eq!(plan.agents.len(), 2, "the agents of its tools are connected too");
}

#[test]
fn prompt_errors_have_codes() {
    let agents = AgentsFile { models: vec![model()], ..agents() };
    for (keys, code) in [
        ("prompt: Why?, agent: research", "plan::two_works"),
        ("prompt: Why?, await: { resource: done }", "plan::two_works"),
        ("prompt: Why?, tools: [unknown]", "plan::unknown_agent"),
        ("prompt: Why?, output_schema: nowhere.json", "plan::bad_schema"),
        ("prompt: Why?, output_schema: { type: 5 }", "plan::bad_schema"),
        ("prompt: \"${{ tasks.b.output }}\"", "plan::unknown_task"),
        ("prompt: Why?, max_turns: 0", "plan::out_of_range"),
        ("prompt: Why?, model: huge", "plan::unknown_model"),
    ] {
        let diagnostic = load_plan("x", &format!("tasks:\n  - {{ id: a, {keys} }}"), &agents, None).expect_err(keys);
        assert_eq!(
            diagnostic.list().iter().map(|diagnostic| diagnostic.code.as_str()).collect::<Vec<_>>(),
            [code],
            "{keys}"
        );
    }
    let none = load_plan("x", "tasks:\n  - { id: a, prompt: Why? }", &super::agents(), None).expect_err("no model");
    assert_eq!(none.list()[0].code, "plan::no_model");
}

fn model() -> LlmSpec {
    let text = "[models.small]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";
    let file = parse_agents("agents.toml", text, &TestEnvironment::of(&[])).unwrap_or_else(|errors| panic!("{errors}"));
    file.models.into_iter().next().expect("a model")
}

#[test]
fn synthesis_uses_the_plan_description_as_plain_text() {
    let agents = AgentsFile { models: vec![model()], ..agents() };
    let text = "description: Say ${{ x }}\nresult: synthesize\ntasks:\n  - { id: a, prompt: Why? }\n";
    let plan = load_plan("x", text, &agents, None).unwrap_or_else(|errors| panic!("{errors}")).plan;
    let request = plan.tasks[1].prompt().map(|prompt| prompt.source.clone());
    assert_eq!(request, Some(PromptSource::Prompt(Template(json!("Say $${{ x }}")))));
}

#[test]
fn names_can_have_256_characters() {
    let plan = |length: usize| {
        let name = "n".repeat(length);
        let text = format!(
            "inputs: {{{name}: {{type: string, default: x}}}}\n\
             tasks: [{{id: {name}, agent: travel, tool: x, with: {{a: '${{{{ inputs.{name} }}}}'}}}}]\n\
             outputs: {{{name}: '${{{{ tasks.{name}.output }}}}'}}\n"
        );
        load_plan("x", &text, &agents(), None)
    };
    let loaded = plan(256).unwrap_or_else(|errors| panic!("{errors}")).plan;
    assert_eq!(loaded.tasks[0].id.as_str().len(), 256);
    let errors = plan(257).expect_err("the names are too long");
    assert!(errors.list().iter().any(|mistake| mistake.code == "plan::bad_name"), "{errors}");
}

#[test]
fn shows_hyphenated_keys_as_written() {
    let text = "tasks:\n\
        - { id: aa-1, agent: travel, tool: x }\n\
        - { id: use, agent: travel, tool: x, with: { a: \"${{ tasks.aa-1.output.args.hello-there }}\" } }\n\
        - { id: each, foreach: [{ a-b: 1 }], as: f, agent: travel, tool: x, with: { p: \"${{ f.file-name.x + 1 }}\" } \
                                                                                         }\n\
        - { id: minus, agent: travel, tool: x, with: { a: \"${{ tasks.aa-1.output.n - limit }}\" } }\n";
    let errors = load_plan("x", text, &agents(), None).expect_err("three names mean nothing");
    let helps: Vec<_> = errors.list().iter().filter_map(|mistake| mistake.help.as_deref()).collect();
    assert_eq!(
        helps,
        [
            "`-` is a minus sign here; a key with a hyphen is written `['hello-there']`",
            "`-` is a minus sign here; a key with a hyphen is written `['file-name']`",
            "available: `inputs`, `tasks`, `run`, `plan`, `env`; a literal `${{` is written `$${{`",
        ],
        "{errors}"
    );
}

#[test]
fn frequent_mistakes_have_help() {
    let texts = [
        plan_with_tasks(&[("a", "approve: true")]),
        plan_with_tasks(&[("a", "if: 1 = 2")]),
        "tasks:\n  - id: a\n    agent: archive\n   tool: reserve\n".to_owned(),
        "inputs: { n: { type: int }, b: { type: bool }, l: { type: list } }\ntasks: []".to_owned(),
        "hello".to_owned(),
    ];
    let report = |text: &String| load_plan("x", text, &agents(), None).expect_err(text).to_string();
    insta::assert_snapshot!(texts.iter().map(report).collect::<Vec<_>>().join("\n---\n"));
}
