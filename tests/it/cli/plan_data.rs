//! Data in plans, parameters files, the command line and answers files: the same text means the same value.

use serde_json::json;

use crate::support::workspace::Workspace;

const STORE: &str = "agent: archive, tool: store_document, with: { title: t, text: x }";

fn workspace() -> (Workspace, String) {
    let place = Workspace::new();
    place.write_agents(&[]);
    let plan = format!(
        "inputs: {{ zip: {{ type: string, required: true }}, n: {{ type: integer, default: 1 }} }}\n\
         tasks: [{{ id: a, {STORE} }}]\n\
         outputs: {{ zip: \"${{{{ inputs.zip }}}}\", n: \"${{{{ inputs.n }}}}\", missing: \"${{{{ tasks.a.output.nope }}}}\" }}\n"
    );
    (place, plan)
}

#[test]
fn leading_zeros_are_kept() {
    let (place, plan) = workspace();
    place.write("p.yaml", "zip: 08989\nn: 9007199254740993\n");
    place.write("p.json", r#"{"zip": "08989", "n": 9007199254740993}"#);
    for given in [
        &["--params-file", "p.yaml"][..],
        &["--params-file", "p.json"],
        &["--param", "zip=08989", "--param", "n=9007199254740993"],
    ] {
        let ended = place.run_plan(&plan, given);
        let result: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        assert_eq!(result["outputs"]["zip"], "08989", "{ended:?}");
        assert_eq!(result["outputs"]["n"], json!(9_007_199_254_740_993_u64), "{ended:?}");
    }
    place.write("p.yaml", "zip: 08989\nn: 007\n");
    for given in [&["--params-file", "p.yaml"][..], &["--param", "zip=08989", "--param", "n=007"]] {
        let ended = place.run_plan(&plan, given);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("the input `n` must be an integer"), "{}", ended.stderr);
        assert!(ended.stderr.contains("leading zero"), "{}", ended.stderr);
    }
}

#[test]
fn duplicate_and_merge_keys_are_rejected() {
    let (place, plan) = workspace();
    for (name, text, expected) in [
        ("twice.yaml", "zip: '1'\nzip: '2'\n", "duplicate key `zip`"),
        ("merge.yaml", "<<: { zip: '1' }\n", "merge keys (`<<`) are not supported"),
    ] {
        place.write(name, text);
        let ended = place.run_plan(&plan, &["--params-file", name]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected) && ended.stderr.contains(name), "{}", ended.stderr);
    }
    for (rule, expected) in [
        ("{ task: a, task: b, accept: true }", "duplicate key `task`"),
        ("{ <<: { task: a }, accept: true }", "merge keys (`<<`) are not supported"),
        ("{ tsk: a, accept: true }", "did you mean `task`?"),
        ("{ task: a }", "rule 1: a rule must have exactly one of"),
    ] {
        place.write("answers.yaml", format!("answers: [{rule}]\n"));
        let ended = place.run_plan(&plan, &["--param", "zip=1", "--answers", "answers.yaml"]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected) && ended.stderr.contains("answers.yaml"), "{}", ended.stderr);
    }
}

#[test]
fn null_output_is_printed_once() {
    let (place, plan) = workspace();
    place.write("plan.yaml", plan);
    let ended = place.kapell(&["run", "plan.yaml", "--param", "zip=1"]);
    assert_eq!(ended.stdout.matches("## missing").count(), 1, "{ended:?}");
    assert!(ended.stdout.contains("## missing\n\nno value: "), "{}", ended.stdout);
}

#[test]
fn task_name_can_have_256_characters() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let id = "t".repeat(256);
    let ended = place.run_plan(&format!("tasks: [{{ id: {id}, {STORE} }}]\n"), &[]);
    assert_eq!((ended.code, ended.task(&id).0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    let shown = place.kapell(&["runs", "show", "last"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
}
