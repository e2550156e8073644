//! Invalid files: each ends with exit code 2, reports the position, and connects to nothing.

use std::fmt::Write as _;

use crate::support::workspace::{CommandOutput, Workspace};

fn validate(plan: impl AsRef<[u8]>) -> CommandOutput {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", plan);
    place.kapell(&["validate", "--offline", "plan.yaml"])
}

/// Returns the start of each diagnostic: file, line, column, severity, and code.
fn diagnostics(ended: &CommandOutput) -> Vec<&str> {
    ended.stderr.lines().filter_map(|line| line.split_once("]: ")).map(|(start, _)| start).collect()
}

#[test]
fn malformed_yaml_is_reported_with_position() {
    let ended = validate("name: x\ntasks:\n  - id: a\n   agent: travel\n");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(diagnostics(&ended), ["plan.yaml:4:4: error[plan::syntax"]);
}

#[test]
fn invalid_utf8_is_reported() {
    let ended = validate([0xff, 0xfe, 0x00, 0x80]);
    assert_eq!((ended.code, ended.error_code()), (Some(2), "file::not_utf8"));
}

#[test]
fn malformed_toml_is_reported_with_position() {
    let place = Workspace::new();
    place.write("agents.toml", "[agents.a]\ncommand = \n").write("plan.yaml", "name: x\ntasks: []\n");
    let ended = place.kapell(&["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(diagnostics(&ended), ["agents.toml:2:11: error[agents::syntax"]);
    assert_eq!(ended.stdout, "");
}

#[test]
fn errors_are_objects_on_stdout_with_json_output() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", "name: x\ntasks: [{ id: a, agent: nope, tool: t }]\n");
    for arguments in [&["run", "plan.yaml", "--output", "json"][..], &["run", "plan.yaml", "--output", "stream-json"]] {
        let ended = place.kapell(arguments);
        let error = &ended.result()["error"];
        assert_eq!(
            (ended.code, &error["exit_code"], &error["code"]),
            (Some(2), &2.into(), &"cli::invalid_file".into())
        );
        assert_eq!(error["diagnostics"][0]["code"], "plan::unknown_agent", "{error}");
        assert!(ended.stderr.contains("plan::unknown_agent"), "{ended:?}");
    }
    let unknown = place.kapell(&["result", "nope", "--json", "--journal", "nowhere.db"]);
    let error = &unknown.result()["error"];
    assert_eq!((unknown.code, &error["code"]), (Some(1), &"journal::missing".into()));
    assert!(error["help"].as_str().is_some_and(|help| help.contains("kapell run")), "{error}");
    assert_eq!(place.kapell(&["result", "nope", "--journal", "nowhere.db"]).stdout, "");
}

#[test]
fn reports_all_errors_of_a_plan_in_one_pass() {
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
    assert_eq!(
        diagnostics(&ended),
        [
            "plan.yaml:2:40: error[plan::input_type",
            "plan.yaml:4:21: error[plan::unknown_agent",
            "plan.yaml:5:11: error[plan::duplicate_task",
            "plan.yaml:6:54: error[plan::unknown_task",
            "plan.yaml:7:46: error[plan::unknown_key",
            "plan.yaml:9:54: error[plan::cycle",
        ]
    );
}

#[test]
fn reports_a_cycle_of_1_000_tasks() {
    let mut plan = "name: x\ntasks:\n".to_owned();
    for task in 0..1_000 {
        let _ =
            writeln!(plan, "  - {{ id: t{task}, agent: travel, tool: book_trip, needs: [t{}] }}", (task + 1) % 1_000);
    }
    let ended = validate(plan);
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.error_code(), "plan::cycle");
}

#[test]
fn reads_a_plan_of_10_megabytes() {
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
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
}

#[test]
fn unset_variables_of_the_planner_are_reported() {
    let place = Workspace::new();
    place.write("agents.toml", "[planner]\nreasoning_effort = \"${NO_SUCH_EFFORT}\"\n");
    let ended = place.kapell(&["agents", "list"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(diagnostics(&ended), ["agents.toml:1:2: error[agents::variable"]);
}

#[test]
fn reports_all_invalid_inputs() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let plan = "name: x\n\
                inputs: { city: { type: string, required: true }, nights: { type: integer } }\n\
                tasks: [{ id: a, agent: travel, tool: book_trip, with: { city: \"${{ inputs.city }}\" } }]\n";
    let ended = place.run_plan(plan, &["--param", "nights=many", "--param", "cty=Lisbon"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.error_codes(), ["input::wrong_type", "input::unknown", "input::missing"]);
}

#[test]
fn missing_files_are_reported() {
    let place = Workspace::new();
    let ended = place.kapell(&["run", "nowhere.yaml"]);
    assert_eq!((ended.code, ended.error_code()), (Some(2), "cli::unknown_plan"));
    place.write_agents(&[]);
    let ended = place.kapell(&["run", "nowhere.yaml"]);
    assert_eq!((ended.code, ended.error_code()), (Some(2), "cli::unknown_plan"));
    let ended =
        place.run_plan("name: x\ntasks: [{id: a, agent: travel, tool: book_trip}]\n", &["--answers", "nowhere.yaml"]);
    assert_eq!((ended.code, diagnostics(&ended)), (Some(2), vec!["nowhere.yaml: error[file::unreadable"]));
}

#[test]
fn validates_arguments_against_tool_schemas() {
    let place = Workspace::new();
    place.write_agents(&[]).write(
        "plan.yaml",
        "name: x\ntasks:\n  - { id: a, agent: travel, tool: book_trip, with: { city: 5 } }\n  - { id: b, agent: travel, tool: bok_trip }\n",
    );
    let ended = place.kapell(&["validate", "plan.yaml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(
        diagnostics(&ended),
        ["plan.yaml:3:60: error[plan::bad_argument", "plan.yaml:4:35: error[plan::unknown_tool"]
    );
    assert_eq!(place.kapell(&["validate", "--offline", "plan.yaml"]).code, Some(0));
}

#[test]
fn unreachable_agent_is_a_warning() {
    let place = Workspace::new();
    place.write("agents.toml", "[agents.gone]\ncommand = \"no-such-program\"\n");
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: gone, tool: t }]\n");
    let ended = place.kapell(&["validate", "plan.yaml", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["diagnostics"][0]["severity"], "warning", "{}", ended.stdout);
}
