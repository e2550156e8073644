//! Agents that ask back: people, rules and the language model answer; in both eras, on both transports.

use serde_json::json;

use crate::{
    endpoint::Endpoint,
    support::{Ended, Place, odd_agent},
    terminal_answers::typing,
};

/// The demo agents in each era, travel over stdio and research over HTTP, started by the host.
fn demo(place: &Place, protocol: &str, llm: &str) {
    place.write(
        "agents.toml",
        format!(
            "{llm}\n\
             [agents.travel]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"travel\"]\nprotocol = \"{protocol}\"\n\
             [agents.travel-http]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"travel\", \"--http\", \"${{PORT}}\"]\n\
             url = \"http://127.0.0.1:${{PORT}}/mcp\"\nprotocol = \"{protocol}\"\n\
             [agents.research]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"research\", \"--http\", \"${{PORT}}\"]\n\
             url = \"http://127.0.0.1:${{PORT}}/mcp\"\nprotocol = \"{protocol}\"\n\
             [agents.research-stdio]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"research\"]\nprotocol = \"{protocol}\"\n"
        ),
    );
}

const BOOK: &str = "name: x\ntasks:\n\
    \x20 - { id: pipe, agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 1 } }\n\
    \x20 - { id: http, agent: travel-http, tool: book_trip, with: { city: Porto, delay_ms: 1 } }\n";

#[test]
fn rules_answer_in_both_eras_on_both_transports() {
    for protocol in ["legacy", "modern", "auto"] {
        let place = Place::new();
        demo(&place, protocol, "");
        place.write("answers.yaml", "answers: [{ tool: book_trip, message: lisbon, accept: { confirm: true, notes: quiet } }, { tool: book_trip, decline: true }]\n");
        let ended = place.run(BOOK, &["--answers", "answers.yaml"]);
        let result = ended.result();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(result["tasks"]["pipe"]["output"]["status"], "booked", "{protocol}: {result}");
        assert_eq!(result["tasks"]["pipe"]["output"]["notes"], "quiet", "{protocol}");
        assert_eq!(result["tasks"]["http"]["output"]["status"], "cancelled", "{protocol}: {result}");
    }
}

#[test]
fn without_input_questions_are_declined() {
    let place = Place::new();
    demo(&place, "auto", "");
    let ended = place.run(BOOK, &[]);
    assert_eq!((ended.code, &ended.result()["tasks"]["pipe"]["output"]["status"]), (Some(0), &json!("cancelled")));
    // A closed standard input is nobody, too.
    let closed = place.kapell(&["run", "plan.yaml", "--output", "json"]);
    assert_eq!((closed.code, &closed.result()["tasks"]["http"]["output"]["status"]), (Some(0), &json!("cancelled")));
}

#[test]
fn a_person_answers_line_by_line_and_is_asked_again_after_a_wrong_one() {
    let place = Place::new();
    demo(&place, "auto", "");
    place.write(
        "plan.yaml",
        "name: x\ntasks: [{ id: pipe, agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 1 } }]\n",
    );
    let steps = [("> ", "perhaps\n"), ("> ", "yes\n"), ("> ", "by the window\n")];
    let ended = typing(&place, &steps, None, &["run", "plan.yaml", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["pipe"]["output"]["status"], "booked", "{ended:?}");
    assert_eq!(ended.result()["tasks"]["pipe"]["output"]["notes"], "by the window");
    assert!(ended.err.contains("perhaps"), "{}", ended.err);
}

#[test]
fn sampling_is_answered_by_the_model_in_both_eras_on_both_transports() {
    for protocol in ["legacy", "modern"] {
        let endpoint = Endpoint::answering(["In short: go."]);
        let place = Place::new();
        demo(&place, protocol, &endpoint.section());
        let ended = place.run(
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
        let asked = endpoint.request();
        assert_eq!(
            (&asked["model"], &asked["max_tokens"], &asked["stream"]),
            (&json!("tiny"), &json!(100), &json!(true))
        );
        let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]);
        assert!(shown.out.contains("tiny-7b"), "{}", shown.out);
    }
}

#[test]
fn without_a_model_sampling_is_not_offered() {
    for protocol in ["legacy", "modern"] {
        let place = Place::new();
        demo(&place, protocol, "");
        let ended = place.run(
            "name: x\ntasks: [{ id: a, agent: research, tool: research, with: { topic: Lisbon, delay_ms: 1 } }]\n",
            &[],
        );
        assert_eq!(ended.result()["tasks"]["a"]["output"]["summarised"], json!(false), "{protocol}: {ended:?}");
    }
}

#[test]
fn every_round_is_an_event() {
    let place = Place::new();
    demo(&place, "modern", "");
    place.write("plan.yaml", BOOK);
    let ended = place.kapell(&["run", "plan.yaml", "--no-input", "--output", "stream-json"]);
    let events: Vec<serde_json::Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((of("input_required"), of("question_asked"), of("question_answered")), (2, 2, 2), "{}", ended.out);
    assert_eq!(events.last().map(|event| &event["type"]), Some(&json!("result")));
    assert_eq!(events.first().map(|event| &event["type"]), Some(&json!("run_started")));
}

#[test]
fn what_an_agent_may_ask_of_the_model_is_for_the_agents_file_and_a_person_to_say() {
    const PLAN: &str = "name: x\nmax_parallel: 8\ntasks:\n\
        \x20 - { id: a, agent: odd, tool: work, with: { marker: a } }\n\
        \x20 - { id: b, agent: odd, tool: work, with: { marker: b } }\n\
        \x20 - { id: c, agent: odd, tool: work, with: { marker: c } }\n";
    let endpoint = Endpoint::answering(["In short: go."]);
    let llm = endpoint.section();
    let place = Place::new();
    let agents = |rest: &str| {
        let odd = odd_agent();
        place.write(
            "agents.toml",
            format!("{llm}[agents.odd]\ncommand = \"python3\"\nargs = [{odd:?}, \"asks\"]\n{rest}\n"),
        );
    };
    let answers = |ended: &Ended| {
        let result = ended.result();
        ["a", "b", "c"].map(|task| {
            let said = result["tasks"][task]["output"].as_str().unwrap_or_else(|| panic!("{ended:?}"));
            let said: serde_json::Value = serde_json::from_str(said).expect("JSON");
            let answer = &said["answer"];
            answer["text"].as_str().or(answer["message"].as_str()).unwrap_or_default().to_owned()
        })
    };

    agents("sampling = \"ask\"");
    let refused = place.run(PLAN, &[]);
    assert_eq!(answers(&refused), ["nobody allowed the request to the language model"; 3], "{refused:?}");
    place.write("answers.yaml", "answers: [{ task: b, message: may it ask the language model, accept: true }]\n");
    let asked = place.run(PLAN, &["--answers", "answers.yaml"]);
    assert_eq!(answers(&asked)[1], "In short: go.", "{asked:?}");
    assert_eq!(answers(&asked)[0], "nobody allowed the request to the language model");

    // Each reply is told to have used fifteen tokens.
    agents("sampling = { max_tokens = 114 }\nmax_processes = 2");
    let bounded = place.run(PLAN, &["--journal", "journal.db"]);
    let refused = answers(&bounded).iter().filter(|answer| answer.contains("`sampling.max_tokens` is 114")).count();
    assert_eq!(refused, 2, "{bounded:?}");
    let log = place.kapell(&["logs", "last", "--journal", "journal.db", "--output", "json"]);
    let events = log.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
    let sampled: Vec<_> = events.filter(|event| event["type"] == "sampling_started").collect();
    assert_eq!(sampled.len(), 1, "{}", log.out);
    assert_eq!(sampled[0]["origin"]["attempt"]["task"], sampled[0]["chat"]["messages"][0]["parts"][0]["text"]);
}

#[test]
fn sampling_fails_when_the_model_asks_for_a_tool_in_a_way_that_cannot_be_read() {
    let endpoint = Endpoint::answering(["call geo_find {\"city\":"]);
    let place = Place::new();
    place.agents(&["samples-tools"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}tools = true\n{agents}", endpoint.section()));
    let ended = place.run("name: x\ntasks: [{ id: a, agent: odd-samples-tools, tool: work }]\n", &[]);
    let said = ended.result()["tasks"]["a"]["output"].as_str().unwrap_or_else(|| panic!("{ended:?}")).to_owned();
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let message = "model `tiny-7b` asked for tool `geo.find` with arguments that are not JSON: \
                   EOF while parsing a value at line 1 column 8";
    assert_eq!(said, json!({"code": -32603, "message": message}));
}
