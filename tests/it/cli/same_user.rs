//! Agents as processes of the same user: they get no secret from the host and never speak for the person.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace, wait_for};

fn workspace() -> Workspace {
    let place = Workspace::new();
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/same_user.py");
    // The key is required, so it cannot simply be absent.
    place.write(
        "agents.toml",
        format!(
            "[llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\napi_key_env_var = \"MODEL_KEY\"\n\
             [agents.user]\ncommand = \"python3\"\nargs = [{:?}]\nprotocol = \"legacy\"\n",
            agent.display().to_string()
        ),
    );
    place
}

#[test]
fn host_environment_contains_no_secret() {
    let place = workspace();
    let plan = "name: x\ntasks: [{ id: a, agent: user, tool: try, with: { how: environment } }]\n";
    place.write("plan.yaml", plan);
    for detach in [false, true] {
        let mut command = place.command(["run", "plan.yaml", "--output", "json", "--journal", "j.db"]);
        command.env("MODEL_KEY", "canary-key").env("UNRELATED", "canary-other");
        command.env("https_proxy", "http://canary:canary@127.0.0.1:9");
        let ended = match detach {
            false => CommandOutput::of(command.arg("--no-input")),
            true => {
                let started = CommandOutput::of(command.arg("--detach"));
                assert_eq!(started.code, Some(0), "the key reaches the process of its own: {started:?}");
                place.kapell(&["logs", "-f", "last", "--journal", "j.db"]);
                place.kapell(&["runs", "show", "last", "--output", "json", "--journal", "j.db"])
            }
        };
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let out = ended.stdout;
        assert!(out.contains("nothing") && !out.contains("stolen"), "detached: {detach}: {out}");
    }
}

/// Waits for the agent's report of its attempt.
fn wait_for_report(path: &Path) -> Value {
    wait_for("the report of the agent", || {
        let text = std::fs::read_to_string(path).ok()?;
        Some(serde_json::from_str(&text).expect("JSON"))
    })
}

fn events(place: &Workspace) -> Vec<Value> {
    place.events(&["--journal", "j.db"])
}

#[test]
fn agent_cannot_answer_or_cancel_as_the_person() {
    let refused_at_once = ["answer", "cancel", "clean", "orphan", "resume", "run", "retry", "accept-changes"];
    for how in refused_at_once.into_iter().chain(["planted", "forged", "forged-gone", "forged-host"]) {
        let place = workspace();
        let path = |name: &str| place.path(name).display().to_string();
        let (kapell, journal, file) = (env!("CARGO_BIN_EXE_kapell"), path("j.db"), path("report"));
        place.write(
            "plan.yaml",
            format!(
                "name: x\ntasks:\n\
                 \x20 - {{ id: s, agent: user, tool: try, with: {{ how: {how}, kapell: {kapell:?}, journal: {journal:?}, report: {file:?} }} }}\n\
                 \x20 - {{ id: d, needs: [s], agent: user, tool: harmful, approve: Really do it? }}\n"
            ),
        );
        let mut command = place.command(["run", "plan.yaml", "--detach", "--journal", "j.db"]);
        let started = CommandOutput::of(command.env("MODEL_KEY", "x"));
        assert_eq!(started.code, Some(0), "{started:?}");
        let report = wait_for_report(Path::new(&file));
        if refused_at_once.contains(&how) {
            let error = report["err"].as_str().unwrap_or_default();
            assert_eq!(report["code"], 2, "{how}: {report}");
            assert!(error.starts_with("error[cli::not_a_person]: "), "{how}: {error}");
        } else {
            // The driver refuses requests that bypass the command.
            wait_for("the refusal", || {
                events(&place).iter().any(|event| event["type"] == "request_refused").then_some(())
            });
        }
        let open = place.kapell(&["questions", "--journal", "j.db", "--output", "json"]);
        assert_eq!(serde_json::from_str::<Value>(&open.stdout).expect("JSON")[0]["question"], "q1", "{how}: {open:?}");

        // The person, outside the host, is accepted.
        let answered = place.kapell(&["answer", "last", "q1", "--accept", "--journal", "j.db"]);
        assert_eq!(answered.code, Some(0), "{how}: {answered:?}");
        place.kapell(&["logs", "-f", "last", "--journal", "j.db"]);
        let events = events(&place);
        let answers: Vec<_> = events.iter().filter(|event| event["type"] == "question_answered").collect();
        assert_eq!(answers.len(), 1, "{how}: {answers:?}");
        let by = answers[0]["by"].as_str().unwrap_or_default();
        assert!(by.starts_with("command (process ") && by.contains("user "), "{how}: {by}");
        assert_eq!(events.last().map(|event| &event["status"]), Some(&json!("succeeded")), "{how}");
    }
}

#[test]
fn agent_with_a_terminal_is_not_a_person() {
    let place = workspace();
    let path = |name: &str| place.path(name).display().to_string();
    let run = |plan: &str| {
        let mut command = place.command(["run", plan, "--no-input", "--journal", "j.db"]);
        CommandOutput::of(command.env("MODEL_KEY", "x"))
    };
    place.write("asks.yaml", "name: x\ntasks: [{ id: d, agent: user, tool: harmful, approve: Really do it? }]\n");
    assert_eq!(run("asks.yaml").code, Some(4));
    let (kapell, journal, file) = (env!("CARGO_BIN_EXE_kapell"), path("j.db"), path("report"));
    let with = format!("{{ how: terminal, kapell: {kapell:?}, journal: {journal:?}, report: {file:?}, wait: true }}");
    place.write("tries.yaml", format!("name: x\ntasks: [{{ id: s, agent: user, tool: try, with: {with} }}]\n"));
    let tried = run("tries.yaml");
    assert_eq!(tried.code, Some(0), "{tried:?}");
    let report = wait_for_report(Path::new(&file));
    assert_eq!(report["code"], 4, "{report}");
    let open = place.kapell(&["questions", "--journal", "j.db", "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&open.stdout).expect("JSON")[0]["question"], "q1", "{open:?}");
}
