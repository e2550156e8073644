//! Sampling and elicitation requests of agents, answered by people, rules and the language model, in both eras and over
//! both transports.

use serde_json::json;

use crate::cli::terminal_answers::run_in_terminal;
use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace, odd_agent_command};

/// Writes the demo agents for an era: travel over stdio, and research over HTTP, started by the host.
fn write_demo_agents(place: &Workspace, protocol: &str, llm: &str) {
    place.write(
        "agents.toml",
        format!(
            "{llm}\n\
             [agents.travel]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"travel\"]\nprotocol = \
                                          \"{protocol}\"\n\
             [agents.travel-http]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"travel\", \"--http\", \
                                               \"${{PORT}}\"]\n\
             url = \"http://127.0.0.1:${{PORT}}/mcp\"\nprotocol = \"{protocol}\"\n\
             [agents.research]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"research\", \"--http\", \
                                            \"${{PORT}}\"]\n\
             url = \"http://127.0.0.1:${{PORT}}/mcp\"\nprotocol = \"{protocol}\"\n\
             [agents.research-stdio]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"research\"]\nprotocol = \
                                                  \"{protocol}\"\n"
        ),
    );
}

const BOOK: &str = "name: x\ntasks:\n\
    \x20 - { id: pipe, agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 1 } }\n\
    \x20 - { id: http, agent: travel-http, tool: book_trip, with: { city: Porto, delay_ms: 1 } }\n";

#[test]
fn rules_answer_on_all_transports_and_eras() {
    for protocol in ["legacy", "modern", "auto"] {
        let place = Workspace::new();
        write_demo_agents(&place, protocol, "");
        place.write(
            "answers.yaml",
            "answers: [{ tool: book_trip, message: lisbon, accept: { confirm: true, notes: quiet } }, { tool: \
             book_trip, decline: true }]\n",
        );
        let ended = place.run_plan(BOOK, &["--answers", "answers.yaml"]);
        let result = ended.result();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(result["tasks"]["pipe"]["output"]["status"], "booked", "{protocol}: {result}");
        assert_eq!(result["tasks"]["pipe"]["output"]["notes"], "quiet", "{protocol}");
        assert_eq!(result["tasks"]["http"]["output"]["status"], "cancelled", "{protocol}: {result}");
    }
}

#[test]
fn no_input_declines_questions() {
    let place = Workspace::new();
    write_demo_agents(&place, "auto", "");
    let ended = place.run_plan(BOOK, &[]);
    assert_eq!((ended.code, &ended.result()["tasks"]["pipe"]["output"]["status"]), (Some(0), &json!("cancelled")));
    // A closed standard input cannot answer, either.
    let closed = place.kapell(&["run", "plan.yaml", "--output", "json"]);
    assert_eq!((closed.code, &closed.result()["tasks"]["http"]["output"]["status"]), (Some(0), &json!("cancelled")));
}

#[test]
fn invalid_terminal_answer_is_asked_again() {
    let place = Workspace::new();
    write_demo_agents(&place, "auto", "");
    place.write(
        "plan.yaml",
        "name: x\ntasks: [{ id: pipe, agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 1 } }]\n",
    );
    let steps = [("> ", "perhaps\n"), ("> ", "yes\n"), ("> ", "by the window\n"), ("change]> ", "\n")];
    let ended = run_in_terminal(&place, &steps, None, &["run", "plan.yaml", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["pipe"]["output"]["status"], "booked", "{ended:?}");
    assert_eq!(ended.result()["tasks"]["pipe"]["output"]["notes"], "by the window");
    assert!(ended.stderr.contains("perhaps"), "{}", ended.stderr);
}

#[test]
fn sampling_works_on_all_transports_and_eras() {
    for protocol in ["legacy", "modern"] {
        let endpoint = ScriptedEndpoint::with_replies(["In short: go."]);
        let place = Workspace::new();
        write_demo_agents(&place, protocol, &endpoint.config_section());
        let ended = place.run_plan(
            "name: x\ntasks:\n\
             \x20 - { id: http, agent: research, tool: research, with: { topic: Lisbon, delay_ms: 1 } }\n\
             \x20 - { id: pipe, agent: research-stdio, tool: research, with: { topic: Lisbon, delay_ms: 1 } }\n",
            &["--journal", "journal.db"],
        );
        let result = ended.result();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for task in ["http", "pipe"] {
            assert_eq!(result["tasks"][task]["output"]["summary"], "In short: go.", "{protocol} {task}: {result}");
        }
        let request = endpoint.next_request();
        assert_eq!(
            (&request["model"], &request["max_tokens"], &request["stream"]),
            (&json!("tiny"), &json!(100), &json!(true))
        );
        let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]);
        assert!(shown.stdout.contains("tiny-7b"), "{}", shown.stdout);
    }
}

#[test]
fn sampling_is_not_offered_without_a_model() {
    for protocol in ["legacy", "modern"] {
        let place = Workspace::new();
        write_demo_agents(&place, protocol, "");
        let ended = place.run_plan(
            "name: x\ntasks: [{ id: a, agent: research, tool: research, with: { topic: Lisbon, delay_ms: 1 } }]\n",
            &[],
        );
        assert_eq!(ended.result()["tasks"]["a"]["output"]["summarised"], json!(false), "{protocol}: {ended:?}");
    }
}

#[test]
fn each_input_round_is_an_event() {
    let place = Workspace::new();
    write_demo_agents(&place, "modern", "");
    place.write("plan.yaml", BOOK);
    let ended = place.kapell(&["run", "plan.yaml", "--no-input", "--output", "stream-json"]);
    let events: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((of("input_required"), of("question_asked"), of("question_answered")), (2, 2, 2), "{}", ended.stdout);
    assert_eq!(events.last().map(|event| &event["type"]), Some(&json!("result")));
    assert_eq!(events.first().map(|event| &event["type"]), Some(&json!("run_started")));
}

#[test]
fn sampling_policy_and_consent_are_enforced() {
    const PLAN: &str = "name: x\nmax_parallel: 8\ntasks:\n\
        \x20 - { id: a, agent: odd, tool: work, with: { marker: a } }\n\
        \x20 - { id: b, agent: odd, tool: work, with: { marker: b } }\n\
        \x20 - { id: c, agent: odd, tool: work, with: { marker: c } }\n";
    let endpoint = ScriptedEndpoint::with_replies(["In short: go."]);
    let llm = endpoint.config_section();
    let place = Workspace::new();
    let agents = |rest: &str| {
        let odd = odd_agent_command();
        place.write(
            "agents.toml",
            format!("{llm}[agents.odd]\ncommand = \"python3\"\nargs = [{odd:?}, \"asks\"]\n{rest}\n"),
        );
    };
    let answers = |ended: &CommandOutput| {
        let result = ended.result();
        ["a", "b", "c"].map(|task| {
            let output = result["tasks"][task]["output"].as_str().unwrap_or_else(|| panic!("{ended:?}"));
            let output: serde_json::Value = serde_json::from_str(output).expect("JSON");
            let answer = &output["answer"];
            answer["text"].as_str().or(answer["message"].as_str()).unwrap_or_default().to_owned()
        })
    };

    agents("sampling = \"ask\"");
    let refused = place.run_plan(PLAN, &[]);
    assert_eq!(answers(&refused), ["the request to the language model was not approved"; 3], "{refused:?}");
    place.write(
        "answers.yaml",
        "answers: [{ task: b, message: allow a request to the language model, accept: true }]\n",
    );
    let ended = place.run_plan(PLAN, &["--answers", "answers.yaml"]);
    assert_eq!(answers(&ended)[1], "In short: go.", "{ended:?}");
    assert_eq!(answers(&ended)[0], "the request to the language model was not approved");

    // Each reply reports a usage of fifteen tokens.
    agents("sampling = { max_tokens = 114 }\nmax_processes = 2");
    let bounded = place.run_plan(PLAN, &["--journal", "journal.db"]);
    let refused = answers(&bounded).iter().filter(|answer| answer.contains("`sampling.max_tokens` is 114")).count();
    assert_eq!(refused, 2, "{bounded:?}");
    let log = place.kapell(&["logs", "last", "--journal", "journal.db", "--output", "json"]);
    let events = log.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
    let sampled: Vec<_> = events.filter(|event| event["type"] == "sampling_started").collect();
    assert_eq!(sampled.len(), 1, "{}", log.stdout);
    assert_eq!(sampled[0]["origin"]["attempt"]["task"], sampled[0]["chat"]["messages"][0]["parts"][0]["text"]);
}

#[test]
fn unreadable_tool_use_fails_sampling() {
    let endpoint = ScriptedEndpoint::with_replies(["call geo_find {\"city\":"]);
    let place = Workspace::new();
    place.write_agents(&["samples-tools"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}tools = true\n{agents}", endpoint.config_section()));
    let ended = place.run_plan("name: x\ntasks: [{ id: a, agent: odd-samples-tools, tool: work }]\n", &[]);
    let output = ended.result()["tasks"]["a"]["output"].as_str().unwrap_or_else(|| panic!("{ended:?}")).to_owned();
    let output: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    let message = "model `tiny-7b` called tool `geo.find` with arguments that are not JSON: \
                   EOF while parsing a value at line 1 column 8";
    assert_eq!(output, json!({"code": -32603, "message": message}));
}
