//! Tasks for the language model, with a scripted endpoint: text, schemas, tools, and budgets.

use serde_json::json;

use crate::support::scripted_endpoint::{ScriptedEndpoint, ScriptedReply};
use crate::support::workspace::{CommandOutput, Workspace};

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
    let request = endpoint.next_request();
    assert_eq!(request["messages"][0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(request["messages"][1], json!({"role": "user", "content": "Count: one two"}));
    assert_eq!(request["max_tokens"], 50);
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
    let result = second["messages"].as_array().and_then(|messages| messages.last()).expect("a message");
    assert_eq!((&result["role"], &result["content"]), (&json!("tool"), &json!("${{ inputs.x }}")), "a result is data");
    let calls = place.logged_events("journal.db", "attempt_started");
    let calls: Vec<_> =
        calls.iter().map(|event| (&event["attempt"]["task"], &event["agent"], &event["tool"])).collect();
    assert_eq!(calls, [(&json!("a/1"), &json!("odd-good"), &json!("echo"))]);
}

#[test]
fn tools_are_described_in_a_form_that_every_endpoint_accepts() {
    let endpoint = ScriptedEndpoint::with_replies(["Nothing to do."]);
    let place = Workspace::new();
    place.scripted_agent("features", "features.py", "");
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}tools = true\n{agents}", endpoint.config_section()));
    let ended = place.run_plan("name: x\ntasks: [{ id: a, prompt: Find it., tools: [features] }]\n", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let request = endpoint.next_request();
    let tools = request["tools"].as_array().expect("a list");
    let function = |start: &str| {
        let mut functions = tools.iter().map(|tool| &tool["function"]);
        functions
            .find(|function| function["name"].as_str().is_some_and(|name| name.starts_with(start)))
            .expect("offered")
    };
    for tool in tools {
        let name = tool["function"]["name"].as_str().expect("a name");
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        assert!(name.len() <= 64 && name.bytes().all(is_allowed), "{name}");
        let parameters = &tool["function"]["parameters"];
        assert_eq!((&parameters["type"], parameters["properties"].is_object()), (&json!("object"), true), "{tool}");
        assert!(!parameters.to_string().contains("$ref"), "{tool}");
    }
    let either = json!({"type": "object", "properties": {"id": {"type": "integer"}, "name": {}}});
    assert_eq!(function("features_find_by_xxx")["parameters"], either);
    assert_eq!(function("features_any")["parameters"], json!({"type": "object", "properties": {}}));
    let tree = json!({"type": "object", "properties": {"child": {"type": "object"}}});
    assert_eq!(function("features_tree")["parameters"]["properties"]["child"]["properties"], tree["properties"]);
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
    let [.., call, result] = messages.as_slice() else { panic!("{second}") };
    assert_eq!(call["tool_calls"][0]["function"], json!({"name": "odd-good_echo", "arguments": "{}"}));
    assert_eq!((&result["role"], &result["tool_call_id"]), (&json!("tool"), &json!("call-1")));
    insta::assert_snapshot!(result["content"].as_str().expect("text"));
}

#[test]
fn reasoning_is_echoed_with_tool_calls_only() {
    let replies = ["think It may echo.\ncall odd-good_echo {\"text\":\"hi\"}", "think So it does.\nIt says hi."];
    let plan = "name: x\ntasks: [{ id: a, prompt: What does it say?, tools: [odd-good.echo] }]\n";
    for (provider, reasoning) in [("provider = \"deepseek\"", json!("It may echo.")), ("", json!(null))] {
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
        assert_eq!(second["messages"][1]["reasoning_content"], reasoning, "{second}");
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
        \x20 - { id: a, agent: odd-good, tool: echo, with: { text: it is green } }\n\
        \x20 - { id: b, agent: odd-good, tool: echo, with: { text: it is new } }\n";
    let endpoint = ScriptedEndpoint::with_replies(["It is green, surely.", "It is green [a]."]);
    let (place, ended) = run_plan(&endpoint, plan);
    assert_eq!(
        (ended.code, &ended.result()["tasks"]["answer"]["output"]),
        (Some(0), &json!("It is green [a].")),
        "{ended:?}"
    );
    let request = endpoint.next_request();
    let prompt = request["messages"][1]["content"].as_str().expect("text");
    assert!(prompt.contains("it is green\n</result>"), "{prompt}");
    let text = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!((text.code, text.stdout.as_str()), (Some(0), "It is green [a].\n"), "{text:?}");
}

#[test]
fn prompt_without_a_model_is_invalid() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let ended = place.run_plan("name: x\ntasks: [{ id: a, prompt: Why? }]\n", &[]);
    assert_eq!((ended.code, ended.error_code()), (Some(2), "plan::no_model"), "{ended:?}");
}

#[test]
fn model_and_planner_settings_are_sent() {
    let endpoint =
        ScriptedEndpoint::with_replies(["{\"tasks\": [], \"missing\": \"There is nothing to do.\"}", "{\"n\": 2}"]);
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
        let request = endpoint.next_request();
        assert_eq!((&request["temperature"], &request["reasoning_effort"]), (&temperature, &effort));
        assert!(common.iter().all(|(key, value)| request[key] == *value), "{request}");
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
        let request = endpoint.next_request();
        let in_prompt = request["messages"].to_string().contains("number_of_stars");
        assert_eq!(in_prompt, is_shown, "{section}: {request}");
        assert_eq!(request["response_format"]["type"], "json_schema");
        // The prompt and the reply alone are at most 13 tokens.
        let ended = place.run_plan(&plan("budget: { tokens: 50 }\n"), &[]);
        assert_eq!(ended.task("a").1.as_deref(), Some("budget_spent"), "{section}: {ended:?}");
    }
}

#[test]
fn run_warns_once_about_truncated_prompts() {
    let long = "word ".repeat(5_000);
    let plan = format!(
        "name: x\ntasks:\n  - {{ id: a, prompt: \"{long}\" }}\n  - {{ id: b, needs: [a], prompt: \"{long}\" }}\n\
         \x20 - {{ id: c, needs: [b], prompt: Short. }}\n"
    );
    // The warning names this variable.
    let warning = "`OLLAMA_CONTEXT_LENGTH`";
    let (place, ended) = run_plan(&ScriptedEndpoint::with_replies(["Fine."]), &plan);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches(warning).count(), 1, "{}", ended.stderr);
    let replies = place.logged_events("journal.db", "model_replied");
    let warned: Vec<_> = replies.iter().filter(|reply| reply["result"]["Ok"]["warning"].is_string()).collect();
    assert_eq!((replies.len(), warned.len(), &warned[0]["attempt"]["task"]), (3, 1, &json!("a")), "{replies:?}");
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]);
    assert_eq!(logs.stdout.matches(warning).count(), 1, "{}", logs.stdout);
    let complete = ScriptedEndpoint::with_script(|_| ScriptedReply { text: "Fine.".to_owned(), tokens: 6_700 });
    assert!(!run_plan(&complete, &plan).1.stderr.contains("warning"));

    let goal = format!("Count these: {long}");
    let endpoint = ScriptedEndpoint::with_replies(["{\"tasks\": [], \"missing\": \"There is nothing to do.\"}"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let (_, rest) = agents.split_once("tools = true\n").expect("the section of the model");
    place.write("agents.toml", format!("{}{rest}", endpoint.config_section()));
    let ended = place.kapell(&["plan", &goal]);
    assert_eq!(ended.stderr.matches(warning).count(), 1, "{}", ended.stderr);
}
