//! Tasks for the language model, with a scripted endpoint: text, schemas, tools, budgets.

use serde_json::json;

use crate::{
    endpoint::{Endpoint, Reply},
    support::{Ended, Place},
};

fn run(endpoint: &Endpoint, plan: &str) -> (Place, Ended) {
    let place = Place::new();
    place.agents(&["good"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}tools = true\n{agents}", endpoint.section()));
    let ended = place.run(plan, &["--journal", "journal.db"]);
    (place, ended)
}

#[test]
fn a_prompt_takes_the_outputs_of_others_and_gives_its_own() {
    let endpoint = Endpoint::answering(["Two words."]);
    let (place, ended) = run(
        &endpoint,
        "name: x\ntasks:\n\
         \x20 - { id: a, agent: odd-good, tool: echo, with: { text: one two } }\n\
         \x20 - { id: count, system: Be brief., prompt: \"Count: ${{ tasks.a.output }}\", max_tokens: 50 }\n\
         \x20 - { id: b, agent: odd-good, tool: echo, with: { text: \"${{ tasks.count.output }}\" } }\n",
    );
    assert_eq!((ended.code, &ended.result()["tasks"]["b"]["output"]), (Some(0), &json!("Two words.")), "{ended:?}");
    let asked = endpoint.request();
    assert_eq!(asked["messages"][0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(asked["messages"][1], json!({"role": "user", "content": "Count: one two"}));
    assert_eq!(asked["max_tokens"], 50);
    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]);
    assert!(shown.out.contains("count") && shown.out.contains("tiny-7b"), "{}", shown.out);
}

#[test]
fn an_answer_by_a_schema_is_structured_and_repaired_once() {
    let plan = "name: x\ntasks:\n\
        \x20 - { id: a, prompt: How many?, output_schema: { type: object, properties: { n: { type: integer } }, required: [n] } }\n\
        outputs: { n: \"${{ tasks.a.output.n }}\" }\n";
    let (_place, ended) = run(&Endpoint::answering(["{\"n\": \"two\"}", "{\"n\": 2}"]), plan);
    assert_eq!((ended.code, &ended.result()["outputs"]), (Some(0), &json!({"n": 2})), "{ended:?}");
    let (_place, ended) = run(&Endpoint::answering(["two", "{\"n\": \"two\"}"]), plan);
    assert_eq!((ended.code, ended.task("a").1.as_deref()), (Some(1), Some("model_failed")), "{ended:?}");
}

#[test]
fn the_tools_of_a_prompt_are_called_and_journalled_like_any_other() {
    let endpoint = Endpoint::answering(["call odd-good_echo {\"text\":\"${{ inputs.x }}\"}", "It says so."]);
    let (place, ended) = run(
        &endpoint,
        "name: x\ntasks: [{ id: a, prompt: What does it say?, tools: [odd-good.echo], max_turns: 3 }]\n",
    );
    assert_eq!((ended.code, &ended.result()["tasks"]["a"]["output"]), (Some(0), &json!("It says so.")), "{ended:?}");
    let first = endpoint.request();
    assert_eq!(first["tools"][0]["function"]["name"], "odd-good_echo", "{first}");
    let second = endpoint.request();
    let told = second["messages"].as_array().and_then(|messages| messages.last()).expect("a message");
    assert_eq!((&told["role"], &told["content"]), (&json!("tool"), &json!("${{ inputs.x }}")), "what it says is data");
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]);
    assert!(logs.out.contains("a/1#1: calls odd-good.echo"), "{}", logs.out);
}

#[test]
fn a_model_that_garbles_the_arguments_of_a_tool_is_told_so_and_goes_on() {
    let endpoint =
        Endpoint::answering(["call odd-good_echo {\"text\":", "call odd-good_echo {\"text\":\"hi\"}", "It says hi."]);
    let (_place, ended) =
        run(&endpoint, "name: x\ntasks: [{ id: a, prompt: What does it say?, tools: [odd-good.echo] }]\n");
    assert_eq!((ended.code, &ended.result()["tasks"]["a"]["output"]), (Some(0), &json!("It says hi.")), "{ended:?}");
    endpoint.request();
    let second = endpoint.request();
    let messages = second["messages"].as_array().expect("messages");
    let [.., asked, told] = messages.as_slice() else { panic!("{second}") };
    assert_eq!(asked["tool_calls"][0]["function"], json!({"name": "odd-good_echo", "arguments": "{}"}));
    let problem = "are not JSON: EOF while parsing a value at line 1 column 8";
    let said =
        format!("The tool failed: `odd-good.echo` was not called: its arguments {problem}; give one JSON object");
    assert_eq!(*told, json!({"role": "tool", "tool_call_id": "call-1", "content": said}));
}

#[test]
fn what_a_model_thought_goes_back_to_it_with_its_tools_and_is_no_answer() {
    let replies = ["think It may echo.\ncall odd-good_echo {\"text\":\"hi\"}", "think So it does.\nIt says hi."];
    let plan = "name: x\ntasks: [{ id: a, prompt: What does it say?, tools: [odd-good.echo] }]\n";
    for (provider, thoughts) in [("provider = \"deepseek\"", json!("It may echo.")), ("", json!(null))] {
        let endpoint = Endpoint::answering(replies);
        let place = Place::new();
        place.agents(&["good"]);
        let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
        place.write("agents.toml", format!("{}{provider}\ntools = true\n{agents}", endpoint.section()));
        let ended = place.run(plan, &[]);
        assert_eq!(
            (ended.code, &ended.result()["tasks"]["a"]["output"]),
            (Some(0), &json!("It says hi.")),
            "{ended:?}"
        );
        endpoint.request();
        let second = endpoint.request();
        assert_eq!(second["messages"][1]["reasoning_content"], thoughts, "{second}");
    }
}

#[test]
fn a_budget_that_is_spent_ends_the_run_with_its_own_code_and_keeps_what_was_done() {
    let (_place, ended) = run(
        &Endpoint::answering(["fine"]),
        "name: x\nbudget: { llm_calls: 1 }\ntasks:\n  - { id: a, prompt: One }\n  - { id: b, needs: [a], prompt: Two }\n",
    );
    assert_eq!((ended.code, ended.result()["status"].as_str()), (Some(5), Some("partial")), "{ended:?}");
    assert_eq!((ended.task("a").0.as_str(), ended.task("b").0.as_str()), ("succeeded", "cancelled"));
}

#[test]
fn a_synthesis_is_the_answer_of_the_run() {
    let plan = "name: x\nresult: synthesize\ntasks:\n\
        \x20 - { id: a, agent: odd-good, tool: echo, with: { text: it is green } }\n";
    let endpoint = Endpoint::answering(["It is green, surely.", "It is green [a]."]);
    let (place, ended) = run(&endpoint, plan);
    assert_eq!(
        (ended.code, &ended.result()["tasks"]["answer"]["output"]),
        (Some(0), &json!("It is green [a].")),
        "{ended:?}"
    );
    let asked = endpoint.request();
    assert!(
        asked["messages"][1]["content"].as_str().is_some_and(|said| said.contains("it is green\n</result>")),
        "{asked}"
    );
    let text = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!((text.code, text.out.as_str()), (Some(0), "It is green [a].\n"), "{text:?}");
}

#[test]
fn a_prompt_without_a_model_is_a_mistake_of_the_plan() {
    let place = Place::new();
    place.agents(&[]);
    let ended = place.run("name: x\ntasks: [{ id: a, prompt: Why? }]\n", &[]);
    assert!(ended.code == Some(2) && ended.err.contains("no_model"), "{ended:?}");
}

#[test]
fn the_settings_of_a_model_and_of_the_planner_reach_its_endpoint() {
    let endpoint = Endpoint::answering(["{\"analysis\": \"Nothing is to be done.\", \"tasks\": []}", "{\"n\": 2}"]);
    let place = Place::new();
    place.agents(&["good"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let settings = "temperature = 0.2\nseed = 7\nreasoning_effort = \"low\"\nextra_body = { top_p = 0.9, nested = { a = [1] } }\n\
                    [planner]\ntemperature = 0\nreasoning_effort = \"high\"\n";
    place.write("agents.toml", format!("{}{settings}{agents}", endpoint.section()));
    let ended = place.kapell(&["plan", "Count the stars"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let plan = "name: x\ntasks: [{ id: a, prompt: How many?, output_schema: { type: object } }]\n";
    assert_eq!(place.run(plan, &[]).code, Some(0));
    let common = [("seed", json!(7)), ("top_p", json!(0.9)), ("nested", json!({"a": [1]}))];
    for (temperature, effort) in [(json!(0.0), json!("high")), (json!(0.2), json!("low"))] {
        let asked = endpoint.request();
        assert_eq!((&asked["temperature"], &asked["reasoning_effort"]), (&temperature, &effort));
        assert!(common.iter().all(|(key, value)| asked[key] == *value), "{asked}");
    }
}

#[test]
fn a_schema_that_the_endpoint_does_not_show_is_in_the_prompt_and_counted() {
    let schema = "type: object, properties: { number_of_stars: { type: integer } }, required: [number_of_stars]";
    let plan = |more: &str| {
        format!(
            "name: x\n{more}tasks: [{{ id: a, prompt: How many?, max_tokens: 10, output_schema: {{ {schema} }} }}]\n"
        )
    };
    for (section, is_shown) in [("", true), ("schema_in_prompt = false\n", false), ("provider = \"openai\"\n", false)] {
        let endpoint = Endpoint::answering(["{\"number_of_stars\": 2}"]);
        let place = Place::new();
        place.agents(&[]);
        place.write("agents.toml", format!("{}{section}", endpoint.section()));
        assert_eq!(place.run(&plan(""), &[]).code, Some(0));
        let asked = endpoint.request();
        let in_prompt = asked["messages"].to_string().contains("number_of_stars");
        assert_eq!(in_prompt, is_shown, "{section}: {asked}");
        assert_eq!(asked["response_format"]["type"], "json_schema");
        // The prompt and the reply alone are at most 13 tokens.
        let ended = place.run(&plan("budget: { tokens: 50 }\n"), &[]);
        assert!(ended.err.contains("tokens, more than the run's whole budget of 50"), "{section}: {ended:?}");
    }
}

#[test]
fn a_run_warns_once_that_prompts_are_not_read_whole() {
    let long = "word ".repeat(5_000);
    let plan = format!(
        "name: x\ntasks:\n  - {{ id: a, prompt: \"{long}\" }}\n  - {{ id: b, needs: [a], prompt: \"{long}\" }}\n\
         \x20 - {{ id: c, needs: [b], prompt: Short. }}\n"
    );
    let lost = "read only 12 tokens of a prompt of at least 5000, so the rest was lost without an error; ";
    let (place, ended) = run(&Endpoint::answering(["Fine."]), &plan);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.err.matches(lost).count(), 1, "{}", ended.err);
    assert!(ended.err.contains(&format!("a: warning: model `tiny` {lost}")), "{}", ended.err);
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]);
    assert_eq!(logs.out.matches(lost).count(), 1, "{}", logs.out);
    let whole = Endpoint::replying(|_| Reply { text: "Fine.".to_owned(), tokens: 6_700 });
    assert!(!run(&whole, &plan).1.err.contains("warning"));

    let goal = format!("Count these: {long}");
    let endpoint = Endpoint::answering(["{\"analysis\": \"Nothing is to be done.\", \"tasks\": []}"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let (_, rest) = agents.split_once("tools = true\n").expect("the section of the model");
    place.write("agents.toml", format!("{}{rest}", endpoint.section()));
    let ended = place.kapell(&["plan", &goal]);
    assert_eq!(ended.err.matches("warning: model `tiny` read only 12 tokens").count(), 1, "{}", ended.err);
}
