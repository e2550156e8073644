//! Text from agents and files in all output: it never controls a terminal, reorders a line, or hides.

use std::process::Stdio;

use serde_json::Value;

use crate::support::workspace::{CommandOutput, Workspace, wait_for_status};

fn workspace() -> Workspace {
    let place = Workspace::new();
    place.scripted_agent("hostile", "hostile_text.py", "").write(
        "plan.yaml",
        "
        name: hostile
        defaults: { on_failure: continue, effect: read_only }
        tasks:
          - { id: text, agent: hostile, tool: text }
          - { id: refuse, agent: hostile, tool: refuse }
          - { id: fail, agent: hostile, tool: fail }
          - { id: report, agent: hostile, tool: report }
          - { id: link, agent: hostile, tool: link }
          - { id: question, agent: hostile, tool: question }
          - { id: item, foreach: '${{ [tasks.text.text] }}', as: it, agent: hostile, tool: text, title: \"x\u{202e}y\" }
        ",
    );
    place.write(
        "invalid.yaml",
        "name: \"v\u{202e}\u{200b}\u{9b}2J\"
tasks:
  - { id: a, agent: hostile, tool: needs }
  - { id: b, agent: hostile, tool: strict, with: { zzz: 1 } }
  - { id: c, agent: hostile, tool: choice, with: { e: \"no\u{202e}\" } }
  - { id: d, agent: hostile, tool: \"missing\u{202e}\" }
  - { id: e, agent: \"hostil\u{200b}e\", tool: text }
",
    );
    place
}

/// Asserts that text for people contains nothing that a terminal interprets or cannot show.
fn assert_safe(surface: &str, text: &str) {
    let unsafe_char = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || "\u{202e}\u{2066}\u{2069}\u{200b}\u{ad}\u{2060}\u{180e}\u{34f}\u{e0041}\u{e0101}\u{feff}\u{3164}\u{200d}\
                \u{fe0f}\u{2028}"
                .contains(c)
    };
    let position = text.find(unsafe_char);
    assert!(position.is_none(), "{surface}: {:?}", &text[position.unwrap_or(0)..]);
}

fn assert_all_safe(surface: &str, ended: &CommandOutput) {
    assert_safe(&format!("{surface}, stdout"), &ended.stdout);
    assert_safe(&format!("{surface}, stderr"), &ended.stderr);
}

#[test]
fn commands_print_no_unsafe_text() {
    let place = workspace();
    for output in ["text", "json", "stream-json"] {
        let ended = place.kapell(&["run", "plan.yaml", "--no-input", "--journal", "j.db", "--output", output]);
        assert_all_safe(output, &ended);
        assert!(ended.stdout.contains("owned"), "{ended:?}");
    }
    let journaled: &[&[&str]] = &[
        &["runs", "list"],
        &["runs", "show", "last"],
        &["runs", "diff", "last", "last"],
        &["logs", "last"],
        &["questions"],
    ];
    for command in journaled {
        for output in ["text", "json"] {
            let mut command = command.to_vec();
            command.extend(["--journal", "j.db", "--output", output]);
            let ended = place.kapell(&command);
            assert_all_safe(&command.join(" "), &ended);
            for line in ended.stdout.lines().filter(|_| output == "json") {
                serde_json::from_str::<Value>(line).expect("safe JSON is still JSON");
            }
        }
    }
    assert_all_safe("replay", &place.kapell(&["replay", "last", "--speed", "1000", "--journal", "j.db"]));
    for command in ["list", "test", "tools"] {
        for output in ["text", "json"] {
            assert_all_safe(command, &place.kapell(&["agents", command, "--output", output]));
        }
    }
    for plan in ["plan.yaml", "invalid.yaml"] {
        assert_all_safe(plan, &place.kapell(&["validate", plan]));
        assert_all_safe(plan, &place.kapell(&["validate", plan, "--output", "json"]));
        assert_all_safe(plan, &place.kapell(&["graph", plan]));
    }
    assert_all_safe("usage", &place.kapell(&["run", "--\u{202e}x", "\u{9b}2J"]));
    assert_all_safe("no such file", &place.kapell(&["run", "a\u{1b}[2J\u{202e}b.yaml"]));
}

#[test]
fn log_messages_are_escaped() {
    let place = workspace();
    let mut command = place.command(["run", "plan.yaml", "--no-input", "--journal", "j.db"]);
    let ended = CommandOutput::of(command.env("KAPELL_LOG", "trace"));
    assert_all_safe("KAPELL_LOG=trace", &ended);
    assert!(ended.stderr.contains("TRACE") || ended.stderr.contains("DEBUG"), "{}", ended.stderr);
}

#[test]
fn detached_log_is_escaped() {
    let place = workspace();
    let ended = place.kapell(&["run", "plan.yaml", "--no-input", "--journal", "j.db", "--detach"]);
    assert_all_safe("detach", &ended);
    wait_for_status(&place, &["succeeded", "partial", "failed"]);
    let log = place.path("j.db").with_extension("logs").join(format!("{}.log", ended.stdout.trim()));
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("owned"), "{log}");
    assert_safe("log of a detached run", &log);
}

/// On a terminal, kapell moves the cursor and uses styles, but none of them come from the agent's text.
#[test]
fn agent_escape_sequences_never_reach_the_terminal() {
    const SPAWN: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let place = workspace();
    for arguments in [
        &["run", "plan.yaml", "--no-input", "--journal", "j.db"][..],
        &["validate", "invalid.yaml"],
        &["runs", "show", "last", "--journal", "j.db"],
        &["logs", "last", "--output", "json", "--journal", "j.db"],
        &["agents", "tools"],
    ] {
        let kapell = place.command(arguments);
        let environment = kapell.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut terminal = std::process::Command::new("python3");
        terminal.args(["-c", SPAWN]).arg(kapell.get_program()).args(arguments).current_dir(place.path(""));
        terminal.envs(environment).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        let output = terminal.output().expect("python3 starts");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for sequence in
            ["\x1b[2J", "\x1b]", "\x1b[8m", "\u{9b}", "\u{7f}", "\u{8}", "\u{202e}", "\u{200b}", "\u{e0041}"]
        {
            assert!(!text.contains(sequence), "{arguments:?}: {sequence:?} in {text:?}");
        }
        assert!(text.contains("owned") || text.contains("v\\u{202e}"), "{arguments:?}: {text:?}");
    }
}
