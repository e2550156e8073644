//! Kills the program itself in the middle of calls to servers that others wrote, and resumes its run. The servers see
//! one call each, and the run has one attempt.
//! Never looks into the host; `lives` does.

use std::{process::Command, sync::mpsc, time::Duration};

use kapell::model::StartAttempt;
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    lives::{Kind, Server},
    place::{Place, wait_for},
};

/// A run in a process of its own, of one call that must not be made twice.
struct Host {
    place: Place,
    server: Server,
    run: String,
}

/// Starts the server, with a thread that carries what goes to it and back until the tests end.
fn in_a_thread(kind: Kind) -> Result<Server, Failed> {
    let (sender, started) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            // Nobody waits any more only if the test has failed.
            let _ = sender.send(Server::start(kind).await);
            std::future::pending::<()>().await;
        });
    });
    started.recv()?
}

impl Host {
    fn start(kind: Kind, call: &StartAttempt) -> Result<Self, Failed> {
        let server = in_a_thread(kind)?;
        let place = Place::new();
        let plan = json!({"name": "other", "tasks": [{
            "id": "t", "agent": "other", "tool": &*call.tool, "effect": "at_most_once", "with": call.arguments,
        }]});
        place.write("agents.toml", format!("[agents.other]\nurl = {:?}\nprotocol = \"legacy\"\n", server.url()));
        place.write("plan.yaml", plan.to_string());
        let started = place.kapell(&["run", "plan.yaml", "--detach"]);
        if started.code != Some(0) {
            return Err(format!("{started:?}").into());
        }
        Ok(Self { place, server, run: started.out.trim().to_owned() })
    }

    /// Kills the host once its log holds `text`.
    fn kill_at(&self, text: &str) -> Result<(), Failed> {
        wait_for(text, || self.place.kapell(&["logs", &self.run]).out.contains(text).then_some(()));
        // What was just heard is noted at most every tenth of a second.
        std::thread::sleep(Duration::from_millis(300));
        let lease = self.place.path("state/kapell/journal.db.leases").join(&self.run);
        let process = std::fs::read_to_string(lease)?;
        let killed = Command::new("kill").args(["-KILL", process.trim()]).status()?;
        if !killed.success() {
            return Err(format!("process {process} could not be killed").into());
        }
        wait_for("its end", || self.standing().contains("interrupted").then_some(()));
        Ok(())
    }

    fn standing(&self) -> String {
        self.place.kapell(&["runs", "list"]).out
    }

    /// Resumes the run to its end, and gives what its one attempt returned.
    fn resume(&self) -> Result<String, Failed> {
        let ended = self.place.kapell(&["resume", &self.run, "--no-input", "--output", "json"]);
        if ended.code != Some(0) {
            return Err(format!("{ended:?}").into());
        }
        let task = &ended.result()["tasks"]["t"];
        assert_eq!(task["attempts"], json!(1), "{task}");
        self.server.assert_called_once();
        Ok(match &task["output"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

/// The call is running when the next process begins.
pub(crate) fn still_running(kind: Kind) -> Result<(), Failed> {
    let host = Host::start(kind, &kind.work())?;
    host.kill_at("t#1: progress 1")?;
    assert_eq!(host.resume()?, kind.done());
    Ok(())
}

/// The call ends while there is no process.
pub(crate) fn finished_meanwhile(kind: Kind) -> Result<(), Failed> {
    let host = Host::start(kind, &kind.work())?;
    host.kill_at("t#1: progress 1")?;
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(host.resume()?, kind.done());
    Ok(())
}

/// A person is being asked when the host is killed, and answers while there is no process.
pub(crate) fn question_pending(kind: Kind) -> Result<(), Failed> {
    let host = Host::start(kind, &kind.ask())?;
    host.kill_at("q1: other asks")?;
    let answered = host.place.kapell(&["answer", &host.run, "q1", "--field", "name=Ada"]);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let said = host.resume()?;
    assert!(said.contains("Ada"), "{said}");
    Ok(())
}
