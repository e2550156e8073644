//! Servers of earlier SDKs, without any setting: those that exit on the probe for the modern era, and the everything
//! server of 2025.

use std::path::Path;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::host::HostRun;
use crate::root;
use crate::support::scripted_endpoint::ScriptedEndpoint;

/// Returns an agents file with one agent `old`.
fn agents_file(command: &Path, arguments: &[&str]) -> Result<(TempDir, String), Failed> {
    let place = tempfile::tempdir()?;
    let file = place.path().join("agents.toml");
    let text = format!("[agents.old]\ncommand = {:?}\nargs = {arguments:?}\n", command.display().to_string());
    std::fs::write(&file, text)?;
    Ok((place, file.display().to_string()))
}

/// Calls a stdio server on the Python SDK in `environment` below `.interop`.
pub(crate) fn call_python_server(environment: &str) -> Result<(), Failed> {
    let python = root().join(".interop").join(environment).join("bin/python");
    let script = root().join("tests/interop/servers/lowlevel.py").display().to_string();
    let (place, agents) = agents_file(&python, &[&script])?;
    let plan = place.path().join("plan.yaml");
    std::fs::write(&plan, "name: x\ntasks: [{ id: a, agent: old, tool: greet }]\n")?;
    let outcome = HostRun::new(&agents)?.run(&plan.display().to_string())?;
    outcome.assert_succeeded()?;
    assert_eq!(outcome.result["tasks"]["a"]["output"], "hello");
    Ok(())
}

const EVERYTHING: &str = ".interop/npm/node_modules/everything-2025/dist/index.js";

pub(crate) fn call_everything_2025() -> Result<(), Failed> {
    let script = root().join(EVERYTHING).display().to_string();
    let (place, agents) = agents_file(Path::new("node"), &[&script])?;
    let plan = place.path().join("plan.yaml");
    let tasks = "  - { id: echo, agent: old, tool: echo, with: { message: hi } }\n\
                 \x20 - { id: add, agent: old, tool: add, with: { a: 2, b: 3 } }\n\
                 \x20 - { id: structured, agent: old, tool: structuredContent, with: { location: Lisbon } }\n";
    std::fs::write(&plan, format!("name: x\ntasks:\n{tasks}"))?;
    let outcome = HostRun::new(&agents)?.run(&plan.display().to_string())?;
    outcome.assert_succeeded()?;
    assert_eq!(outcome.result["tasks"]["echo"]["output"], "Echo: hi");
    assert_eq!(outcome.result["tasks"]["add"]["output"], "The sum of 2 and 3 is 5.");
    assert!(outcome.result["tasks"]["structured"]["output"]["temperature"].is_number());
    Ok(())
}

/// Checks that a sampling request with a context (`includeContext`) is accepted, which a client may leave out.
pub(crate) fn everything_sampling() -> Result<(), Failed> {
    let endpoint = ScriptedEndpoint::with_replies(["Roses are red."]);
    let script = root().join(EVERYTHING).display().to_string();
    let (place, agents) = agents_file(Path::new("node"), &[&script])?;
    let section = std::fs::read_to_string(&agents)?;
    std::fs::write(&agents, format!("{}{section}", endpoint.config_section()))?;
    let plan = place.path().join("plan.yaml");
    let task = "{ id: ask, agent: old, tool: sampleLLM, with: { prompt: Write a poem, maxTokens: 20 } }";
    std::fs::write(&plan, format!("name: x\ntasks: [{task}]\n"))?;
    let outcome = HostRun::new(&agents)?.run(&plan.display().to_string())?;
    outcome.assert_succeeded()?;
    let text = outcome.result["tasks"]["ask"]["output"].as_str().unwrap_or_default();
    assert!(text.contains("Roses are red."), "{text}");
    let asked = endpoint.next_request();
    assert!(asked["messages"].to_string().contains("Write a poem"), "{asked}");
    assert_eq!(asked["max_tokens"], 20, "{asked}");
    Ok(())
}

/// Checks that the filesystem server, without arguments, gets its directory as a root.
pub(crate) fn filesystem_with_roots() -> Result<(), Failed> {
    let script = root().join(".interop/npm/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js");
    let (place, agents) = agents_file(Path::new("node"), &[&script.display().to_string()])?;
    let folder = place.path().join("notes");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("today.txt"), "rain")?;
    let section = std::fs::read_to_string(&agents)?;
    std::fs::write(&agents, format!("{section}roots = [{:?}]\n", folder.display().to_string()))?;
    let plan = place.path().join("plan.yaml");
    let file = folder.join("today.txt").display().to_string();
    let task = format!("{{ id: read, agent: old, tool: read_text_file, with: {{ path: {file:?} }}, retry: 5 }}");
    std::fs::write(&plan, format!("name: x\ntasks: [{task}]\n"))?;
    let outcome = HostRun::new(&agents)?.run(&plan.display().to_string())?;
    outcome.assert_succeeded()?;
    assert!(outcome.result["tasks"]["read"]["output"].to_string().contains("rain"), "{}", outcome.result);
    Ok(())
}

/// Checks that a server whose library refuses elicitation on modern connections is connected in the legacy era.
pub(crate) fn refused_elicitation() -> Result<(), Failed> {
    let python = root().join(".interop/python/bin/python");
    let script = root().join("tests/interop/servers/refusing.py").display().to_string();
    let (place, agents) = agents_file(&python, &[&script])?;
    let answers = place.path().join("answers.yaml");
    std::fs::write(&answers, "answers: [{ agent: old, accept: { name: Ada } }]\n")?;
    let plan = place.path().join("plan.yaml");
    std::fs::write(&plan, "name: x\ntasks: [{ id: a, agent: old, tool: greet, effect: idempotent }]\n")?;
    let run = HostRun::new(&agents)?.with_answers(&answers.display().to_string());
    let outcome = run.run(&plan.display().to_string())?;
    outcome.assert_succeeded()?;
    let task = &outcome.result["tasks"]["a"];
    assert_eq!((&task["output"]["result"], &task["attempts"]), (&"hello Ada".into(), &2.into()));
    Ok(())
}
