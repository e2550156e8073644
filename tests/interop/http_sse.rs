//! Servers over HTTP+SSE of 2024-11-05, without any setting.

use libtest_mimic::Failed;

use crate::host::HostRun;
use crate::root;

/// The plan's folder, and an agents file with the agent `old`: a server that kapell starts and reaches at `/sse`.
fn run(command: &str, arguments: &[String], tasks: &str) -> Result<serde_json::Value, Failed> {
    let place = tempfile::tempdir()?;
    let agents = place.path().join("agents.toml");
    let text = format!(
        "[agents.old]\ncommand = {command:?}\nargs = {arguments:?}\nenv = {{ PORT = \"${{PORT}}\" }}\n\
         url = \"http://127.0.0.1:${{PORT}}/sse\"\n"
    );
    std::fs::write(&agents, text)?;
    let plan = place.path().join("plan.yaml");
    std::fs::write(&plan, format!("name: x\ntasks:\n{tasks}"))?;
    let answers = place.path().join("answers.yaml");
    std::fs::write(&answers, "answers: [{ agent: old, accept: { name: Ada } }]\n")?;
    let run = HostRun::new(&agents.display().to_string())?.with_answers(&answers.display().to_string());
    let outcome = run.run(&plan.display().to_string())?;
    outcome.assert_succeeded()?;
    Ok(outcome.result["tasks"].clone())
}

pub(crate) fn call_everything() -> Result<(), Failed> {
    let script = root().join(".interop/npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let tasks = "  - { id: echo, agent: old, tool: echo, with: { message: hi } }\n\
                 \x20 - { id: sum, agent: old, tool: get-sum, with: { a: 2, b: 3 } }\n\
                 \x20 - { id: long, agent: old, tool: trigger-long-running-operation, with: { duration: 1, steps: 2 } }\n\
                 \x20 - { id: ask, agent: old, tool: trigger-elicitation-request }\n";
    let results = run("node", &[script.display().to_string(), "sse".to_owned()], tasks)?;
    assert_eq!(results["echo"]["output"], "Echo: hi");
    assert_eq!(results["sum"]["output"], "The sum of 2 and 3 is 5.");
    assert_eq!(results["long"]["output"], "Long running operation completed. Duration: 1 seconds, Steps: 2.");
    assert!(results["ask"]["output"].to_string().contains("Ada"), "{}", results["ask"]);
    Ok(())
}

pub(crate) fn call_python_server() -> Result<(), Failed> {
    let python = root().join(".interop/python-1/bin/python").display().to_string();
    let script = root().join("tests/interop/servers/http_sse.py").display().to_string();
    let tasks = "  - { id: greet, agent: old, tool: greet }\n  - { id: count, agent: old, tool: count }\n";
    let results = run(&python, &[script, "${PORT}".to_owned()], tasks)?;
    assert_eq!(results["greet"]["output"]["result"], "hello Ada");
    assert_eq!(results["count"]["output"]["result"], "three");
    Ok(())
}
