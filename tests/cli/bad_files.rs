//! Files that are wrong: each ends with exit code 2, says where, and connects to nothing.

use std::fmt::Write as _;

use crate::support::{Ended, Place};

fn validate(plan: impl AsRef<[u8]>) -> Ended {
    let place = Place::new();
    place.agents(&[]).write("plan.yaml", plan);
    place.kapell(&["validate", "--offline", "plan.yaml"])
}

#[test]
fn malformed_yaml_is_named_with_its_place() {
    let ended = validate("name: x\ntasks:\n  - id: a\n   agent: travel\n");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("plan.yaml:4:"), "{}", ended.err);
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let ended = validate([0xff, 0xfe, 0x00, 0x80]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("plan.yaml"), "{}", ended.err);
}

#[test]
fn malformed_toml_is_named_with_its_place() {
    let place = Place::new();
    place.write("agents.toml", "[agents.a]\ncommand = \n").write("plan.yaml", "name: x\ntasks: []\n");
    let ended = place.kapell(&["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("agents.toml:2:"), "{}", ended.err);
    assert_eq!(ended.out, "");
}

#[test]
fn every_mistake_of_a_plan_is_found_in_one_pass() {
    let ended = validate(
        "name: x\n\
         inputs: { n: { type: integer, default: many } }\n\
         tasks:\n\
         \x20 - { id: a, agent: travl, tool: book_trip }\n\
         \x20 - { id: a, agent: travel, tool: book_trip }\n\
         \x20 - { id: b, agent: travel, tool: book_trip, needs: [z] }\n\
         \x20 - { id: c, agent: travel, tool: book_trip, wiht: {} }\n\
         \x20 - { id: d, agent: travel, tool: book_trip, with: { city: \"${{ tasks.e.output }}\" } }\n\
         \x20 - { id: e, agent: travel, tool: book_trip, needs: [d] }\n",
    );
    assert_eq!(ended.code, Some(2));
    for expected in
        ["travl", "did you mean `travel`", "`z`", "`wiht`", "did you mean `with`", "plan.yaml:2:", "plan.yaml:5:"]
    {
        assert!(ended.err.contains(expected), "`{expected}` is missing in:\n{}", ended.err);
    }
    assert!(ended.err.contains("cycle"), "{}", ended.err);
}

#[test]
fn a_cycle_of_a_thousand_tasks_is_named() {
    let mut plan = "name: x\ntasks:\n".to_owned();
    for task in 0..1_000 {
        let _ =
            writeln!(plan, "  - {{ id: t{task}, agent: travel, tool: book_trip, needs: [t{}] }}", (task + 1) % 1_000);
    }
    let ended = validate(plan);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("cycle"), "{}", &ended.err[..ended.err.len().min(2_000)]);
}

#[test]
fn a_plan_of_ten_megabytes_is_read() {
    let mut plan = "name: x\ntasks:\n".to_owned();
    let mut task = 0;
    while plan.len() < 10_000_000 {
        let _ = writeln!(
            plan,
            "  - {{ id: t{task}, agent: travel, tool: book_trip, with: {{ city: \"{}\" }} }}",
            "x".repeat(200)
        );
        task += 1;
    }
    let ended = validate(plan);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{}", ended.err);
}

#[test]
fn an_unset_variable_is_named() {
    let place = Place::new();
    place.write("agents.toml", "[agents.a]\nurl = \"http://${NO_SUCH_HOST}/mcp\"\n").write("plan.yaml", "name: x\n");
    let ended = place.kapell(&["agents", "list"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("NO_SUCH_HOST"), "{}", ended.err);
}

#[test]
fn inputs_that_do_not_fit_are_all_named() {
    let place = Place::new();
    place.agents(&[]);
    let plan = "name: x\n\
                inputs: { city: { type: string, required: true }, nights: { type: integer } }\n\
                tasks: [{ id: a, agent: travel, tool: book_trip, with: { city: \"${{ inputs.city }}\" } }]\n";
    let ended = place.run(plan, &["--param", "nights=many", "--param", "cty=Lisbon"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for expected in ["city", "nights", "cty"] {
        assert!(ended.err.contains(expected), "{}", ended.err);
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    let place = Place::new();
    let ended = place.kapell(&["run", "nowhere.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    place.agents(&[]);
    let ended = place.kapell(&["run", "nowhere.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("nowhere.yaml"), "{}", ended.err);
    let ended = place.run("name: x\ntasks: [{id: a, agent: travel, tool: book_trip}]\n", &["--answers", "nobody.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("nobody.yaml"), "{}", ended.err);
}

#[test]
fn arguments_that_break_the_schema_of_a_tool_are_found_by_asking_the_agent() {
    let place = Place::new();
    place.agents(&[]).write(
        "plan.yaml",
        "name: x\ntasks:\n  - { id: a, agent: travel, tool: book_trip, with: { city: 5 } }\n  - { id: b, agent: travel, tool: bok_trip }\n",
    );
    let ended = place.kapell(&["validate", "plan.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("plan.yaml:3:") && ended.err.contains("did you mean `book_trip`"), "{}", ended.err);
    assert_eq!(place.kapell(&["validate", "--offline", "plan.yaml"]).code, Some(0));
}

#[test]
fn what_an_unreachable_agent_would_have_told_is_a_warning() {
    let place = Place::new();
    place.write("agents.toml", "[agents.gone]\ncommand = \"no-such-program\"\n");
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: gone, tool: t }]\n");
    let ended = place.kapell(&["validate", "plan.yaml", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["diagnostics"][0]["severity"], "warning", "{}", ended.out);
}
