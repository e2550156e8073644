//! Tests of the resolution of inputs.

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
fn parameters_override_the_file_and_defaults() {
    let file = json!({"topic": "hills", "limit": 9, "more": {"a": 1}});
    let parameters = strings(&["topic=sea=blue", "ratio=1.5", "deep=true", "tags=[\"x\", 1]"]);
    assert_eq!(
        resolve_inputs(&plan(), &parameters, Some(&file)).ok(),
        Some(json!({
            "topic": "sea=blue", "limit": 9, "ratio": 1.5, "deep": true, "tags": ["x", 1], "more": {"a": 1},
        }))
    );
    assert_eq!(
        resolve_inputs(&plan(), &strings(&["topic=5"]), None).ok(),
        Some(json!({"topic": "5", "limit": 5, "ratio": null, "deep": false, "tags": null, "more": null}))
    );
}

#[test]
fn reports_all_input_errors() {
    let file = json!({"ratio": "x", "lmit": 3});
    let errors = resolve_inputs(&plan(), &strings(&["limit=many", "deep=1", "tags"]), Some(&file));
    insta::assert_snapshot!(errors.expect_err("there are mistakes").to_string());
}

#[test]
fn reads_data_files_in_yaml_and_json() {
    assert_eq!(read_data("p.yaml", "a: [1, x]\n").ok(), Some(json!({"a": [1, "x"]})));
    assert_eq!(read_data("p.yaml", "# nothing\n").ok(), Some(json!(null)));
    assert_eq!(read_data("p.yaml", "\u{feff}a: 1\n").ok(), Some(json!({"a": 1})));
    assert_eq!(
        read_data("p.json", "{\n\t\"a\\/b\": \"\\ud83d\\uDE00 \\\\ud83d \\u00e9\",\n\t\"n\": 9007199254740993\n}").ok(),
        Some(json!({"a/b": "😀 \\ud83d é", "n": 9_007_199_254_740_993_u64}))
    );
    let errors = read_data("p.yaml", "a: [1\nb: 2").expect_err("invalid YAML");
    assert_eq!(errors.list()[0].code, "yaml::syntax");
    assert_eq!(write_data(&json!({"a": [1, "x"]})).ok().as_deref(), Some("a:\n- 1\n- x\n"));
}

#[test]
fn data_files_reject_duplicate_and_merge_keys() {
    for (text, code) in [
        ("a: 1\na: 2\n", "yaml::duplicate_key"),
        (r#"{"a": {"b": 1, "b": 2}}"#, "yaml::duplicate_key"),
        (r#"{"a": "\ud83d\ude00", "a": 2}"#, "yaml::duplicate_key"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", "yaml::key"),
        ("a: !!set {x}\n", "yaml::tag"),
        ("a: 18446744073709551616\n", "yaml::scalar"),
        ("a: 1\n---\na: 2\n", "yaml::syntax"),
    ] {
        let errors = read_data("p.yaml", text).expect_err(text);
        assert_eq!(errors.list()[0].code, code, "{text}");
    }
}

/// Returns scalars as they are written, and their values.
fn scalars() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("007", json!("007")),
        ("08989", json!("08989")),
        ("-012", json!("-012")),
        ("+01", json!("+01")),
        ("00", json!("00")),
        ("01.50", json!("01.50")),
        ("0", json!(0)),
        ("-0", json!(0)),
        ("0.50", json!(0.5)),
        ("!!int 007", json!(7)),
        ("!!str 7", json!("7")),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("1e3", json!(1000.0)),
        ("+5", json!(5)),
        ("1_000", json!("1_000")),
        ("12:30", json!("12:30")),
        ("2024-01-01", json!("2024-01-01")),
        ("yes", json!("yes")),
        ("NO", json!("NO")),
        ("True", json!(true)),
        ("~", json!(null)),
        ("9007199254740993", json!(9_007_199_254_740_993_u64)),
        ("18446744073709551615", json!(u64::MAX)),
    ]
}

#[test]
fn scalars_are_read_the_same_everywhere() {
    for (written, value) in scalars() {
        let data = read_data("p.yaml", &format!("v: [{written}]")).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(data, json!({"v": [value]}), "{written}");

        let answers = read_answer_rules("a.yaml", &format!("answers: [{{accept: {{v: [{written}]}}}}]"));
        assert_eq!(
            answers.unwrap_or_else(|errors| panic!("{errors}")),
            [json!({"accept": {"v": [value]}})],
            "{written}"
        );

        let text = format!(
            "inputs: {{tags: {{type: array, default: [{written}]}}}}\ntasks: [{{id: a, agent: travel, tool: x}}]"
        );
        let plan = load_plan("x", &text, &agents(), None).unwrap_or_else(|errors| panic!("{errors}")).plan;
        assert_eq!(plan.inputs["tags"].default, Some(json!([value])), "{written}");
        let inputs = resolve_inputs(&plan, &[format!("tags=[{written}]")], None);
        assert_eq!(inputs.ok(), Some(json!({"tags": [value]})), "{written}");
    }
}

#[test]
fn numbers_are_read_the_same_in_files_and_parameters() {
    for written in ["007", "7", "0x1F", "1e3", "+5", "5.", "text", "~", "true", "1_000", "18446744073709551616"] {
        for name in ["limit", "ratio", "deep"] {
            let file = read_data("p.yaml", &format!("topic: x\n{name}: {written}"));
            let by_file = file.ok().and_then(|file| resolve_inputs(&plan(), &[], Some(&file)).ok());
            let by_param = resolve_inputs(&plan(), &strings(&["topic=x", &format!("{name}={written}")]), None).ok();
            // Null in a file means an absent value, but a parameter must have a value.
            if written != "~" {
                assert_eq!(by_file, by_param, "{name}: {written}");
            }
        }
    }
}

#[test]
fn digits_with_a_leading_zero_are_text() {
    let help = "a number with a leading zero is text; remove the zero";
    let file = json!({"topic": "007", "limit": "007"});
    let errors = resolve_inputs(&plan(), &[], Some(&file)).expect_err("`limit` is an integer");
    assert_eq!(errors.list()[0].message, "the input `limit` must be an integer, not the text `007`");
    assert_eq!(errors.list()[0].help.as_deref(), Some(help));

    let errors = resolve_inputs(&plan(), &strings(&["topic=007", "limit=007"]), None).expect_err("the same");
    assert_eq!(errors.list()[0].message, "the input `limit` must be an integer, not `007`");
    assert_eq!(errors.list()[0].help.as_deref(), Some(help));
    let inputs = resolve_inputs(&plan(), &strings(&["topic=007"]), None).expect("`topic` is text");
    assert_eq!(inputs["topic"], "007");

    let errors = resolve_inputs(&plan(), &[], Some(&json!({"topic": 8989}))).expect_err("`topic` is text");
    assert_eq!(errors.list()[0].help.as_deref(), Some("put it in quotes"));
    let errors = resolve_inputs(&plan(), &strings(&["topic=x", "more={a: 1, a: 2}"]), None).expect_err("a key twice");
    assert_eq!(errors.list()[0].help.as_deref(), Some("duplicate key `a`"));

    let text = "inputs: {n: {type: integer, default: 007}}\ntasks: [{id: a, agent: travel, tool: x, max_parallel: 01}]";
    let errors = load_plan("x", text, &agents(), None).expect_err("both are numbers");
    let helps: Vec<_> = errors.list().iter().filter_map(|mistake| mistake.help.as_deref()).collect();
    assert_eq!(helps.iter().filter(|help_text| **help_text == help).count(), 2, "{errors}");
}

#[test]
fn written_text_reads_unchanged() {
    let mut texts: Vec<_> = scalars().into_iter().map(|(written, _)| written).collect();
    texts.extend(["", "null", "<<", ".inf", "a: b", "# a", "- a", "😀", "a\nb\n", "*a", "&a", "${{ a }}"]);
    let written = write_data(&json!({"texts": texts})).expect("YAML");
    assert_eq!(read_data("p.yaml", &written).ok(), Some(json!({"texts": texts})), "{written}");
}

#[test]
fn answers_file_errors_have_positions() {
    for (text, message, position) in [
        ("answers:\n- agent: a\n  acept: true\n", "a rule has no key `acept`", Some((3, 3))),
        ("- agent: a\n", "the file must be an answers file: a map, not a list", Some((1, 1))),
        ("answers:\n- agent: [a]\n", "`agent` must be text, not a list", Some((2, 10))),
        ("answers: [{agent: a, agent: b}]", "duplicate key `agent`", Some((1, 22))),
        ("answers:\n- {<<: {agent: a}, accept: true}\n", "merge keys (`<<`) are not supported", Some((2, 4))),
    ] {
        let errors = read_answer_rules("answers.yaml", text).expect_err(text);
        let first = &errors.list()[0];
        assert_eq!(first.message, message);
        assert_eq!(first.position.map(|position| (position.line, position.column)), position, "{text}");
    }
    assert_eq!(read_answer_rules("answers.yaml", "").ok(), Some(vec![]));
    assert_eq!(read_answer_rules("answers.yaml", "answers:\n").ok(), Some(vec![]));
}
