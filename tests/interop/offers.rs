//! Resources, prompts, and completion of servers that others wrote, through the real binary.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::goals::{self, ServerTransport};
use crate::root;
use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::Workspace;

/// Uses what npm server-everything offers besides tools.
pub(crate) fn offers_of_everything(transport: ServerTransport) -> Result<(), Failed> {
    let endpoint = ScriptedEndpoint::with_replies(["Sunny."]);
    let place = goals::place(transport, &endpoint);
    let tested: Value = place.kapell(&["agents", "test", "--output", "json"]).result();
    for key in ["tools", "resources", "resource_templates", "prompts"] {
        assert!(tested[0][key].as_u64() > Some(0), "{key}: {tested}");
    }
    let plan = "name: x\ntasks:\n\
        \x20 - id: text\n\
        \x20   read: { agent: everything, template: \"demo://resource/dynamic/text/{resourceId}\", with: { resourceId: 1 } }\n\
        \x20 - { id: blob, read: { agent: everything, uri: \"demo://resource/dynamic/blob/2\" } }\n\
        \x20 - id: echo\n\
        \x20   agent: everything\n\
        \x20   tool: echo\n\
        \x20   with: { message: \"${{ resource('everything', 'demo://resource/dynamic/text/3') }}\" }\n\
        \x20 - id: weather\n\
        \x20   use_prompt: { agent: everything, name: args-prompt, with: { city: Lisbon, state: null } }\n\
        outputs: { text: \"${{ tasks.text.output }}\", blob: \"${{ tasks.blob.content[0].resource }}\", \
        echo: \"${{ tasks.echo.output }}\", weather: \"${{ tasks.weather.output }}\" }\n";
    place.write("plan.yaml", plan);
    let validated = place.kapell(&["validate", "plan.yaml"]);
    assert_eq!(validated.code, Some(0), "{validated:?}");
    let ended = place.run_plan(plan, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let outputs = &ended.result()["outputs"];
    let text = |key: &str| outputs[key].as_str().unwrap_or_default();
    assert!(text("text").starts_with("Resource 1: "), "{outputs}");
    assert!(outputs["blob"]["blob"].is_string(), "{outputs}");
    assert!(text("echo").starts_with("Echo: Resource 3: "), "{outputs}");
    assert_eq!(outputs["weather"], "Sunny.");
    let request = endpoint.next_request();
    assert_eq!(request["messages"][0]["role"], "user");
    assert!(request["messages"][0]["content"].as_str().is_some_and(|text| text.contains("Lisbon")), "{request}");
    let complete = |arguments: &[&str]| {
        let completed = place.kapell(&[&["agents", "complete", "everything"], arguments].concat());
        assert_eq!(completed.code, Some(0), "{completed:?}");
        completed.stdout
    };
    assert_eq!(complete(&["--prompt", "completable-prompt", "department=Eng"]), "Engineering\n");
    assert_eq!(
        complete(&["--prompt", "completable-prompt", "name=", "--context", "department=Engineering"]),
        "Alice\nBob\nCharlie\n"
    );
    assert_eq!(complete(&["--resource", "demo://resource/dynamic/text/{resourceId}", "resourceId=7"]), "7\n");
    Ok(())
}

/// Uses a server on PyPI `mcp` that has resources and prompts, and no tools. `folder` is that of the environment.
pub(crate) fn offers_of_python(folder: &str, transport: ServerTransport) -> Result<(), Failed> {
    let (script, python) = (root().join("tests/interop/servers/notes.py"), root().join(".interop").join(folder));
    let python = python.join("bin/python");
    let reached = match transport {
        ServerTransport::Stdio => format!("args = [{script:?}]"),
        ServerTransport::Http => {
            format!("args = [{script:?}, \"${{PORT}}\"]\nurl = \"http://127.0.0.1:${{PORT}}/mcp\"")
        }
    };
    let endpoint = ScriptedEndpoint::with_replies(["Milk."]);
    let place = Workspace::new();
    let agent = format!("[agents.notes]\ncommand = {python:?}\n{reached}\nstartup_timeout = \"30s\"\n");
    place.write("agents.toml", format!("{}{agent}", endpoint.config_section()));
    let plan = "name: x\ntasks:\n\
        \x20 - { id: list, read: { agent: notes, uri: \"note://list\" } }\n\
        \x20 - { id: one, read: { agent: notes, template: \"note://{name}\", with: { name: tea } } }\n\
        \x20 - { id: sum, use_prompt: { agent: notes, name: sum_up, with: { name: \"${{ tasks.list.output[0] }}\" } } }\n\
        outputs: { list: \"${{ tasks.list.output }}\", one: \"${{ tasks.one.output }}\", sum: \"${{ tasks.sum.output }}\" }\n";
    let ended = place.run_plan(plan, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected = json!({"list": ["milk", "tea"], "one": "a note about tea", "sum": "Milk."});
    assert_eq!(ended.result()["outputs"], expected);
    let request = endpoint.next_request();
    assert_eq!(request["messages"][0]["content"], "Sum up milk.");
    let completed = place.kapell(&["agents", "complete", "notes", "--prompt", "sum_up", "name=t"]);
    assert_eq!((completed.code, completed.stdout.as_str()), (Some(0), "tea\n"), "{completed:?}");
    Ok(())
}
