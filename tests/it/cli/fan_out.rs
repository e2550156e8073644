//! A hundred concurrent calls that each ask the model. Every request is charged to its own task, over both transports
//! and in both eras.

use std::sync::Barrier;

use serde_json::{Value, json};

use crate::support::scripted_endpoint::{ScriptedEndpoint, ScriptedReply};
use crate::support::workspace::Workspace;

const CALLS: usize = 100;

/// Returns the number in a prompt of the demo's research agent: `… about topic 17:` and its findings.
fn topic_number(request: &Value) -> usize {
    let message = request["messages"].as_array().and_then(|messages| messages.last()).expect("a message");
    let line = message["content"].as_str().and_then(|text| text.lines().next()).expect("a line");
    line.rsplit(' ').next().and_then(|word| word.strip_suffix(':')?.parse().ok()).expect("a topic")
}

/// Returns a model that summarizes topic 17 as `sum 17`, with a usage of 1017 tokens. It replies only when `together`
/// requests are open at once.
fn model_with_barrier(together: usize) -> ScriptedEndpoint {
    let barrier = Barrier::new(together);
    ScriptedEndpoint::with_script(move |request| {
        barrier.wait();
        let number = topic_number(request);
        ScriptedReply { text: format!("sum {number}"), tokens: 1_000 + number as u64 }
    })
}

/// Runs all calls with an agent that has this section, and compares every call with its own request.
fn assert_requests_are_attributed(endpoint: &ScriptedEndpoint, agent: &str) {
    let place = Workspace::new();
    let command = "command = \"${KAPELL}\"\nmax_concurrency = 100";
    place.write("agents.toml", format!("{}[agents.research]\n{command}\n{agent}\n", endpoint.config_section()));
    let numbers: Vec<usize> = (0..CALLS).collect();
    let plan = format!(
        "name: hundred\nmax_parallel: 100\ndefaults: {{ timeout: 60s }}\ntasks:\n\
         \x20 - id: ask\n    foreach: {numbers:?}\n    as: number\n    agent: research\n    tool: research\n\
         \x20   with: {{ topic: \"topic ${{{{ number }}}}\", depth: 1, delay_ms: 0 }}\n"
    );
    let ended = place.run_plan(&plan, &["--journal", "journal.db"]);
    assert_eq!(ended.code, Some(0), "{agent}: {}", ended.stderr);
    let shown = place.kapell(&["runs", "show", "last", "--output", "json", "--journal", "journal.db"]).result();
    let items = shown["tasks"]["ask"]["items"].as_array().expect("items");
    let output =
        |item: &Value| json!([item["status"], item["attempts"], item["output"]["topic"], item["output"]["summary"]]);
    let expected =
        numbers.iter().map(|number| json!(["succeeded", 1, format!("topic {number}"), format!("sum {number}")]));
    assert_eq!(items.iter().map(output).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{agent}");
    let mut requests: Vec<Value> = shown["sampling"].as_object().expect("requests").values().cloned().collect();
    requests.sort_by_key(|request| request["usage"]["input_tokens"].as_u64());
    let expected = numbers.iter().map(|number| {
        json!({
            "asker": "research", "task": format!("ask[{number}]"), "model": "tiny-7b", "stop_reason": "endTurn",
            "usage": {"input_tokens": 1_000 + number, "output_tokens": 3}, "error": null,
        })
    });
    assert_eq!(requests, expected.collect::<Vec<_>>(), "{agent}");
    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]).stdout;
    let charged = |number| shown.contains(&format!("\nresearch, for ask[{number}] "));
    assert!((0..CALLS).all(charged), "{shown}");
}

#[test]
fn stdio_requests_are_attributed_with_several_processes() {
    let agent = "args = [\"demo-agent\", \"research\"]\nprotocol = \"legacy\"\nmax_processes = 4";
    assert_requests_are_attributed(&model_with_barrier(4), agent);
}

#[test]
fn stdio_requests_are_attributed_in_the_modern_era() {
    let agent = "args = [\"demo-agent\", \"research\"]\nprotocol = \"modern\"";
    assert_requests_are_attributed(&model_with_barrier(CALLS), agent);
}

#[test]
fn http_requests_are_attributed_in_both_eras() {
    for era in ["legacy", "modern"] {
        let agent = format!(
            "url = \"http://127.0.0.1:${{PORT}}/mcp\"\nargs = [\"demo-agent\", \"research\", \"--http\", \"${{PORT}}\"]\n\
             protocol = \"{era}\""
        );
        assert_requests_are_attributed(&model_with_barrier(CALLS), &agent);
    }
}
