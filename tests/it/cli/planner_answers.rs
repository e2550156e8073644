//! Replies of the planner's model that are not plans: truncated, empty, too long, or a tool call.

use serde_json::{Value, json};

use crate::cli::terminal_answers::run_in_terminal;
use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::Workspace;

const GOAL: &str = "Read about Lisbon";

fn task_json(number: usize, topic: &str) -> Value {
    let arguments = json!({"topic": topic, "depth": 1, "delay_ms": 1});
    json!({"title": format!("Read {number}"), "tool": "research.research", "args": arguments})
}

fn plan_json(tasks: Vec<Value>) -> String {
    json!({"tasks": tasks}).to_string()
}

/// Returns a workspace with the demo agents, a model with these replies, and more lines of the agents file.
fn workspace<'r>(answers: impl IntoIterator<Item = &'r str>, more: &str) -> (Workspace, ScriptedEndpoint) {
    let endpoint = ScriptedEndpoint::with_replies(answers);
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{more}\n{agents}", endpoint.config_section()));
    (place, endpoint)
}

/// Asserts that the second request asks for a repair: it repeats the reply and reports its errors.
fn assert_repair_requested(endpoint: &ScriptedEndpoint) {
    let roles = |request: Value| {
        let messages = request["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| message["role"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(roles(endpoint.next_request()), ["system", "user"]);
    assert_eq!(roles(endpoint.next_request()), ["system", "user", "assistant", "user"]);
}

#[test]
fn goal_without_a_plan_is_answered() {
    let answer = json!({"tasks": [], "answer": "2+2 is 4;\u{1b}[2J no tool is needed."}).to_string();
    // A second reply would be a plan, but it must not be requested.
    let second = plan_json(vec![task_json(1, "numbers")]);
    let (place, _endpoint) = workspace([&*answer, &*second], "");
    let ended = place.kapell(&["run", "What is 2 + 2?", "--journal", "journal.db"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "2+2 is 4;\\u{1b}[2J no tool is needed.\n"), "{ended:?}");
    let (place, _endpoint) = workspace([&*answer], "");
    let json = place.kapell(&["run", "What is 2 + 2?", "--json"]);
    let expected = json!({"status": "succeeded", "answer": "2+2 is 4;\u{1b}[2J no tool is needed."});
    assert_eq!((json.code, json.result()), (Some(0), expected), "{json:?}");
    let plan = place.kapell(&["plan", "What is 2 + 2?"]);
    assert_eq!((plan.code, plan.stdout.as_str(), plan.error_code()), (Some(1), "", "planner::no_tasks"), "{plan:?}");
    assert!(plan.stderr.contains("2+2 is 4;\\u{1b}[2J no tool is needed."), "{}", plan.stderr);
    assert!(!place.path("journal.db").exists(), "nothing ran");
}

#[test]
fn impossible_goal_is_not_repaired() {
    let answer = json!({"tasks": [], "missing": "No tool sends e-mail."}).to_string();
    let (place, _endpoint) = workspace([&*answer, &*plan_json(vec![task_json(1, "mail")])], "");
    let ended = place.kapell(&["run", "Send an e-mail to Ada", "--yes"]);
    assert_eq!((ended.code, ended.error_code()), (Some(1), "planner::impossible"), "{ended:?}");
    assert!(ended.stderr.contains("No tool sends e-mail."), "{}", ended.stderr);
}

#[test]
fn part_of_a_goal_is_partial() {
    let mut plan: Value = serde_json::from_str(&plan_json(vec![task_json(1, "Lisbon")])).expect("JSON");
    plan["missing"] = json!("Nothing is sent by e-mail.");
    let (place, endpoint) = workspace([&*plan.to_string(), "There is much to read [t1]."], "");
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    let expected = "There is much to read [t1].\n\nNot done: Nothing is sent by e-mail.\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), expected), "{ended:?}");
    assert!(ended.stderr.contains("not planned: Nothing is sent by e-mail."), "{}", ended.stderr);
    // The agent asks the model too, and the goal is checked before the synthesis.
    let requests: Vec<Value> = (0..4).map(|_| endpoint.next_request()).collect();
    let prompt = requests[3]["messages"][1]["content"].to_string();
    assert!(prompt.contains("Nothing is sent by e-mail."), "{prompt}");
    let shown = place.kapell(&["result", "--journal", "journal.db", "--json"]).result();
    assert_eq!((&shown["status"], &shown["missing"]), (&json!("partial"), &json!("Nothing is sent by e-mail.")));
}

#[test]
fn only_source_is_cited_by_the_host() {
    let (place, _endpoint) = workspace([&*plan_json(vec![task_json(1, "Lisbon")]), "There is much to read."], "");
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "There is much to read. [t1]\n"), "{ended:?}");
    let result = |place: &Workspace| place.kapell(&["result", "--journal", "journal.db", "--json"]).result();
    assert_eq!(result(&place)["verified"], json!(true));
    let two = plan_json(vec![task_json(1, "Lisbon"), task_json(2, "Porto")]);
    let (place, _endpoint) = workspace([&*two, "There is much to read.", "There is much to read!"], "");
    place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    let unverified = result(&place);
    assert_eq!((&unverified["verified"], &unverified["problems"]), (&json!(false), &json!(["it cites no task"])));
}

#[test]
fn question_of_the_planner_is_answered_at_the_terminal() {
    let question =
        json!({"tasks": [], "question": {"text": "Which city?", "choices": ["Lisbon", "Porto"]}}).to_string();
    let plan = plan_json(vec![task_json(1, "Porto")]);
    let (place, _endpoint) = workspace([&*question], "");
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input"]);
    assert_eq!((ended.code, ended.error_code()), (Some(4), "planner::question"), "{ended:?}");
    assert!(ended.stderr.contains("the planner asks: Which city? (Lisbon, Porto)"), "{}", ended.stderr);
    let (place, endpoint) = workspace([&*question, &*plan, "Much to read [t1]."], "");
    let steps = [("answer> ", "2\n"), ("what to change> ", "y\n")];
    let ended = run_in_terminal(&place, &steps, None, &["run", GOAL, "--journal", "journal.db"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    endpoint.next_request();
    let prompt = endpoint.next_request()["messages"][1]["content"].as_str().map(str::to_owned).expect("text");
    assert!(prompt.contains("You asked: Which city?\nThe answer: Porto\n"), "{prompt}");
}

#[test]
fn wish_at_the_terminal_changes_the_plan() {
    let (first, second) = (plan_json(vec![task_json(1, "Lisbon")]), plan_json(vec![task_json(1, "Porto")]));
    let (place, endpoint) = workspace([&*first, &*second, "Much to read [t1]."], "");
    let steps = [("what to change> ", "read about Porto instead\n"), ("what to change> ", "y\n")];
    let ended = run_in_terminal(&place, &steps, None, &["run", GOAL, "--journal", "journal.db"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    endpoint.next_request();
    let prompt = endpoint.next_request()["messages"][1]["content"].as_str().map(str::to_owned).expect("text");
    assert!(prompt.contains("The user wants another plan: read about Porto instead\n"), "{prompt}");
    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db", "--json"]).result();
    assert_eq!(shown["planning"]["exchanges"].as_array().map(Vec::len), Some(2), "{shown}");
}

#[test]
fn task_limit_is_enforced() {
    let many = plan_json((1..=40).map(|number| task_json(number, "Lisbon")).collect());
    let (limited, endpoint) = workspace([&*many, &*plan_json(vec![task_json(1, "Lisbon")])], "");
    let ended = limited.kapell(&["run", GOAL, "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_repair_requested(&endpoint);
    let (allowed, endpoint) = workspace([&*many], "[planner]\nmax_tasks = 40\n");
    assert_eq!(allowed.kapell(&["plan", GOAL]).code, Some(0));
    let prompt = endpoint.next_request()["messages"][1]["content"].to_string();
    assert!(prompt.contains("Plan at most 40 tasks."), "{prompt}");
    let (refused, _endpoint) = workspace([&*many], "[planner]\nmax_tasks = 39\n");
    let ended = refused.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.error_code(), "plan::too_many_tasks");
    let message = ended.stderr.split_once("too_many_tasks]: ").and_then(|(_, rest)| rest.split_once("\n1 error"));
    insta::assert_snapshot!(message.expect("a message and its help").0);
}

#[test]
fn truncated_plan_raises_the_token_limit() {
    let good = plan_json(vec![task_json(1, "Lisbon")]);
    let (grown, endpoint) = workspace(["cut {\"tasks\": \"long", &*good], "");
    let ended = grown.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(endpoint.next_request()["max_tokens"], 8_192);
    assert_eq!(endpoint.next_request()["max_tokens"], 16_384);
}

#[test]
fn configured_limit_is_kept_and_named() {
    let (fixed, endpoint) = workspace(["think so much\ncut "], "[planner]\nmax_output_tokens = 700\n");
    let ended = fixed.kapell(&["plan", GOAL]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    for _ in 0..3 {
        assert_eq!(endpoint.next_request()["max_tokens"], 700);
    }
    assert_eq!(ended.error_code(), "plan::cut_off");
    let message = ended.stderr.split_once("cut_off]: ").and_then(|(_, rest)| rest.split_once("\n1 error"));
    insta::assert_snapshot!(message.expect("a message and its help").0);
}

#[test]
fn literal_opening_stays_literal() {
    let literal = plan_json(vec![task_json(1, "env: ${{ github.sha }}")]);
    let (place, _endpoint) = workspace([&*literal, "Read [t1]."], "");
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db", "--output", "json"]);
    assert_eq!((ended.code, ended.task("t1").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    assert!(ended.stdout.contains("env: ${{ github.sha }}"), "{}", ended.stdout);
}

#[test]
fn tool_call_instead_of_a_plan_is_repaired() {
    let good = plan_json(vec![task_json(1, "Lisbon")]);
    for answer in ["call research_research {}", "<tool_call>\n{\"name\": \"research\"}\n</tool_call>"] {
        let (place, endpoint) = workspace([answer, &*good], "");
        let ended = place.kapell(&["plan", GOAL]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_repair_requested(&endpoint);
        let (place, _endpoint) = workspace([answer], "");
        assert_eq!(place.kapell(&["plan", GOAL]).error_code(), "plan::no_plan");
    }
}

/// Returns a plan of one task whose goal is checked, the replies of its checks, and what the run says.
fn checked_goal(replies: &[&str]) -> (Workspace, ScriptedEndpoint) {
    let plan = plan_json(vec![task_json(1, "Lisbon")]);
    // The agent asks the model too.
    let all: Vec<&str> = [&*plan, "A list."].into_iter().chain(replies.iter().copied()).collect();
    workspace(all, "")
}

#[test]
fn missing_part_of_the_goal_is_planned_once_more() {
    let arguments = json!({"topic": "Porto", "depth": 1, "delay_ms": 1});
    let task = json!({"title": "Porto", "tool": "research.research", "args": arguments});
    let patch = json!({"keep": [], "tasks": [task], "missing": null}).to_string();
    let incomplete = json!({"complete": false, "missing": "Porto was not read about."}).to_string();
    let complete = json!({"complete": true, "missing": null}).to_string();
    let answer = "Much to read [t1], [t2].";
    let (place, endpoint) = checked_goal(&[&*incomplete, &*patch, "A list.", &*complete, answer]);
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), &*format!("{answer}\n")), "{ended:?}");
    assert!(ended.stderr.contains("replan 1: checking whether the goal is reached"), "{}", ended.stderr);
    assert!(ended.stderr.contains("replan 2: the goal is reached"), "{}", ended.stderr);
    let requests: Vec<Value> = (0..7).map(|_| endpoint.next_request()).collect();
    let prompt = |number: usize| requests[number]["messages"][1]["content"].to_string();
    assert!(prompt(3).contains("this is missing: Porto was not read about."), "{}", prompt(3));
    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db", "--json"]).result();
    assert_eq!(shown["spending"]["planning"]["llm_calls"], json!(4), "{shown}");
}

#[test]
fn missing_part_that_cannot_be_planned_is_reported() {
    let incomplete = json!({"complete": false, "missing": "Nothing was sent."}).to_string();
    let nothing = json!({"keep": [], "tasks": [], "missing": "no mail"}).to_string();
    let (place, _endpoint) = checked_goal(&[&*incomplete, &*nothing, "Much to read [t1]."]);
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    let expected = "Much to read [t1].\n\nNot done: Nothing was sent.\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), expected), "{ended:?}");
}

#[test]
fn tools_of_many_are_chosen_by_steps() {
    let steps = json!({"steps": ["read about a city"], "tools": ["research.research"]}).to_string();
    let plan = plan_json(vec![task_json(1, "Lisbon")]);
    let (place, endpoint) = workspace([&*steps, &*plan], "");
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let more: String = (0..14)
        .map(|number| {
            format!("[agents.copy{number}]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"archive\"]\n")
        })
        .collect();
    let with_copies = format!("{agents}{more}");
    place.write("agents.toml", with_copies);
    let ended = place.kapell(&["plan", "Lies etwas \u{fc}ber Lissabon"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("choosing among"), "{}", ended.stderr);
    let names = endpoint.next_request()["messages"][1]["content"].as_str().map(str::to_owned).expect("text");
    assert!(names.contains("research: research\n") && names.ends_with("Lissabon\nAnswer:"), "{names}");
    let prompt = endpoint.next_request()["messages"][1]["content"].as_str().map(str::to_owned).expect("text");
    assert!(prompt.contains("research.research(topic: string"), "{prompt}");
}
