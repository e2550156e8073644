//! Resources, prompts, and completion of the demo archive.

use serde_json::{Value, json};

use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::Workspace;

/// Returns a workspace whose archive holds `brief.json` and `brief.md`.
fn workspace_with_documents() -> Workspace {
    let place = Workspace::new();
    place.write_agents(&[]);
    std::fs::create_dir(place.path("documents")).expect("a new directory");
    place.write("documents/brief.json", r#"{"city": "Lisbon", "nights": [3, 4]}"#);
    place.write("documents/brief.md", "# Lisbon\n");
    place
}

#[test]
fn resources_are_inputs_of_tasks() {
    let place = workspace_with_documents();
    let plan = "name: x\n\
        inputs: { name: { type: string, default: brief.json } }\n\
        tasks:\n\
        \x20 - { id: text, read: { agent: archive, uri: \"archive:///brief.md\" } }\n\
        \x20 - id: each\n\
        \x20   foreach: [brief.json, brief.md]\n\
        \x20   read: { agent: archive, template: \"archive:///{name}\", with: { name: \"${{ item }}\" } }\n\
        \x20 - id: store\n\
        \x20   agent: archive\n\
        \x20   tool: store_document\n\
        \x20   with: { title: \"${{ resource('archive', 'archive:///' ~ inputs.name).city }}\", text: \"${{ tasks.text.text }}\" }\n\
        outputs:\n\
        \x20 each: ${{ tasks.each.outputs }}\n\
        \x20 stored: ${{ tasks.store.output.uri }}\n\
        \x20 nights: ${{ resource('archive', 'archive:///' ~ inputs.name).nights[1] }}\n";
    let ended = place.run_plan(plan, &["--journal", "j.db"]);
    let result = ended.result();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let brief = json!({"city": "Lisbon", "nights": [3, 4]});
    assert_eq!(result["outputs"]["each"], json!([brief, "# Lisbon\n"]));
    assert_eq!(result["outputs"]["nights"], 4);
    let stored = result["outputs"]["stored"].as_str().expect("a URI");
    assert!(stored.starts_with("archive:///lisbon-"), "{stored}");
    // The resource of both expressions was read once.
    let calls = place.logged_events("j.db", "attempt_started");
    let reads = calls.iter().filter(|call| call["tool"] == "resources/read");
    assert_eq!(reads.count(), 4);
}

#[test]
fn missing_resources_fail_with_the_reason_of_the_agent() {
    let place = workspace_with_documents();
    let plan = "name: x\ntasks:\n\
        \x20 - { id: a, read: { agent: archive, uri: \"archive:///none.md\" }, retry: 3 }\n\
        \x20 - { id: b, needs: [a], read: { agent: archive, uri: \"archive:///brief.md\" } }\n";
    let ended = place.run_plan(plan, &["--journal", "j.db"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.task("a"), ("failed".to_owned(), Some("refused".to_owned())));
    assert_eq!(ended.task("b").0, "skipped");
    assert_eq!(place.logged_events("j.db", "attempt_started").len(), 1, "a missing resource is not read again");
}

#[test]
fn prompts_of_agents_are_sent_to_the_model() {
    let place = workspace_with_documents();
    let endpoint = ScriptedEndpoint::with_replies(["It is about Lisbon."]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}{agents}", endpoint.config_section()));
    let plan = "name: x\ntasks:\n\
        \x20 - id: sum\n\
        \x20   use_prompt: { agent: archive, name: summarize_document, with: { name: brief.md, sentences: 1 } }\n\
        \x20   system: Be brief.\n";
    let ended = place.run_plan(plan, &["--journal", "j.db"]);
    assert_eq!((ended.code, &ended.result()["tasks"]["sum"]["output"]), (Some(0), &json!("It is about Lisbon.")));
    let request = endpoint.next_request();
    let messages = request["messages"].as_array().expect("messages");
    let contents: Vec<&Value> = messages.iter().map(|message| &message["content"]).collect();
    let expected = [
        json!("Be brief."),
        json!("Summarize this document in 1 sentences."),
        json!("[resource archive:///brief.md]\n# Lisbon\n"),
    ];
    assert_eq!(contents, expected.iter().collect::<Vec<_>>());
    let shown = place.kapell(&["logs", "last", "--journal", "j.db"]);
    assert!(shown.stdout.contains("uses the prompt archive.summarize_document"), "{}", shown.stdout);
}

#[test]
fn arguments_of_prompts_are_validated() {
    let place = workspace_with_documents();
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("[llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n{agents}"));
    let validate = |prompt: &str| {
        place.write("plan.yaml", format!("tasks:\n  - {{ id: a, use_prompt: {{ agent: archive, {prompt} }} }}\n"));
        let ended = place.kapell(&["validate", "plan.yaml"]);
        (ended.code, ended.error_codes().into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(validate("name: summarize_document, with: { name: brief.md }"), (Some(0), vec![]));
    assert_eq!(validate("name: summarize"), (Some(2), vec!["plan::unknown_prompt".to_owned()]));
    assert_eq!(validate("name: summarize_document"), (Some(2), vec!["plan::missing_argument".to_owned()]));
}

#[test]
fn commands_list_and_complete_what_agents_offer() {
    let place = workspace_with_documents();
    let test = place.kapell(&["agents", "test", "archive"]);
    assert!(test.stdout.contains("2 tools, 2 resources, 1 resource template, 1 prompt\n"), "{test:?}");
    let test: Value = place.kapell(&["agents", "test", "archive", "--output", "json"]).result();
    let counts = ["tools", "resources", "resource_templates", "prompts"].map(|key| test[0][key].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(1), Some(1)]);
    let resources = place.kapell(&["agents", "resources", "archive"]);
    let expected = "archive  archive:///brief.json  application/json\n    brief.json\n\
                    archive  archive:///brief.md  text/markdown\n    brief.md\n\
                    archive  archive:///{name}\n    A document: A stored document, by its file name.\n";
    assert_eq!(resources.stdout, expected);
    let listed: Value = place.kapell(&["agents", "resources", "archive", "--output", "json"]).result();
    assert_eq!(listed[0]["resource_templates"][0]["uri_template"], "archive:///{name}");
    let prompts = place.kapell(&["agents", "prompts", "archive"]);
    let expected = "archive.summarize_document(name, sentences?)\n    \
                    Summarize a document: Asks for a summary of a stored document.\n";
    assert_eq!(prompts.stdout, expected);
    for target in [["--prompt", "summarize_document"], ["--resource", "archive:///{name}"]] {
        let completed = place.kapell(&["agents", "complete", "archive", target[0], target[1], "name=brief.m"]);
        assert_eq!((completed.code, completed.stdout.as_str()), (Some(0), "brief.md\n"), "{completed:?}");
    }
    let completed =
        place.kapell(&["agents", "complete", "archive", "--prompt", "x", "name=", "--output", "json"]).result();
    assert_eq!(completed, json!({"values": ["brief.json", "brief.md"], "total": 2, "has_more": false}));
    let refused = place.kapell(&["agents", "complete", "travel", "--prompt", "x", "name="]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert_eq!(place.kapell(&["agents", "complete", "archive", "name="]).code, Some(2));
}
