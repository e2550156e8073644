//! The texts that `run` and `plan` accept as a goal, and the output file of `plan`.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace};

fn plan_answer() -> String {
    let arguments = json!({"topic": "Lisbon", "depth": 1, "delay_ms": 1});
    let task = json!({"title": "Read", "tool": "research.research", "args": arguments});
    json!({"tasks": [task]}).to_string()
}

/// Returns a workspace with the demo agents and a model that plans one task.
fn workspace() -> (Workspace, ScriptedEndpoint) {
    let endpoint = ScriptedEndpoint::with_replies([&*plan_answer()]);
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{agents}", endpoint.config_section()));
    (place, endpoint)
}

/// Returns the message about an invalid command line, which has this code.
fn usage_error(ended: &CommandOutput, code: &str) -> String {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    assert_eq!(ended.error_code(), code, "{ended:?}");
    ended.stderr.clone()
}

#[test]
fn mistyped_plan_is_not_sent_to_a_model() {
    let (place, endpoint) = workspace();
    std::fs::create_dir(place.path("docs")).expect("a folder");
    place.write("lisbon.yaml", "name: x\ntasks: []\n");
    place.write("my trip.yml", "name: x\ntasks: []\n");
    let mut report = String::new();
    for (text, code) in [
        ("lisbon", "cli::unknown_plan"),
        ("lisbn.yaml", "cli::unknown_plan"),
        ("./lisbon", "cli::unknown_plan"),
        ("my trip", "cli::unknown_plan"),
        ("plans/oslo", "cli::unknown_plan"),
        ("2+2", "cli::unknown_plan"),
        ("summarize the file plan.yaml", "cli::unknown_plan"),
        ("docs", "cli::not_a_file"),
        ("docs/", "cli::not_a_file"),
        ("", "cli::blank_goal"),
    ] {
        let [run, plan] = ["run", "plan"].map(|command| usage_error(&place.kapell(&[command, text]), code));
        assert_eq!(plan, run.replace("kapell run", "kapell plan"));
        report += &format!("# kapell run {text:?}\n{run}\n");
    }
    for command in ["run", "plan"] {
        for blank in ["", " ", "\u{3000}\n"] {
            usage_error(&place.kapell(&[command, blank]), "cli::blank_goal");
            usage_error(&place.kapell(&[command, "--goal", blank]), "cli::blank_goal");
        }
        // A missing argument is reported by the argument parser, which has no codes.
        let missing = place.kapell(&[command]);
        assert_eq!((missing.code, missing.stdout.as_str()), (Some(2), ""), "{missing:?}");
    }
    usage_error(&place.kapell(&["run", "--detach", "lisbon"]), "cli::unknown_plan");
    let planned = usage_error(&place.kapell(&["plan", "lisbon.yaml"]), "cli::goal_expected");
    report += &format!("# kapell plan \"lisbon.yaml\"\n{planned}");
    insta::assert_snapshot!(report);
    // The first request is for a goal, so none of the texts above was sent.
    let text = "計画を立ててください。予算は￥50,000です";
    assert_eq!(place.kapell(&["run", text, "--dry-run"]).code, Some(0));
    let messages = endpoint.next_request()["messages"].to_string();
    assert!(messages.contains(text), "{messages}");
}

#[test]
fn explicit_goal_can_have_any_text() {
    for text in ["lisbon.yaml", "-", "- find me a hotel", "--dry-run", "docs", "Explain ${{ unclosed"] {
        let (place, endpoint) = workspace();
        place.write("lisbon.yaml", "name: x\ntasks: []\n");
        let ended = place.kapell(&["plan", "--goal", text]);
        assert_eq!(ended.code, Some(0), "{text}: {ended:?}");
        let prompt = endpoint.next_request()["messages"][1]["content"].as_str().expect("text").to_owned();
        assert!(prompt.ends_with(&format!("\nGoal: {text}\nAnswer:")), "{prompt}");
        assert_eq!(place.kapell(&["run", "--goal", text, "--dry-run"]).code, Some(0));
        place.write("goal.yaml", ended.stdout);
        assert_eq!(place.kapell(&["validate", "goal.yaml"]).code, Some(0));
    }
}

#[test]
fn written_plan_is_private_and_never_overwrites() {
    let (place, endpoint) = workspace();
    let plan = |output: &str, more: &[&str]| {
        // The widest permissions that a person's shell can grant.
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(env!("CARGO_BIN_EXE_kapell"));
        command.args(["plan", "Read about Lisbon", "-o", output]).args(more).current_dir(place.path(""));
        command.env("HOME", place.path("")).env("XDG_STATE_HOME", place.path("state")).env("NO_COLOR", "1");
        CommandOutput::of(&mut command)
    };
    let written = plan("plan.yaml", &[]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let mode = |name: &str| std::fs::metadata(place.path(name)).expect("written").permissions().mode() & 0o777;
    assert_eq!(mode("plan.yaml"), 0o600);
    // Editors find the schema that the plan names.
    assert!(place.path("plan.schema.json").is_file());
    endpoint.next_request();

    place.write("edited.yaml", "mine").write("target", "untouched");
    std::fs::create_dir(place.path("folder")).expect("a folder");
    std::os::unix::fs::symlink("target", place.path("link.yaml")).expect("linked");
    std::os::unix::fs::symlink("nothing", place.path("dangling.yaml")).expect("linked");
    let made = std::process::Command::new("mkfifo").arg(place.path("fifo")).status().expect("mkfifo");
    assert!(made.success());
    let mut report = usage_error(&plan("edited.yaml", &[]), "cli::file_exists");
    for output in ["folder", "link.yaml", "dangling.yaml", "fifo", "/dev/null", "json"] {
        let [message, forced] = [&[][..], &["--force"]].map(|more| usage_error(&plan(output, more), "cli::not_a_file"));
        assert_eq!(message, forced, "{output}");
        report += &message;
    }
    insta::assert_snapshot!(report);
    assert_eq!(std::fs::read_to_string(place.path("edited.yaml")).expect("reads"), "mine");
    assert!(!place.path("nothing").exists());

    let replaced = plan("edited.yaml", &["--force"]);
    assert_eq!(replaced.code, Some(0), "{replaced:?}");
    let text = std::fs::read_to_string(place.path("edited.yaml")).expect("reads");
    assert_eq!((text, mode("edited.yaml")), (std::fs::read_to_string(place.path("plan.yaml")).expect("reads"), 0o600));
    assert!(plan("-", &[]).stdout.contains("tool: research"));
    assert_eq!(std::fs::read_to_string(place.path("target")).expect("reads"), "untouched");
}
