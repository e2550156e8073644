//! How much is printed, in which colors, and what is last.

use crate::cli::interruption::workspace;
use crate::support::workspace::{CommandOutput, Workspace};

const PLAN: &str = "
name: steps
tasks:
  - { id: first, agent: steps, tool: step, with: { label: a } }
  - { id: second, needs: [first], agent: steps, tool: step, with: { label: b } }
  - { id: third, needs: [second], agent: steps, tool: step, with: { label: c } }
";

fn run(place: &Workspace, options: &[&str]) -> CommandOutput {
    place.write("plan.yaml", PLAN).kapell(&[&["run", "plan.yaml", "--no-input"], options].concat())
}

#[test]
fn quiet_prints_only_the_result_and_problems() {
    let place = workspace();
    let ended = run(&place, &["--quiet"]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "c\n", ""), "{ended:?}");
    place.write("fail-b", "");
    let failed = run(&place, &["-q"]);
    let lines: Vec<_> = failed.stderr.lines().collect();
    assert!(failed.code == Some(1) && lines.len() == 3, "the failure, the summary, and the next command: {failed:?}");
    assert!(lines[0].contains("second: failed: ") && lines[2].contains(" --failed` reruns what failed"), "{failed:?}");
}

#[test]
fn verbose_prints_connections_and_arguments() {
    let place = workspace();
    let (usual, verbose) = (run(&place, &[]), run(&place, &["-v"]));
    for part in ["steps: connected", "first: arguments {\"label\":\"a\"}"] {
        assert!(!usual.stderr.contains(part) && verbose.stderr.contains(part), "{part}: {verbose:?}");
    }
    assert!(!verbose.stderr.contains("rmcp::"), "{verbose:?}");
    let debug = run(&place, &["-vv"]);
    assert!(debug.stderr.contains("rmcp::"), "{debug:?}");
}

#[test]
fn options_may_precede_the_command_of_a_detached_run() {
    let place = workspace();
    place.write("plan.yaml", PLAN);
    let started = place.kapell(&["--color", "never", "-v", "run", "plan.yaml", "--detach"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let watched = place.kapell(&["logs", "-f", "last"]);
    assert!(watched.stdout.contains("steps: succeeded: 3 succeeded"), "{watched:?}");
}

#[test]
fn colors_respect_the_option_and_the_variables() {
    let place = workspace();
    assert_eq!(run(&place, &[]).code, Some(0));
    let has_styles = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = place.command(arguments);
        let ended = CommandOutput::of(command.env_remove("NO_COLOR").envs(variables.iter().copied()));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.contains("\u{1b}[")
    };
    for list in [["runs", "list"], ["runs", "show"], ["logs", "last"], ["agents", "list"]] {
        assert!(!has_styles(&list, &[]), "{list:?} in a pipe");
        assert!(has_styles(&[&list[..], &["--color", "always"]].concat(), &[("NO_COLOR", "1")]), "{list:?}");
        assert!(has_styles(&list, &[("CLICOLOR_FORCE", "1")]), "{list:?}");
        assert!(!has_styles(&[&list[..], &["--color", "never"]].concat(), &[("CLICOLOR_FORCE", "1")]), "{list:?}");
    }
}

#[test]
fn permitted_failures_are_marked_and_unstarted_tasks_summed() {
    let place = workspace();
    let mut plan =
        "name: many\ntasks:\n  - { id: first, agent: steps, tool: step, with: { label: a }, on_failure: continue }\n  \
                    - { id: second, agent: steps, tool: step, with: { label: b } }\n"
            .to_owned();
    for number in 0..40 {
        plan += &format!("  - {{ id: t{number}, needs: [second], agent: steps, tool: step, with: {{ label: t }} }}\n");
    }
    place.write("fail-a", "").write("fail-b", "").write("plan.yaml", plan);
    let ended = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert!(ended.stderr.contains("first: failed, continuing: "), "{ended:?}");
    assert!(ended.stderr.contains("40 tasks: skipped: "), "{ended:?}");
    assert!(ended.stderr.contains("many: failed: 2 failed, 40 skipped in "), "{ended:?}");
}
