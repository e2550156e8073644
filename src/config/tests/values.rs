//! Tests of the values of plans: the environment, matrices, conditions of retries, and keys of other programs.

use serde_json::json;

use super::*;

/// Returns the agents of the tests, which allow plans to use a few variables.
fn agents_with_env() -> AgentsFile {
    let text = format!("{AGENTS}\n[plans]\nenv = [\"REGION\", \"UNSET\"]\n");
    parse_agents("agents.toml", &text, &TestEnvironment::of(&[("REGION", "eu"), ("OTHER", "x")])).expect("valid")
}

fn load_with_env(text: &str) -> Result<ValidatedPlan, Diagnostics> {
    load_plan("plans/test.yaml", text, &agents_with_env(), None)
}

fn codes(loaded: &Result<ValidatedPlan, Diagnostics>) -> Vec<&str> {
    let diagnostics = match loaded {
        Ok(validated) => &validated.warnings,
        Err(diagnostics) => diagnostics,
    };
    diagnostics.list().iter().map(|diagnostic| diagnostic.code.as_str()).collect()
}

#[test]
fn plan_captures_the_variables_that_it_uses() {
    let loaded = load_with_env(
        "name: x\ntasks: [{ id: a, agent: travel, tool: go, with: { to: \"${{ env.REGION }}\", at: \"${{ now() }}\", \
         run: \"${{ run.id ~ run.started_at ~ plan.name }}\", other: \"${{ env['UNSET'] | default('none') }}\" } }]",
    );
    let plan = loaded.expect("valid").plan;
    assert_eq!(json!(plan.env), json!({"REGION": "eu"}));
}

#[test]
fn names_of_the_run_are_checked() {
    let loaded = load_with_env(
        r#"
name: x
tasks:
  - { id: a, agent: travel, tool: go, with: { v: "${{ env.OTHER }}" } }
  - { id: b, agent: travel, tool: go, with: { v: "${{ env.REGOIN }}" } }
  - { id: c, agent: travel, tool: go, with: { v: "${{ env.UNSET }}" } }
  - { id: d, agent: travel, tool: go, with: { v: "${{ env | tojson }}" } }
  - { id: e, agent: travel, tool: go, with: { v: "${{ run.identifier }}" } }
  - { id: f, agent: travel, tool: go, with: { v: "${{ plan.title }}" } }
  - { id: g, agent: travel, tool: go, with: { v: "${{ now(1) }}" } }
  - { id: h, agent: travel, tool: go, foreach: [1], as: run }
"#,
    );
    insta::assert_snapshot!(rendered(&loaded.expect_err("invalid")));
}

#[test]
fn secret_variables_are_not_allowed_in_plans() {
    let text = "[plans]\nenv = [\"API_TOKEN\", \"CI_*\", \"HOME\"]\n";
    let errors = parse_agents("agents.toml", text, &TestEnvironment::of(&[])).expect_err("invalid");
    insta::assert_snapshot!(rendered(&errors));
}

#[test]
fn extension_keys_are_ignored() {
    let loaded = load_with_env(
        r#"
name: x
x-common: &common { to: "${{ inputs.unknown }}" }
x-retry: &retry { max_attempts: 2 }
tasks:
  - { id: a, x-owner: team, agent: travel, tool: go, retry: *retry }
"#,
    );
    assert_eq!(loaded.expect("valid").plan.tasks[0].retry.max_attempts, 2);
    let loaded = load_with_env("name: x\ntasks: [{ id: a, agent: travel, tool: go, retry: { x-a: 1 } }]");
    assert_eq!(codes(&loaded), ["plan::unknown_key"]);
}

#[test]
fn matrix_is_one_template_with_dependencies() {
    let loaded = load_with_env(
        r#"
name: x
inputs: { ns: { type: array, default: [1, 2] } }
tasks:
  - { id: a, agent: travel, tool: go }
  - id: b
    foreach: { matrix: { os: [linux, "${{ tasks.a.text }}"], n: inputs.ns } }
    as: m
    agent: travel
    tool: go
    with: { os: "${{ m.os }}", n: "${{ m.n }}" }
"#,
    );
    let plan = loaded.unwrap_or_else(|errors| panic!("{errors}")).plan;
    let expected = json!({
        "items": {"os": ["linux", "${{ tasks.a.text }}"], "n": "${{ inputs.ns }}"}, "matrix": true, "as": "m",
    });
    assert_eq!((json!(plan.tasks[1].foreach), json!(plan.tasks[1].needs)), (expected, json!(["a"])));
}

#[test]
fn invalid_matrices_are_reported() {
    let of = |foreach: &str| {
        codes(&load_with_env(&format!("name: x\ntasks: [{{ id: a, agent: travel, tool: go, foreach: {foreach} }}]")))
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("{ matrix: {} }"), ["plan::empty"]);
    assert_eq!(of("{}"), ["plan::missing_key"]);
    assert_eq!(
        of("{ matrix: { a: 1, b-c: [1], \"\": [2] } }"),
        ["plan::wrong_type", "plan::bad_name", "plan::bad_name"]
    );
    assert_eq!(of("{ matrix: { a: item.b } }"), ["plan::unknown_name"]);
}

/// Returns the plan with these inputs. Its task uses all of them.
fn plan_with_inputs(inputs: &str) -> Result<ValidatedPlan, Diagnostics> {
    let tasks = "tasks: [{ id: a, agent: travel, tool: x, with: { all: '${{ inputs }}' } }]";
    load_plan("plans/test.yaml", &format!("name: x\ninputs:\n{inputs}\n{tasks}\n"), &agents(), None)
}

const CONSTRAINED: &str = "
  mode: { type: string, enum: [fast, slow], default: fast }
  code: { type: string, pattern: '^[A-Z]{2}[0-9]+$', min_length: 3, max_length: 5, default: AB1 }
  size: { type: integer, minimum: 1, maximum: 10, default: 2 }
  ratio: { type: number, minimum: 0.5, default: 1 }
  tags: { type: array, min_items: 1, max_items: 2, default: [a] }
  brief: { type: file, max_length: 10 }
  token: { type: secret, from_env: API_TOKEN, min_length: 8 }
";

#[test]
fn constrained_inputs_are_checked() {
    let plan = plan_with_inputs(CONSTRAINED).unwrap_or_else(|errors| panic!("{errors}")).plan;
    let stored: crate::model::Plan = serde_json::from_value(json!(plan)).expect("a plan is JSON");
    assert_eq!(stored, plan);
    let given = json!({"mode": "slow", "code": "XY99", "size": 10, "ratio": 0.5, "tags": ["a", "b"]});
    let environment = TestEnvironment::of(&[("API_TOKEN", "s3cret-value")]);
    let sources = InputSources { given: Some(&given), environment: Some(&environment), ..InputSources::default() };
    let inputs = resolve_inputs_from(&plan, &sources).expect("valid");
    assert_eq!(
        (&inputs["token"], &inputs["brief"], &inputs["mode"]),
        (&json!("s3cret-value"), &json!(null), &json!("slow"))
    );

    let given = json!({"mode": "medium", "code": "xy99999", "size": 11, "ratio": 0.25, "tags": []});
    let parameters = ["brief=no/such/file.md".to_owned(), "token=short1".to_owned()];
    let sources = InputSources { given: Some(&given), parameters: &parameters, ..sources };
    let errors = resolve_inputs_from(&plan, &sources).expect_err("invalid").to_string();
    assert!(!errors.contains("short1"), "{errors}");
    insta::assert_snapshot!(errors);
}

#[test]
fn file_inputs_are_the_text_of_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("brief.md");
    std::fs::write(&path, "# Title").expect("written");
    let plan =
        plan_with_inputs("  brief: { type: file, required: true }").unwrap_or_else(|errors| panic!("{errors}")).plan;
    let parameters = [format!("brief={}", path.display())];
    assert_eq!(resolve_inputs(&plan, &parameters, None).expect("valid"), json!({"brief": "# Title"}));
    // A later run keeps the text.
    std::fs::remove_file(&path).expect("removed");
    let earlier = json!({"brief": "# Title"}).as_object().cloned().expect("an object");
    let sources = InputSources { earlier: Some(&earlier), ..InputSources::default() };
    assert_eq!(resolve_inputs_from(&plan, &sources).expect("valid"), json!({"brief": "# Title"}));
}

#[test]
fn secrets_of_an_earlier_run_are_needed_again() {
    let plan = plan_with_inputs("  token: { type: secret }").unwrap_or_else(|errors| panic!("{errors}")).plan;
    let earlier = json!({"token": "***"}).as_object().cloned().expect("an object");
    let sources = InputSources { earlier: Some(&earlier), ..InputSources::default() };
    let errors = resolve_inputs_from(&plan, &sources).expect_err("missing");
    assert_eq!(errors.list()[0].code, "input::missing");
    let parameters = ["token=s3cret-value".to_owned()];
    let sources = InputSources { parameters: &parameters, ..sources };
    assert_eq!(json!(resolve_secrets(&plan, &sources).expect("valid")), json!({"token": "s3cret-value"}));
}

#[test]
fn invalid_declarations_of_inputs_are_reported() {
    let errors = plan_with_inputs(
        "  mode: { type: string, enum: [fast, 1], default: slow }
  code: { type: string, pattern: '(', max_length: 2, min_length: 3 }
  long: { type: string, min_length: 3, default: ab }
  size: { type: integer, pattern: x, minimum: 5, default: 1 }
  on: { type: boolean, enum: [true] }
  token: { type: secret, default: hunter22 }
  brief: { type: file, default: 1, from_env: X, enum: [] }",
    );
    insta::assert_snapshot!(rendered(&errors.expect_err("invalid")));
}

#[test]
fn secrets_are_used_in_arguments_of_calls_only() {
    let errors = load_plan(
        "plans/test.yaml",
        r#"
name: x
inputs: { token: { type: secret, required: true } }
tasks:
  - { id: a, agent: travel, tool: go, with: { key: "${{ inputs.token }}" } }
  - { id: b, read: { agent: archive, uri: "x://${{ inputs.token }}" } }
  - { id: c, if: inputs.token == 'x', agent: travel, tool: go }
  - { id: d, foreach: ["${{ inputs.token }}"], agent: travel, tool: go }
  - { id: e, approve: "Send ${{ inputs.token }}?", agent: travel, tool: go }
  - { id: f, agent: travel, tool: go, foreach: { matrix: { a: "${{ [inputs['token']] }}" } } }
  - { id: g, shell: { command: env, env: { KEY: "${{ inputs.token }}" } } }
  - { id: h, shell: "echo ${{ inputs.token }}" }
  - { id: i, http: { url: "https://x.example/", headers: { Authorization: "Bearer ${{ inputs.token }}" } } }
  - { id: j, http: { url: "https://x.example/${{ inputs.token }}" } }
outputs: { all: "${{ inputs | tojson }}" }
"#,
        &agents(),
        None,
    );
    let errors = errors.expect_err("invalid");
    let found: Vec<_> =
        errors.list().iter().map(|error| (error.code.as_str(), error.position.map_or(0, |at| at.line))).collect();
    let found: Vec<_> =
        found.into_iter().filter(|(code, _)| *code == "plan::secret_use").map(|(_, line)| line).collect();
    assert_eq!(found, [7, 8, 9, 10, 12, 14, 15]);
}

#[test]
fn retry_conditions_are_checked() {
    let loaded = load_with_env(
        r#"
name: x
defaults: { retry: { max_attempts: 3, when: "error.kind == 'tool_error'" } }
tasks:
  - { id: a, agent: travel, tool: go }
  - { id: b, agent: travel, tool: go, retry: { when: "${{ 'busy' in error.message and error.attempt < 3 }}" } }
  - { id: c, agent: travel, tool: go, retry: { when: false } }
"#,
    );
    let plan = loaded.unwrap_or_else(|errors| panic!("{errors}")).plan;
    let conditions: Vec<_> = plan.tasks.iter().map(|task| json!(task.retry.when)).collect();
    let expected =
        [json!("error.kind == 'tool_error'"), json!("'busy' in error.message and error.attempt < 3"), json!("false")];
    assert_eq!(conditions, expected);
    let loaded = load_with_env(
        r#"
name: x
tasks:
  - { id: a, agent: travel, tool: go, retry: { when: "error.knid == 'tool_error'" } }
  - { id: b, agent: travel, tool: go, retry: { when: "inputs.x or tasks.a.output" } }
  - { id: c, agent: travel, tool: go, retry: { when: "error.kind = 1" } }
"#,
    );
    insta::assert_snapshot!(rendered(&loaded.expect_err("invalid")));
}
