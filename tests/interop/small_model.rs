//! Goals over real servers with a real language model that is too small to plan well: each ends with a valid plan, an
//! answer, a question, or a clear refusal.

use libtest_mimic::Failed;

use crate::engine::LlmEngine;
use crate::root;
use crate::support::workspace::Workspace;

/// The codes of errors that explain why nothing was planned.
const REFUSALS: [&str; 5] =
    ["planner::impossible", "planner::no_tasks", "planner::question", "planner::refused", "plan::"];

pub(crate) fn plans_or_refuses() -> Result<(), Failed> {
    let engine = LlmEngine::start_small_model()?;
    let place = Workspace::new();
    let python = root().join(".interop/python/bin/python");
    let agents = format!(
        "[llm]\nprovider = \"llama.cpp\"\nbase_url = \"{}/v1\"\nmodel = \"{}\"\ntimeout = \"10m\"\n\
         [planner]\nform = \"compact\"\nmax_output_tokens = 512\n\
         [agents.time]\ncommand = {python:?}\nargs = [\"-m\", \"mcp_server_time\", \"--local-timezone\", \"UTC\"]\n\
         startup_timeout = \"60s\"\n",
        engine.url(),
        LlmEngine::SMALL_MODEL,
    );
    place.write("agents.toml", agents);
    for goal in ["What time is it in Tokyo right now?", "Send an email to bob@example.com that it is late."] {
        let ended = place.kapell(&["plan", "--goal", goal]);
        let is_refused = REFUSALS.iter().any(|code| ended.stderr.contains(&format!("error[{code}")));
        match ended.code {
            Some(0) => {
                place.write("plan.yaml", &ended.stdout);
                let validated = place.kapell(&["validate", "plan.yaml"]);
                assert_eq!(validated.code, Some(0), "{goal}: {validated:?}\n{}", ended.stdout);
            }
            Some(1 | 4) => assert!(is_refused, "{goal}: {ended:?}"),
            _ => return Err(format!("{goal}: {ended:?}").into()),
        }
    }
    Ok(())
}
