//! Inputs: what the person gave against what the plan asks for.

use serde_json::json;

use super::*;

fn plan() -> crate::model::Plan {
    let text = "
inputs:
  topic: { type: string, required: true, description: what to look for }
  limit: { type: integer, default: 5 }
  ratio: { type: number }
  deep: { type: boolean, default: false }
  tags: { type: array }
  more: { type: object }
tasks: [{ id: a, agent: travel, tool: x, with: { all: '${{ inputs }}' } }]
";
    load_plan("x", text, &agents(), None).unwrap_or_else(|errors| panic!("{errors}")).plan
}

fn strings(parameters: &[&str]) -> Vec<String> {
    parameters.iter().map(|&parameter| parameter.to_owned()).collect()
}

#[test]
fn parameters_come_before_the_file_and_the_file_before_defaults() {
    let file = json!({"topic": "hills", "limit": 9, "more": {"a": 1}});
    let given = strings(&["topic=sea=blue", "ratio=1.5", "deep=true", "tags=[\"x\", 1]"]);
    assert_eq!(
        resolve_inputs(&plan(), &given, Some(&file)),
        Ok(json!({
            "topic": "sea=blue", "limit": 9, "ratio": 1.5, "deep": true, "tags": ["x", 1], "more": {"a": 1},
        }))
    );
    assert_eq!(
        resolve_inputs(&plan(), &strings(&["topic=5"]), None),
        Ok(json!({"topic": "5", "limit": 5, "ratio": null, "deep": false, "tags": null, "more": null}))
    );
}

#[test]
fn all_that_is_wrong_with_inputs_is_told_at_once() {
    let file = json!({"ratio": "x", "lmit": 3});
    let errors = resolve_inputs(&plan(), &strings(&["limit=many", "deep=1", "tags"]), Some(&file));
    let errors = Diagnostics::from(errors.expect_err("there are mistakes"));
    insta::assert_snapshot!(errors.to_string());
}

#[test]
fn data_files_are_yaml() {
    assert_eq!(read_data("p.yaml", "a: [1, x]\n").ok(), Some(json!({"a": [1, "x"]})));
    let errors = read_data("p.yaml", "a: [1\nb: 2").expect_err("no YAML");
    assert_eq!(errors.list()[0].code, "yaml::syntax");
    assert_eq!(write_data(&json!({"a": [1, "x"]})).ok().as_deref(), Some("a:\n- 1\n- x\n"));
}
