//! Tasks for the language model, with a scripted endpoint: text, schemas, tools, and budgets.

use serde_json::json;

use crate::support::{
    scripted_endpoint::{ScriptedEndpoint, ScriptedReply},
    workspace::{CommandOutput, Workspace},
};

fn run_plan(endpoint: &ScriptedEndpoint, plan: &str) -> (Workspace, CommandOutput) {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}tools = true\n{agents}", endpoint.config_section()));
    let ended = place.run_plan(plan, &["--journal", "journal.db"]);
    (place, ended)
}

#[test]
fn prompts_use_outputs_and_return_text() {
    let endpoint = ScriptedEndpoint::with_replies(["Two words."]);
    let (place, ended) = run_plan(
        &endpoint,
        "name: x\ntasks:\n\
         \x20 - { id: a, agent: odd-good, tool: echo, with: { text: one two } }\n\
         \x20 - { id: count, system: Be brief., prompt: \"Count: ${{ tasks.a.output }}\", max_tokens: 50 }\n\
         \x20 - { id: b, agent: odd-good, tool: echo, with: { text: \"${{ tasks.count.output }}\" } }\n",
    );
    assert_eq!((ended.code, &ended.result()["tasks"]["b"]["output"]), (Some(0), &json!("Two words.")), "{ended:?}");
    let asked = endpoint.next_request();
    assert_eq!(asked["messages"][0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(asked["messages"][1], json!({"role": "user", "content": "Count: one two"}));
    assert_eq!(asked["max_tokens"], 50);
    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]);
    assert!(shown.stdout.contains("count") && shown.stdout.contains("tiny-7b"), "{}", shown.stdout);
}

#[test]
fn structured_answer_is_repaired_once() {
    let plan = "name: x\ntasks:\n\
        \x20 - { id: a, prompt: How many?, output_schema: { type: object, properties: { n: { type: integer } }, required: [n] } }\n\
        outputs: { n: \"${{ tasks.a.output.n }}\" }\n";
    let (_place, ended) = run_plan(&ScriptedEndpoint::with_replies(["{\"n\": \"two\"}", "{\"n\": 2}"]), plan);
    assert_eq!((ended.code, &ended.result()["outputs"]), (Some(0), &json!({"n": 2})), "{ended:?}");
    let (_place, ended) = run_plan(&ScriptedEndpoint::with_replies(["two", "{\"n\": \"two\"}"]), plan);
    assert_eq!((ended.code, ended.task("a").1.as_deref()), (Some(1), Some("model_failed")), "{ended:?}");
}

#[test]
fn prompt_tools_are_called_and_recorded() {
    let endpoint = ScriptedEndpoint::with_replies(["call odd-good_echo {\"text\":\"${{ inputs.x }}\"}", "It says so."]);
    let (place, ended) = run_plan(
        &endpoint,
        "name: x\ntasks: [{ id: a, prompt: What does it say?, tools: [odd-good.echo], max_turns: 3 }]\n",
    );
    assert_eq!((ended.code, &ended.result()["tasks"]["a"]["output"]), (Some(0), &json!("It says so.")), "{ended:?}");
    let first = endpoint.next_request();
    assert_eq!(first["tools"][0]["function"]["name"], "odd-good_echo", "{first}");
    let second = endpoint.next_request();
    let told = second["messages"].as_array().and_then(|messages| messages.last()).expect("a message");
    assert_eq!((&told["role"], &told["content"]), (&json!("tool"), &json!("${{ inputs.x }}")), "what it says is data");
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]);
    assert!(logs.stdout.contains("a/1#1: calls odd-good.echo"), "{}", logs.stdout);
}

#[test]
fn invalid_tool_arguments_are_returned_to_the_model() {
    let endpoint = ScriptedEndpoint::with_replies([
        "call odd-good_echo {\"text\":",
        "call odd-good_echo {\"text\":\"hi\"}",
        "It says hi.",
    ]);
    let (_place, ended) =
        run_plan(&endpoint, "name: x\ntasks: [{ id: a, prompt: What does it say?, tools: [odd-good.echo] }]\n");
    assert_eq!((ended.code, &ended.result()["tasks"]["a"]["output"]), (Some(0), &json!("It says hi.")), "{ended:?}");
    endpoint.next_request();
    let second = endpoint.next_request();
    let messages = second["messages"].as_array().expect("messages");
    let [.., asked, told] = messages.as_slice() else { panic!("{second}") };
    assert_eq!(asked["tool_calls"][0]["function"], json!({"name": "odd-good_echo", "arguments": "{}"}));
    let problem = "are not JSON: EOF while parsing a value at line 1 column 8";
    let said =
        format!("The tool failed: `odd-good.echo` was not called: its arguments {problem}; give one JSON object");
    assert_eq!(*told, json!({"role": "tool", "tool_call_id": "call-1", "content": said}));
}

#[test]
fn reasoning_is_echoed_with_tool_calls_only() {
    let replies = ["think It may echo.\ncall odd-good_echo {\"text\":\"hi\"}", "think So it does.\nIt says hi."];
    let plan = "name: x\ntasks: [{ id: a, prompt: What does it say?, tools: [odd-good.echo] }]\n";
    for (provider, thoughts) in [("provider = \"deepseek\"", json!("It may echo.")), ("", json!(null))] {
        let endpoint = ScriptedEndpoint::with_replies(replies);
        let place = Workspace::new();
        place.write_agents(&["good"]);
        let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
        place.write("agents.toml", format!("{}{provider}\ntools = true\n{agents}", endpoint.config_section()));
        let ended = place.run_plan(plan, &[]);
        assert_eq!(
            (ended.code, &ended.result()["tasks"]["a"]["output"]),
            (Some(0), &json!("It says hi.")),
            "{ended:?}"
        );
        endpoint.next_request();
        let second = endpoint.next_request();
        assert_eq!(second["messages"][1]["reasoning_content"], thoughts, "{second}");
    }
}

#[test]
fn exhausted_budget_has_its_own_exit_code() {
    let (_place, ended) = run_plan(
        &ScriptedEndpoint::with_replies(["fine"]),
        "name: x\nbudget: { llm_calls: 1 }\ntasks:\n  - { id: a, prompt: One }\n  - { id: b, needs: [a], prompt: Two }\n",
    );
    assert_eq!((ended.code, ended.result()["status"].as_str()), (Some(5), Some("partial")), "{ended:?}");
    assert_eq!((ended.task("a").0.as_str(), ended.task("b").0.as_str()), ("succeeded", "cancelled"));
}

#[test]
fn synthesis_is_the_answer_of_the_run() {
    let plan = "name: x\nresult: synthesize\ntasks:\n\
        \x20 - { id: a, agent: odd-good, tool: echo, with: { text: it is green } }\n";
    let endpoint = ScriptedEndpoint::with_replies(["It is green, surely.", "It is green [a]."]);
    let (place, ended) = run_plan(&endpoint, plan);
    assert_eq!(
        (ended.code, &ended.result()["tasks"]["answer"]["output"]),
        (Some(0), &json!("It is green [a].")),
        "{ended:?}"
    );
    let asked = endpoint.next_request();
    assert!(
        asked["messages"][1]["content"].as_str().is_some_and(|said| said.contains("it is green\n</result>")),
        "{asked}"
    );
    let text = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!((text.code, text.stdout.as_str()), (Some(0), "It is green [a].\n"), "{text:?}");
}

#[test]
fn prompt_without_a_model_is_invalid() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let ended = place.run_plan("name: x\ntasks: [{ id: a, prompt: Why? }]\n", &[]);
    assert!(ended.code == Some(2) && ended.stderr.contains("no_model"), "{ended:?}");
}

#[test]
fn model_and_planner_settings_are_sent() {
    let endpoint =
        ScriptedEndpoint::with_replies(["{\"analysis\": \"Nothing is to be done.\", \"tasks\": []}", "{\"n\": 2}"]);
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let settings = "temperature = 0.2\nseed = 7\nreasoning_effort = \"low\"\nextra_body = { top_p = 0.9, nested = { a = [1] } }\n\
                    [planner]\ntemperature = 0\nreasoning_effort = \"high\"\n";
    place.write("agents.toml", format!("{}{settings}{agents}", endpoint.config_section()));
    let ended = place.kapell(&["plan", "Count the stars"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let plan = "name: x\ntasks: [{ id: a, prompt: How many?, output_schema: { type: object } }]\n";
    assert_eq!(place.run_plan(plan, &[]).code, Some(0));
    let common = [("seed", json!(7)), ("top_p", json!(0.9)), ("nested", json!({"a": [1]}))];
    for (temperature, effort) in [(json!(0.0), json!("high")), (json!(0.2), json!("low"))] {
        let asked = endpoint.next_request();
        assert_eq!((&asked["temperature"], &asked["reasoning_effort"]), (&temperature, &effort));
        assert!(common.iter().all(|(key, value)| asked[key] == *value), "{asked}");
    }
}

#[test]
fn schema_in_the_prompt_is_counted() {
    let schema = "type: object, properties: { number_of_stars: { type: integer } }, required: [number_of_stars]";
    let plan = |more: &str| {
        format!(
            "name: x\n{more}tasks: [{{ id: a, prompt: How many?, max_tokens: 10, output_schema: {{ {schema} }} }}]\n"
        )
    };
    for (section, is_shown) in [("", true), ("schema_in_prompt = false\n", false), ("provider = \"openai\"\n", false)] {
        let endpoint = ScriptedEndpoint::with_replies(["{\"number_of_stars\": 2}"]);
        let place = Workspace::new();
        place.write_agents(&[]);
        place.write("agents.toml", format!("{}{section}", endpoint.config_section()));
        assert_eq!(place.run_plan(&plan(""), &[]).code, Some(0));
        let asked = endpoint.next_request();
        let in_prompt = asked["messages"].to_string().contains("number_of_stars");
        assert_eq!(in_prompt, is_shown, "{section}: {asked}");
        assert_eq!(asked["response_format"]["type"], "json_schema");
        // The prompt and the reply alone are at most 13 tokens.
        let ended = place.run_plan(&plan("budget: { tokens: 50 }\n"), &[]);
        assert!(ended.stderr.contains("tokens, more than the run's whole budget of 50"), "{section}: {ended:?}");
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
    let (place, ended) = run_plan(&ScriptedEndpoint::with_replies(["Fine."]), &plan);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches(lost).count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("a: warning: model `tiny` {lost}")), "{}", ended.stderr);
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]);
    assert_eq!(logs.stdout.matches(lost).count(), 1, "{}", logs.stdout);
    let whole = ScriptedEndpoint::with_script(|_| ScriptedReply { text: "Fine.".to_owned(), tokens: 6_700 });
    assert!(!run_plan(&whole, &plan).1.stderr.contains("warning"));

    let goal = format!("Count these: {long}");
    let endpoint = ScriptedEndpoint::with_replies(["{\"analysis\": \"Nothing is to be done.\", \"tasks\": []}"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let (_, rest) = agents.split_once("tools = true\n").expect("the section of the model");
    place.write("agents.toml", format!("{}{rest}", endpoint.config_section()));
    let ended = place.kapell(&["plan", &goal]);
    assert_eq!(ended.stderr.matches("warning: model `tiny` read only 12 tokens").count(), 1, "{}", ended.stderr);
}
