//! `kapell repl`: tools by name, plans, and runs at a prompt; Ctrl-C, and a session that continues after it was killed.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::cli::interruption;
use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::terminal::{TypedStep, run_after, run_at_terminal, run_at_terminal_like, step};
use crate::support::workspace::{CommandOutput, Workspace, wait_for};

/// The concierge in a separate process, which outlives the session.
struct StandaloneConcierge(Child);

impl Drop for StandaloneConcierge {
    fn drop(&mut self) {
        // Both fail only if the agent has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the concierge over HTTP, and writes an agents file with it as `demo`.
fn with_concierge(place: &Workspace) -> StandaloneConcierge {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut agent = place.command(["demo-agent", "concierge", "--http", &port.to_string()]);
    agent.env("KAPELL_DEMO_EFFECTS", place.path("effects"));
    let agent = StandaloneConcierge(agent.stderr(Stdio::null()).spawn().expect("kapell starts"));
    wait_for("the agent", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    place
        .write("agents.toml", format!("[agents.demo]\nurl = \"http://127.0.0.1:{port}/mcp\"\nprotocol = \"legacy\"\n"));
    agent
}

/// Returns the tools that took effect, in order.
fn effects(place: &Workspace) -> Vec<String> {
    let record = std::fs::read_to_string(place.path("effects")).unwrap_or_default();
    let effects = record.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    effects.map(|effect| effect["tool"].as_str().expect("a name").to_owned()).collect()
}

/// Passes lines to a session through a pipe.
fn pipe(place: &Workspace, arguments: &[&str], lines: &str) -> CommandOutput {
    let mut command = place.command([&["repl"], arguments].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("taken");
    CommandOutput::from_output(child.wait_with_output().expect("ends"))
}

fn in_session(place: &Workspace, steps: &[TypedStep<'_>]) -> CommandOutput {
    run_at_terminal(place, &["repl"], steps)
}

const PROMPT: &str = "kapell> ";
const LONG_CALL: &str = "long_running_agent steps=50 delay_ms=100\r";

#[test]
fn session_continues_a_call_after_it_was_killed() {
    let place = Workspace::new();
    let _agent = with_concierge(&place);
    let first = in_session(
        &place,
        &[
            step(PROMPT, "list\r"),
            step("demo.research_agent(", ""),
            step(PROMPT, "travel_agent\r"),
            step("destination> ", "Lisbon\r"),
            step("Book 3 nights in a hotel in Lisbon", ""),
            step("confirm> ", "yes\r"),
            step("notes [skip]> ", "\r"),
            step("send? [Y/n/number to change]> ", "\r"),
            step("\"status\": \"booked\"", ""),
            step(PROMPT, "research_agent topic=Lisbon delay_ms=0\r"),
            step("The Book of Disquiet", ""),
            step(PROMPT, LONG_CALL),
            run_after("20%", "kill -KILL $COMMAND"),
        ],
    );
    assert_eq!(first.code, Some(137), "{}", first.stdout);
    assert_eq!(effects(&place), ["travel_agent", "research_agent"]);

    let second = in_session(
        &place,
        &[
            step("(long_running_agent, ", ""),
            step(" %)? [Y/n] ", "\r"),
            step("\"steps\": 50", ""),
            step(PROMPT, "result last\r"),
            step("\"steps\": 50", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(second.code, Some(0), "{}", second.stdout);
    assert!(second.stdout.contains("1 call resumed"), "{}", second.stdout);
    assert_eq!(effects(&place), ["travel_agent", "research_agent", "long_running_agent"]);
}

#[test]
fn ctrl_c_stops_the_call_and_returns_to_the_prompt() {
    let place = Workspace::new();
    let _agent = with_concierge(&place);
    let ended = in_session(
        &place,
        &[
            step(PROMPT, LONG_CALL),
            step("20%", "\u{3}"),
            step("resumes the run", ""),
            // A line is discarded, and later runs are interrupted in the same way.
            step(PROMPT, "quit\u{3}"),
            step(PROMPT, LONG_CALL),
            step("20%", "\u{3}"),
            step("resumes the run", ""),
            step(PROMPT, "runs --json\r"),
            step("\"status\":\"interrupted\"", ""),
            step("\"status\":\"interrupted\"", ""),
            step(PROMPT, "\u{4}"),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);

    let declined = in_session(
        &place,
        &[
            step("(long_running_agent, ", "n\r"),
            step("1 more run is interrupted", ""),
            step("stays interrupted; `resume ", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(declined.code, Some(0), "{}", declined.stdout);
    let runs: Value = serde_json::from_str(&place.kapell(&["runs", "list", "--json"]).stdout).expect("JSON");
    assert_eq!((&runs[0]["status"], &runs[1]["status"]), (&"interrupted".into(), &"interrupted".into()));
    assert_eq!(effects(&place), [""; 0]);
}

#[test]
fn forgotten_tokens_make_the_outcome_of_a_call_unknown() {
    let place = Workspace::new();
    let _agent = with_concierge(&place);
    assert!(place.kapell(&["runs", "clean-tokens"]).stderr.contains("no saved sessions"));
    let killed = in_session(&place, &[step(PROMPT, LONG_CALL), run_after("20%", "kill -KILL $COMMAND")]);
    assert_eq!(killed.code, Some(137), "{}", killed.stdout);
    let cleaned = in_session(
        &place,
        &[
            step(" %)? [Y/n] ", "n\r"),
            step(PROMPT, "clean-tokens\r"),
            step("forgot 1 session and 1 cursor of 1 run", ""),
            step(PROMPT, "clean-tokens --json\r"),
            step("{\"sessions\":0,\"cursors\":0,\"runs\":[]}", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(cleaned.code, Some(0), "{}", cleaned.stdout);
    // The call is not repeated without a person, since its outcome is unknown.
    let resumed = place.kapell(&["resume", "--no-input", "--output", "json"]);
    assert_eq!(resumed.code, Some(4), "{resumed:?}");
    let questions = place.kapell(&["questions"]);
    assert!(questions.stdout.contains("long_running_agent"), "{questions:?}");
}

#[test]
fn piped_lines_run_without_prompts() {
    let place = Workspace::new();
    place.write_agents(&[]);
    place.write(
        "plan.yaml",
        "name: books\ntasks:\n  - { id: a, agent: research, tool: research, with: { topic: Lisbon } }\n",
    );
    let lines = "# books\nresearch topic=Lisbon delay_ms=0\n\nkapell run plan.yaml\nruns --json\nno_such_tool\nresult\nquit\nlist\n";
    let ended = pipe(&place, &[], lines);
    assert_eq!((ended.code, ended.error_code()), (Some(2), "cli::unknown_command"), "{ended:?}");
    assert!(!ended.stdout.contains(PROMPT) && !ended.stderr.contains("Ctrl-D"), "{ended:?}");
    assert!(!ended.stdout.contains("store_document"), "`quit` ends the session: {ended:?}");
    let results =
        ended.stdout.matches("\"topic\": \"Lisbon\"").count() + ended.stdout.matches("\"topic\":\"Lisbon\"").count();
    assert_eq!(results, 3, "{ended:?}");

    let empty = pipe(&place, &[], "runs list");
    assert_eq!(empty.code, Some(0), "{empty:?}");
}

#[test]
fn options_of_the_session_apply_to_its_commands() {
    let place = Workspace::new();
    place.write_agents(&[]);
    std::fs::rename(place.path("agents.toml"), place.path("other.toml")).expect("renamed");
    place.write("answers.yaml", "answers: [{ accept: true }]\n");
    place.write("plan.yaml", "name: x\ntasks:\n  - { id: a, agent: archive, tool: store_document, with: { title: t, text: x }, approve: Store? }\n");
    let options = ["--agents", "other.toml", "--journal", "j.db", "--answers", "answers.yaml"];
    let ended = pipe(&place, &options, "agents list\nrun plan.yaml\nruns\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("\narchive   stdio  "), "{ended:?}");
    assert!(ended.stdout.lines().last().is_some_and(|line| line.contains("  succeeded  ")), "{ended:?}");
    assert!(place.path("j.db").exists());
    let other = pipe(&place, &options, "runs show --journal missing.db\n");
    assert_eq!((other.code, other.error_code()), (Some(1), "journal::missing"), "{other:?}");
}

#[test]
fn names_that_are_not_clear_are_explained() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("an agents file");
    place.write(
        "agents.toml",
        format!(
            "{agents}{}",
            agents
                .replace("[agents.research]", "[agents.library]")
                .replace("[agents.travel]", "[agents.t]")
                .replace("[agents.archive]", "[agents.a]")
        ),
    );
    for (line, code, reason) in [
        ("research topic=x", "cli::ambiguous_tool", "`library.research`, `research.research`"),
        ("call research topic=x", "cli::ambiguous_tool", "`library.research`"),
        ("library.resaerch topic=x", "cli::unknown_command", "did you mean `library.research`?"),
        ("questins", "cli::unknown_command", "did you mean `questions`?"),
        ("topic=today's", "cli::unclosed_quote", "double quotation marks"),
        ("run plan.yaml --detach", "cli::unknown_plan", "plan.yaml"),
        ("\"Plan a weekend in Lisbon\"", "cli::no_model", "[llm]"),
    ] {
        let ended = pipe(&place, &[], &format!("{line}\n"));
        assert_eq!((ended.code, ended.error_code()), (Some(2), code), "{line}: {ended:?}");
        assert!(ended.stderr.contains(reason), "{line}: {ended:?}");
    }
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: research, tool: research, with: { topic: x } }]\n");
    let detached = pipe(&place, &[], "run plan.yaml --detach\n");
    assert_eq!(detached.error_code(), "cli::detached_session", "{detached:?}");
    let described = pipe(&place, &[], "help library.research\n");
    assert!(described.stdout.contains("arguments"), "{described:?}");
    let help = pipe(&place, &[], "help\n");
    assert_eq!(help.code, Some(0), "{help:?}");
    insta::assert_snapshot!("session_help", help.stdout);
}

#[test]
fn words_are_completed_and_lines_are_kept() {
    let place = Workspace::new();
    let _agent = with_concierge(&place);
    assert_eq!(place.kapell(&["agents", "tools"]).code, Some(0));
    let ended = in_session(
        &place,
        &[
            step(PROMPT, "resea\tto\tLisbon del\t0\r"),
            step("The Book of Disquiet", ""),
            step(PROMPT, "resu\t\t"),
            step("result", ""),
            step("resume", ""),
            // The line is shown again below the words.
            step("kapell> resu", "\u{3}"),
            step(PROMPT, "agents te\t\r"),
            step("demo   ok", ""),
            step(PROMPT, "\u{4}"),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stdout.contains("research_agent topic=Lisbon delay_ms=0"), "{}", ended.stdout);
    let history = place.path("state/kapell/repl_history");
    let mode = std::fs::metadata(&history).expect("a history").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(&history).expect("text").contains("research_agent topic=Lisbon delay_ms=0"));
    let again = in_session(&place, &[step(PROMPT, "\u{1b}[A\u{1b}[A\r"), step("Disquiet", ""), step(PROMPT, "\u{4}")]);
    assert_eq!(again.code, Some(0), "{}", again.stdout);
}

#[test]
fn pasted_lines_do_not_run_and_sigterm_ends_the_session() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let ended = in_session(
        &place,
        &[
            step(PROMPT, "\u{1b}[200~runs\ncancel last\u{1b}[201~\r"),
            step("cli::several_lines", ""),
            run_after(PROMPT, "kill -TERM $COMMAND"),
        ],
    );
    assert_eq!(ended.code, Some(130), "{}", ended.stdout);
}

#[test]
fn second_ctrl_c_stops_the_run_at_once_and_the_session_continues() {
    let place = interruption::workspace();
    let plan = "name: steps\ndefaults: { effect: at_most_once }\ntasks:\n  \
                - { id: held, agent: steps, tool: step, with: { label: a } }\n";
    place.write("plan.yaml", plan).write("hold-a", "");
    let signals = "until grep -qx a calls; do sleep 0.05; done; kill -INT $COMMAND; kill -INT $COMMAND";
    let ended = in_session(
        &place,
        &[
            step(PROMPT, "run plan.yaml\r"),
            run_after("1 task", signals),
            step(PROMPT, "runs --json\r"),
            step("\"status\":\"interrupted\",\"process\":null", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    // The call is not made again without a person.
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!(resumed.code, Some(4), "{resumed:?}");
}

#[test]
fn values_of_templates_are_completed_by_the_server() {
    let place = Workspace::new();
    place.write_agents(&[]);
    assert_eq!(place.kapell(&["agents", "tools"]).code, Some(0));
    assert_eq!(place.kapell(&["call", "archive.store_document", "title=Lisbon", "text=x"]).code, Some(0));
    let ended = in_session(
        &place,
        &[
            step(PROMPT, "agents complete archive --resource \tname=lis\t"),
            step("name=lisbon-", "\r"),
            step("\nlisbon-", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
}

#[test]
fn ctrl_c_at_a_question_leaves_the_terminal_to_the_session() {
    let place = Workspace::new();
    let _agent = with_concierge(&place);
    let ended = in_session(
        &place,
        &[
            step(PROMPT, "travel_agent destination=Rome\r"),
            step("confirm> ", "\u{3}"),
            step("resumes the run", ""),
            step(PROMPT, "questions\r"),
            step("Book 3 nights in a hotel in Rome", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_eq!(effects(&place), [""; 0]);
}

#[test]
fn session_works_without_editing_and_at_any_width() {
    for (term, columns) in [("dumb", 80), ("xterm", 60), ("xterm", 200)] {
        let place = Workspace::new();
        let _agent = with_concierge(&place);
        let steps = [
            step(PROMPT, "travel_agent destination=Rome\r"),
            step("confirm> ", "\u{3}"),
            step("resumes the run", ""),
            // The question that Ctrl-C ended consumes nothing of the next lines.
            step(PROMPT, "research_agent topic=Lisbon delay_ms=0\r"),
            step("The Book of Disquiet", ""),
            step(PROMPT, "runs --json\r"),
            step("\"plan\":\"demo.research_agent\",\"status\":\"succeeded\"", ""),
            step(PROMPT, "typed but discarded\u{3}"),
            step(PROMPT, "\u{4}"),
        ];
        let ended = run_at_terminal_like(term, columns, &place, (&["repl"], &steps));
        assert_eq!(ended.code, Some(0), "{term}, {columns} columns: {}", ended.stdout);
        assert_eq!(effects(&place), ["research_agent"], "{term}, {columns} columns");
    }
}

#[test]
fn goal_is_planned_shown_and_run_after_approval() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let arguments = json!({"topic": "Lisbon", "depth": 1, "delay_ms": 1});
    let task = json!({"title": "Read about it", "tool": "research.research", "args": arguments});
    let plan = json!({"tasks": [task]}).to_string();
    let endpoint = ScriptedEndpoint::with_replies([plan.as_str(), plan.as_str(), "Read The Book of Disquiet [t1]."]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("an agents file");
    place.write("agents.toml", format!("{}\n{agents}", endpoint.config_section()));
    let ended = in_session(
        &place,
        &[
            step(PROMPT, "\"Find books about Lisbon\"\r"),
            step("t1 (Read about it): research.research (read only)", ""),
            step("run this plan? ", "n\r"),
            step("nothing ran", ""),
            step(PROMPT, "goal Find books about Lisbon\r"),
            step("run this plan? ", "y\r"),
            step("The Book of Disquiet", ""),
            step(PROMPT, "runs --json\r"),
            step("\"status\":\"succeeded\"", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    let runs: Value = serde_json::from_str(&place.kapell(&["runs", "list", "--json"]).stdout).expect("JSON");
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
}
