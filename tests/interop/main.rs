//! Runs the shipped plans and whole goals with the real binary against third-party servers, and the demo against a real
//! engine. Nothing is installed: tests whose requirements `tests/interop/setup.sh` has not installed are reported as
//! ignored, with the reason. With `KAPELL_REQUIRE_INTEROP=1`, they fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use tempfile::TempDir;

mod documented;
mod engine;
mod features;
mod goals;
mod host;
mod host_kills;
mod http_sse;
mod llm;
mod logins;
mod offers;
mod old_servers;
mod reattach;
mod recording_proxy;
mod repl;
mod small_model;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is shared with `tests/it`, which uses all of it")]
mod support;
mod task_manager;

use engine::LlmEngine;
use goals::ServerTransport;
use host::{HostRun, Outcome};
use reattach::ServerKind;

const NPM_STAMP: &str = ".interop/npm/stamp";
const PYTHON_STAMP: &str = ".interop/python/stamp";
const PYTHON_1_STAMP: &str = ".interop/python-1/stamp";
const PYTHON_1_1_STAMP: &str = ".interop/python-1.1/stamp";
const PYTHON_1_2_STAMP: &str = ".interop/python-1.2/stamp";
const PYTHON_1_6_STAMP: &str = ".interop/python-1.6/stamp";
const LLM_STAMP: &str = ".interop/llm/tiny.gguf.stamp";
const SMALL_MODEL_STAMP: &str = ".interop/llm/smollm2.gguf.stamp";

/// The shipped agents file of the demo.
const DEMO_AGENTS: &str = "agents.toml";
const INTEROP_AGENTS: &str = "plans/interop/agents.toml";
const INTEROP_HTTP_AGENTS: &str = "plans/interop/agents-http.toml";

fn main() {
    if let Some(failed) = task_manager::serve_if_requested() {
        panic!("the task manager cannot serve: {failed:?}");
    }
    let arguments = Arguments::from_args();
    let mut trials = vec![
        trial_with_requirements("reports_the_changes_of_a_git_repository", &[NPM_STAMP, PYTHON_STAMP], git_week),
        trial_with_requirements("reports_a_week_without_patches", &[NPM_STAMP, PYTHON_STAMP], quiet_week),
        trial_with_requirements("uses_everything_over_stdio", &[NPM_STAMP], || everything(INTEROP_AGENTS)),
        trial_with_requirements("uses_everything_over_http", &[NPM_STAMP], || everything(INTEROP_HTTP_AGENTS)),
        trial_with_requirements("declined_question_is_an_answer", &[NPM_STAMP], declined_question),
        trial_with_requirements("reattaches_to_a_running_call_of_everything", &[NPM_STAMP], || {
            reattach::call_running(ServerKind::Everything)
        }),
        trial_with_requirements("reattaches_to_a_finished_call_of_everything", &[NPM_STAMP], || {
            reattach::call_finished_while_down(ServerKind::Everything)
        }),
        trial_with_requirements("reattaches_to_a_question_of_everything", &[NPM_STAMP], || {
            reattach::question_pending(ServerKind::Everything)
        }),
        trial_with_requirements("waits_for_an_experimental_task_of_everything", &[NPM_STAMP], reattach::task_completes),
        trial_with_requirements(
            "reattaches_to_an_experimental_task_of_everything",
            &[NPM_STAMP],
            reattach::task_running,
        ),
        trial_with_requirements(
            "reattaches_to_a_question_of_an_experimental_task",
            &[NPM_STAMP],
            reattach::task_with_question,
        ),
        trial_with_requirements("reattaches_to_a_running_call_of_a_typescript_server", &[NPM_STAMP], || {
            reattach::call_running(ServerKind::TypeScript)
        }),
        trial_with_requirements("reattaches_to_a_finished_call_of_a_typescript_server", &[NPM_STAMP], || {
            reattach::call_finished_while_down(ServerKind::TypeScript)
        }),
        trial_with_requirements("reattaches_to_a_question_of_a_typescript_server", &[NPM_STAMP], || {
            reattach::question_pending(ServerKind::TypeScript)
        }),
        trial_with_requirements("reattaches_to_a_running_call_of_a_python_server", &[PYTHON_1_STAMP], || {
            reattach::call_running(ServerKind::Python)
        }),
        trial_with_requirements("reattaches_to_a_finished_call_of_a_python_server", &[PYTHON_1_STAMP], || {
            reattach::call_finished_while_down(ServerKind::Python)
        }),
        trial_with_requirements("reattaches_to_a_question_of_a_python_server", &[PYTHON_1_STAMP], || {
            reattach::question_pending(ServerKind::Python)
        }),
        trial_with_requirements("session_continues_a_call_of_a_python_server", &[PYTHON_1_STAMP], || {
            repl::killed_session(ServerKind::Python)
        }),
        trial_with_requirements("calls_a_server_on_python_mcp_1_1", &[PYTHON_1_1_STAMP], || {
            old_servers::call_python_server("python-1.1")
        }),
        trial_with_requirements("calls_a_server_on_python_mcp_1_2", &[PYTHON_1_2_STAMP], || {
            old_servers::call_python_server("python-1.2")
        }),
        trial_with_requirements("calls_a_server_on_python_mcp_1_6", &[PYTHON_1_6_STAMP], || {
            old_servers::call_python_server("python-1.6")
        }),
        trial_with_requirements("calls_everything_of_2025", &[NPM_STAMP], old_servers::call_everything_2025),
        trial_with_requirements(
            "everything_of_2025_samples_with_a_context",
            &[NPM_STAMP],
            old_servers::everything_sampling,
        ),
        trial_with_requirements("calls_everything_over_http_sse", &[NPM_STAMP], http_sse::call_everything),
        trial_with_requirements("calls_a_python_server_over_http_sse", &[PYTHON_1_STAMP], http_sse::call_python_server),
        trial_with_requirements(
            "refused_elicitation_leads_to_the_legacy_era",
            &[PYTHON_STAMP],
            old_servers::refused_elicitation,
        ),
        trial_with_requirements("filesystem_accepts_its_roots", &[NPM_STAMP], old_servers::filesystem_with_roots),
        trial_with_requirements("logs_in_to_the_typescript_example", &[NPM_STAMP], logins::typescript_example),
        trial_with_requirements("uses_resources_and_prompts_of_everything_over_stdio", &[NPM_STAMP], || {
            offers::offers_of_everything(ServerTransport::Stdio)
        }),
        trial_with_requirements("uses_resources_and_prompts_of_everything_over_http", &[NPM_STAMP], || {
            offers::offers_of_everything(ServerTransport::Http)
        }),
        trial_with_requirements("uses_resources_and_prompts_of_python_mcp_1_over_stdio", &[PYTHON_1_STAMP], || {
            offers::offers_of_python("python-1", ServerTransport::Stdio)
        }),
        trial_with_requirements("uses_resources_and_prompts_of_python_mcp_1_over_http", &[PYTHON_1_STAMP], || {
            offers::offers_of_python("python-1", ServerTransport::Http)
        }),
        trial_with_requirements("uses_resources_and_prompts_of_python_mcp_2_over_stdio", &[PYTHON_STAMP], || {
            offers::offers_of_python("python", ServerTransport::Stdio)
        }),
        trial_with_requirements("uses_resources_and_prompts_of_python_mcp_2_over_http", &[PYTHON_STAMP], || {
            offers::offers_of_python("python", ServerTransport::Http)
        }),
        trial_with_requirements("stores_and_reads_memories", &[NPM_STAMP], memory),
        trial_with_requirements("answers_a_sampling_request_over_stdio", &[NPM_STAMP, LLM_STAMP], || {
            sampling(INTEROP_AGENTS)
        }),
        trial_with_requirements("answers_a_sampling_request_over_http", &[NPM_STAMP, LLM_STAMP], || {
            sampling(INTEROP_HTTP_AGENTS)
        }),
        trial_with_requirements("plans_runs_and_answers_a_goal_over_stdio", &[NPM_STAMP], || {
            goals::valid_plan(ServerTransport::Stdio)
        }),
        trial_with_requirements("plans_runs_and_answers_a_goal_over_http", &[NPM_STAMP], || {
            goals::valid_plan(ServerTransport::Http)
        }),
        trial_with_requirements("plan_with_an_unknown_tool_is_repaired_and_run", &[NPM_STAMP], goals::repaired_plan),
        trial_with_requirements("invalid_plan_is_shown_with_its_mistakes", &[NPM_STAMP], goals::invalid_plan),
        trial_with_requirements("goal_with_a_failed_task_is_replanned_over_stdio", &[NPM_STAMP], || {
            goals::replanned_goal(ServerTransport::Stdio)
        }),
        trial_with_requirements("goal_with_a_failed_task_is_replanned_over_http", &[NPM_STAMP], || {
            goals::replanned_goal(ServerTransport::Http)
        }),
        trial_with_requirements("questions_of_a_goal_belong_to_its_tasks_over_stdio", &[NPM_STAMP], || {
            goals::fan_out(ServerTransport::Stdio)
        }),
        trial_with_requirements("questions_of_a_goal_belong_to_its_tasks_over_http", &[NPM_STAMP], || {
            goals::fan_out(ServerTransport::Http)
        }),
        trial_with_requirements("summarizes_the_reading_list_of_the_demo", &[LLM_STAMP], summarized_demo),
        trial_with_requirements("plans_a_goal_or_shows_the_mistakes_of_the_plan", &[LLM_STAMP], plans_or_explains_goal),
        trial_with_requirements(
            "prompt_uses_its_tools_and_unverified_answer_is_marked",
            &[LLM_STAMP],
            prompt_with_tools,
        ),
        trial_with_requirements("agent_samples_with_tools_in_both_eras", &[LLM_STAMP], tools_in_sampling),
        trial_with_requirements("doctor_reports_a_healthy_engine", &[LLM_STAMP], llm::doctor_check),
        trial_with_requirements("model_requests_tools_and_receives_their_results", &[LLM_STAMP], llm::tool_calls),
        trial_with_requirements("reply_follows_its_schema_in_every_mode", &[LLM_STAMP], llm::structured_reply),
        trial_with_requirements("wrong_key_is_reported", &[LLM_STAMP], llm::wrong_key),
        trial_with_requirements("rejected_request_is_not_repeated", &[LLM_STAMP], llm::rejected_request),
        trial_with_requirements("oversized_conversation_is_reported", &[LLM_STAMP], llm::oversized_conversation),
        trial_with_requirements(
            "small_model_plans_or_refuses",
            &[PYTHON_STAMP, SMALL_MODEL_STAMP],
            small_model::plans_or_refuses,
        ),
        trial_with_requirements("cancelled_request_frees_its_slot", &[LLM_STAMP], llm::cancelled_request),
    ];
    trials.extend(features::trials());
    trials.extend(crash_trials());
    trials.push(documented::trial(&trials));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Returns the trials that kill the host in the middle of a call and resume the run.
fn crash_trials() -> Vec<Trial> {
    type Case = fn(ServerKind) -> Result<(), Failed>;
    let cases: [(&str, Case); 4] = [
        ("killed_host_continues", host_kills::call_running),
        ("killed_host_gets_the_result_of", host_kills::call_finished_while_down),
        ("killed_host_delivers_a_waiting_answer_to", host_kills::question_answered_while_down),
        ("killed_host_keeps_the_question_of", host_kills::question_answered_after_resume),
    ];
    let servers: [(&str, ServerKind, &[&str]); 5] = [
        ("a_call_of_everything", ServerKind::Everything, &[NPM_STAMP]),
        ("a_call_of_a_typescript_server", ServerKind::TypeScript, &[NPM_STAMP]),
        ("a_call_of_a_python_server", ServerKind::Python, &[PYTHON_1_STAMP]),
        ("an_experimental_task_of_everything", ServerKind::EverythingTasks, &[NPM_STAMP]),
        ("a_task_of_rmcps_manager", ServerKind::TaskManager, &[]),
    ];
    let pairs = servers.iter().flat_map(|server| cases.iter().map(move |case| (*server, *case)));
    pairs
        .map(|((of, kind, pieces), (what, case))| {
            trial_with_requirements(&format!("{what}_{of}"), pieces, move || case(kind))
        })
        .collect()
}

/// Returns the root of the repository, where the shipped plans expect to be run.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns a test that requires `pieces` to be installed.
fn trial_with_requirements(
    name: &str,
    requirements: &[&str],
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let missing: Vec<&str> = requirements.iter().copied().filter(|piece| !root().join(piece).exists()).collect();
    if missing.is_empty() {
        return Trial::test(name, test);
    }
    let reason = format!("no `{}`: run tests/interop/setup.sh", missing.join("`, `"));
    let required = std::env::var("KAPELL_REQUIRE_INTEROP").is_ok_and(|value| value == "1");
    let kind = reason.clone();
    // It fails if it is run nevertheless, as with `--include-ignored`.
    Trial::test(name, move || Err(reason.into())).with_kind(kind).with_ignored_flag(!required)
}

/// Creates a repository with commits of this week and an older one, whose hashes do not matter.
fn git_repository(messages: &[&str]) -> Result<TempDir, Failed> {
    let directory = tempfile::tempdir()?;
    let git = |arguments: &[&str], date: &str| -> Result<(), Failed> {
        let output = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(directory.path())
            .env("GIT_COMMITTER_DATE", date)
            .env("GIT_AUTHOR_DATE", date)
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    };
    git(&["init", "--quiet"], "")?;
    git(&["commit", "--quiet", "--allow-empty", "--message", "Long ago"], "2001-02-03T04:05:06Z")?;
    for message in messages {
        std::fs::write(directory.path().join("notes.txt"), message)?;
        git(&["add", "notes.txt"], "")?;
        git(&["commit", "--quiet", "--message", message], "")?;
    }
    std::fs::write(directory.path().join("draft.txt"), "not yet")?;
    Ok(directory)
}

/// Returns a directory for this test in a directory that the file server may write to. The plan creates it.
fn output_directory(name: &str) -> Result<PathBuf, Failed> {
    let directory = root().join(".interop/output").join(name);
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(directory),
    }
}

fn run_git_week(name: &str, messages: &[&str]) -> Result<(Outcome, PathBuf), Failed> {
    let repository = git_repository(messages)?;
    let directory = output_directory(name)?;
    let outcome = HostRun::new(INTEROP_AGENTS)?
        .with_input("repository", repository.path().display())
        .with_input("directory", name)
        .run("plans/interop/git-week.yaml")?;
    outcome.assert_succeeded()?;
    Ok((outcome, directory))
}

fn git_week() -> Result<(), Failed> {
    let (outcome, directory) = run_git_week("git-week", &["Write the first note", "Write the second note"])?;
    assert_eq!(outcome.result["outputs"]["patches"], 2);
    let report = std::fs::read_to_string(directory.join("report.md"))?;
    assert!(report.contains("Write the first note") && report.contains("Write the second note"), "{report}");
    assert!(!report.contains("Long ago") && report.contains("draft.txt"), "{report}");
    let patches: Vec<String> = std::fs::read_dir(&directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| path.as_ref().is_ok_and(|path| path.extension().is_some_and(|kind| kind == "patch")))
        .map(|path| std::fs::read_to_string(path?))
        .collect::<Result<_, _>>()?;
    assert_eq!(patches.len(), 2);
    assert!(patches.iter().any(|patch| patch.contains("+Write the second note")), "{patches:?}");
    Ok(())
}

fn quiet_week() -> Result<(), Failed> {
    let (outcome, directory) = run_git_week("quiet-week", &[])?;
    assert_eq!(outcome.result["outputs"]["patches"], 0);
    assert_eq!(outcome.result["tasks"]["patches"]["items"], json!([]));
    assert!(directory.join("report.md").exists());
    Ok(())
}

fn everything(agents: &str) -> Result<(), Failed> {
    let outcome = HostRun::new(agents)?
        .with_answers("plans/interop/answers.yaml")
        .with_input("seconds", 1)
        .run("plans/interop/everything.yaml")?;
    outcome.assert_succeeded()?;
    let outputs = &outcome.result["outputs"];
    assert_eq!(outputs["echo"], "Echo: hello from kapell");
    assert_eq!(outputs["sum"], "The sum of 2 and 40 is 42.");
    let weather = outputs["weather"].as_array().ok_or("`weather` is not a list")?;
    assert_eq!(weather.len(), 3);
    for city in weather {
        assert!(city["temperature"].is_number() && city["conditions"].is_string(), "{city}");
    }
    let links = outputs["links"].as_array().ok_or("`links` is not a list")?;
    assert_eq!(links.len(), 3);
    assert!(links.iter().all(|link| link.as_str().is_some_and(|uri| uri.starts_with("demo://resource/"))), "{links:?}");
    let text = outputs["question"].as_str().ok_or("`question` is not a text")?;
    assert!(text.contains("- Name: Ada Lovelace") && text.contains("- Favorite Integer: 7"), "{text}");
    let together = outputs["together"].as_str().ok_or("`together` is not a text")?;
    assert!(together.starts_with("Echo: The sum of 2 and 40 is 42. "), "{together}");
    assert!(together.contains("Long running operation completed. Duration: 1 seconds, Steps: 4."), "{together}");
    assert_eq!(outcome.result["tasks"]["echo"]["agent"], "everything");
    assert_eq!(outcome.result["tasks"]["echo"]["attempts"], 1);
    Ok(())
}

fn declined_question() -> Result<(), Failed> {
    let outcome = HostRun::new(INTEROP_AGENTS)?.with_input("seconds", 0.1).run("plans/interop/everything.yaml")?;
    outcome.assert_succeeded()?;
    let text = outcome.result["outputs"]["question"].as_str().ok_or("`question` is not a text")?;
    assert!(text.contains("declined"), "{text}");
    Ok(())
}

fn memory() -> Result<(), Failed> {
    let file = root().join(".interop/output/memory.jsonl");
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let outcome = HostRun::new(INTEROP_AGENTS)?
        .with_input("country", "Japan")
        .with_input("cities", json!(["Kyoto", "Nara"]))
        .run("plans/interop/memory.yaml")?;
    outcome.assert_succeeded()?;
    assert_eq!(outcome.result["outputs"], json!({"cities": ["Kyoto", "Nara"]}));
    Ok(())
}

fn sampling(agents: &str) -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let outcome = HostRun::new(agents)?.with_llm(&engine)?.run("plans/interop/everything-sampling.yaml")?;
    outcome.assert_succeeded()?;
    let text = outcome.result["outputs"]["said"].as_str().ok_or("`said` is not a text")?;
    let (_, reply) = text.split_once("LLM sampling result:").ok_or_else(|| format!("no result in {text}"))?;
    let reply: Value = serde_json::from_str(reply)?;
    assert_eq!((&reply["model"], &reply["role"]), (&json!(LlmEngine::MODEL), &json!("assistant")));
    assert!(["endTurn", "maxTokens"].map(|reason| json!(reason)).contains(&reply["stopReason"]), "{reply}");
    assert!(reply["content"]["text"].is_string(), "{reply}");
    Ok(())
}

fn tools_in_sampling() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    for mode in ["samples-tools", "modern-samples-tools"] {
        let place = tempfile::tempdir()?;
        let script = root().join("tests/agents/odd.py");
        let agents = format!("[agents.odd]\ncommand = \"python3\"\nargs = [{script:?}, \"{mode}\"]\n");
        std::fs::write(place.path().join("agents.toml"), agents)?;
        let plan = place.path().join("plan.yaml");
        std::fs::write(&plan, "name: x\ntasks: [{ id: a, agent: odd, tool: work }]\n")?;
        let host = HostRun::new(&place.path().join("agents.toml").display().to_string())?;
        let outcome = host.with_llm(&engine)?.run(&plan.display().to_string())?;
        outcome.assert_succeeded()?;
        let text = outcome.result["tasks"]["a"]["output"].as_str().ok_or("`a` said no text")?;
        let text: Value = serde_json::from_str(text)?;
        assert_eq!(text["declared"], json!({"tools": {}}), "{mode}");
        assert_eq!(text["first"]["stopReason"], "toolUse", "{mode}: {text}");
        // The agent may ask more than once, and may return text before the question.
        let content = &text["first"]["content"];
        let blocks = content.as_array().map_or(std::slice::from_ref(content), Vec::as_slice);
        let names: Vec<_> =
            blocks.iter().filter(|block| block["type"] == "tool_use").map(|block| &block["name"]).collect();
        assert!(!names.is_empty() && names.iter().all(|name| **name == "geo.find"), "{mode}: {text}");
        assert_eq!(text["second"]["content"]["type"], "text", "{mode}: {text}");
    }
    Ok(())
}

fn summarized_demo() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let outcome = HostRun::new(DEMO_AGENTS)?
        .with_llm(&engine)?
        .with_answers("plans/lisbon.answers.yaml")
        .run("plans/lisbon.yaml")?;
    outcome.assert_succeeded()?;
    assert_eq!(outcome.result["tasks"]["reading"]["output"]["summarised"], true);
    assert_eq!(outcome.result["outputs"]["trip"]["status"], "booked");
    assert_eq!(outcome.result["tasks"]["notes"]["items"].as_array().map(Vec::len), Some(4));
    Ok(())
}

fn plans_or_explains_goal() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let host = HostRun::new(DEMO_AGENTS)?.with_llm(&engine)?;
    // The model's replies are random, so they differ from goal to goal; one of the outcomes always occurs.
    for city in ["Lisbon", "Porto", "Évora"] {
        host.plan_or_explain(&format!("Plan a weekend in {city} and suggest what to read first"))?;
    }
    Ok(())
}

fn prompt_with_tools() -> Result<(), Failed> {
    let place = tempfile::tempdir()?;
    let script = root().join("tests/agents/odd.py");
    let file = place.path().join("agents.toml");
    std::fs::write(&file, format!("[agents.odd]\ncommand = \"python3\"\nargs = [{script:?}]\n"))?;
    let plan = place.path().join("plan.yaml");
    let ask = "{ id: ask, prompt: What did it say?, tools: [odd.work], max_turns: 3, max_tokens: 300 }";
    // With one source only, the host adds the citation itself.
    let call = "{ id: work, agent: odd, tool: work }";
    std::fs::write(&plan, format!("name: x\nresult: synthesize\ntasks: [{ask}, {call}]\n"))?;
    // With nearly every seed, a random reply asks for the tool and then returns text that cites no task.
    for seed in 1..=20 {
        let engine = LlmEngine::start_with_seed(seed)?;
        let host = HostRun::new(&file.display().to_string())?.with_llm(&engine)?;
        let result = host.run(&plan.display().to_string())?.result;
        let (asked, answer) = (&result["tasks"]["ask"], &result["tasks"]["answer"]);
        if asked["status"] != "succeeded" || result["spent"]["tool_calls"].as_u64() < Some(2) {
            continue;
        }
        assert!(asked["attempts"].as_u64() >= Some(2), "seed {seed}: {result:#}");
        assert_eq!(
            (&answer["status"], &answer["attempts"]),
            (&json!("succeeded"), &json!(2)),
            "seed {seed}: {result:#}"
        );
        let text = answer["output"].as_str().ok_or("the answer is not a text")?;
        assert!(text.trim_end().ends_with("(Not verified: it cites no task.)"), "seed {seed}: {text}");
        return Ok(());
    }
    Err("with none of twenty seeds did the prompt use its tool".into())
}
