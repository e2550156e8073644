//! Kills the real program in the middle of calls to third-party servers, and resumes its run. The servers see one call
//! each, and the run has one attempt.

use std::process::{Command, Stdio};
use std::sync::mpsc;

use kapell::model::ToolCall;
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::reattach::{CALL_DURATION, COMPLETION_MARGIN, RecordedServer, ServerKind};
use crate::support::workspace::{CommandOutput, Workspace, wait_for};

/// A run in a separate process, with one call that must not be repeated.
struct KilledHost {
    place: Workspace,
    kind: ServerKind,
    server: RecordedServer,
    run: String,
}

/// Starts the server, with a thread that forwards its traffic until the tests end.
pub(crate) fn start_in_thread(kind: ServerKind) -> Result<RecordedServer, Failed> {
    let (sender, started) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            // The receiver is gone only if the test has failed.
            let _ = sender.send(RecordedServer::start(kind).await);
            std::future::pending::<()>().await;
        });
    });
    started.recv()?
}

impl KilledHost {
    fn start(kind: ServerKind, call: &ToolCall) -> Result<Self, Failed> {
        let server = start_in_thread(kind)?;
        let place = Workspace::new();
        let plan = json!({"name": "other", "tasks": [{
            "id": "t", "agent": "other", "tool": &*call.tool, "effect": "at_most_once", "with": call.arguments,
        }]});
        let agents = format!("[agents.other]\nurl = {:?}\nprotocol = {:?}\n", server.url(), kind.protocol());
        place.write("agents.toml", agents);
        place.write("plan.yaml", plan.to_string());
        let started = place.kapell(&["run", "plan.yaml", "--detach"]);
        if started.code != Some(0) {
            return Err(format!("{started:?}").into());
        }
        Ok(Self { place, kind, server, run: started.stdout.trim().to_owned() })
    }

    /// Returns the events of the run, one line of JSON each.
    fn logs(&self) -> String {
        self.place.kapell(&["logs", &self.run, "--output", "json"]).stdout
    }

    /// Returns the process ID of the driver of the run, if there is one.
    fn driver_pid(&self) -> Option<u64> {
        let shown = self.place.kapell(&["runs", "show", &self.run, "--output", "json"]);
        shown.result()["process"].as_u64()
    }

    /// Kills the host once its log contains `text`.
    fn kill_after_log(&self, text: &str) -> Result<(), Failed> {
        wait_for(text, || self.logs().contains(text).then_some(()));
        let process = self.driver_pid().ok_or("no process drives the run")?;
        let killed = Command::new("kill").args(["-KILL", &process.to_string()]).status()?;
        if !killed.success() {
            return Err(format!("process {process} could not be killed").into());
        }
        wait_for("its end", || self.driver_pid().is_none().then_some(()));
        Ok(())
    }

    /// Answers the question of the call, from a separate process.
    fn answer_question(&self) {
        let answered = self.place.kapell(&["answer", &self.run, "q1", "--field", self.kind.answer_field()]);
        assert_eq!(answered.code, Some(0), "{answered:?}");
    }

    /// Resumes the run to its end without input, and returns the output of its one attempt.
    fn resume(&self) -> Result<String, Failed> {
        self.attempt_output(&self.place.kapell(&["resume", &self.run, "--no-input", "--output", "json"]))
    }

    /// Resumes the run on a terminal without typing; another process gives the answer instead.
    fn resume_then_answer(&self) -> Result<String, Failed> {
        const PTY_SCRIPT: &str = "import os, pty, sys\n\
            pid, terminal = pty.fork()\n\
            if pid == 0:\n    \
                os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600), 1)\n    \
                os.execv(sys.argv[2], sys.argv[2:])\n\
            try:\n    \
                while os.read(terminal, 4096): pass\n\
            except OSError: pass\n\
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
        let kapell = self.place.command(["resume", &self.run, "--output", "json"]);
        let result = self.place.path("result.json");
        let mut command = Command::new("python3");
        command.args(["-c", PTY_SCRIPT]).arg(&result).arg(kapell.get_program()).args(kapell.get_args());
        command.current_dir(self.place.path(""));
        command.envs(kapell.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let resumed = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        wait_for("the resumed run", || self.logs().contains("run_resumed").then_some(()));
        self.answer_question();
        let mut ended = CommandOutput::from_output(resumed.wait_with_output()?);
        ended.stdout = std::fs::read_to_string(&result)?;
        self.attempt_output(&ended)
    }

    /// Returns the output of the one attempt, which was resumed in the end.
    fn attempt_output(&self, ended: &CommandOutput) -> Result<String, Failed> {
        let logs = self.logs();
        if ended.code != Some(0) {
            return Err(format!("{ended:?}\n{logs}").into());
        }
        let task = &ended.result()["tasks"]["t"];
        assert_eq!((&task["status"], &task["attempts"]), (&json!("succeeded"), &json!(1)), "{task}");
        let counts = ["\"attempt_started\"", "\"run_resumed\"", "\"reattached\":[{\"task\":\"t\",\"number\":1}]"]
            .map(|text| logs.matches(text).count());
        assert_eq!(counts, [1, 1, 1], "{logs}");
        self.server.assert_called_once();
        Ok(match &task["output"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

impl Drop for KilledHost {
    fn drop(&mut self) {
        // A failed test leaves no process behind. While it panics, nothing here may panic again.
        let driven = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.driver_pid())).ok().flatten();
        if let Some(process) = driven {
            // At worst, the process has already ended.
            let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
        }
    }
}

/// Tests a call that is running when the next process starts.
pub(crate) fn call_running(kind: ServerKind) -> Result<(), Failed> {
    let host = KilledHost::start(kind, &kind.long_call())?;
    host.kill_after_log("attempt_progressed")?;
    let output = host.resume()?;
    assert!(output.starts_with(kind.long_call_result()), "{output}");
    let logs = host.logs();
    let after_resume = logs.split_once("run_resumed").map(|(_, events)| events);
    assert!(after_resume.is_some_and(|events| events.contains("attempt_progressed")), "{logs}");
    Ok(())
}

/// Tests a call that ends while no process runs.
pub(crate) fn call_finished_while_down(kind: ServerKind) -> Result<(), Failed> {
    let host = KilledHost::start(kind, &kind.long_call())?;
    host.kill_after_log("attempt_progressed")?;
    std::thread::sleep(CALL_DURATION + COMPLETION_MARGIN);
    let output = host.resume()?;
    assert!(output.starts_with(kind.long_call_result()), "{output}");
    Ok(())
}

/// Tests a question that is open when the host is killed, and is answered while no process runs.
pub(crate) fn question_answered_while_down(kind: ServerKind) -> Result<(), Failed> {
    let host = KilledHost::start(kind, &kind.asking_call())?;
    host.kill_after_log("question_asked")?;
    host.answer_question();
    let output = host.resume()?;
    assert!(output.contains(kind.answered_result()), "{output}");
    Ok(())
}

/// Tests a question that is open when the host is killed, and is answered after the next process has started.
pub(crate) fn question_answered_after_resume(kind: ServerKind) -> Result<(), Failed> {
    let host = KilledHost::start(kind, &kind.asking_call())?;
    host.kill_after_log("question_asked")?;
    let output = host.resume_then_answer()?;
    assert!(output.contains(kind.answered_result()), "{output}");
    Ok(())
}
