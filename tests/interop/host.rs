//! The real binary, run from the root of the repository without input. Tests see only its arguments, its exit code and
//! its output.

use std::fmt::Display;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::LlmEngine;
use crate::root;

/// A run that is being set up.
pub(crate) struct HostRun {
    /// The journal, the documents and the logs of this run.
    directory: TempDir,
    agents: PathBuf,
    arguments: Vec<String>,
}

/// The outcome of a run.
pub(crate) struct Outcome {
    code: Option<i32>,
    /// The object on standard output.
    pub(crate) result: Value,
    stderr: String,
}

impl HostRun {
    /// Returns a run with this agents file.
    pub(crate) fn new(agents: &str) -> Result<Self, Failed> {
        Ok(Self { directory: tempfile::tempdir()?, agents: root().join(agents), arguments: Vec::new() })
    }

    /// Answers questions from this file instead of declining them.
    pub(crate) fn with_answers(mut self, file: &str) -> Self {
        self.arguments.extend(["--answers".to_owned(), file.to_owned()]);
        self
    }

    /// Sets an input of the plan. Lists and maps are JSON.
    pub(crate) fn with_input(mut self, name: &str, value: impl Display) -> Self {
        self.arguments.extend(["--param".to_owned(), format!("{name}={value}")]);
        self
    }

    /// Adds an `[llm]` section for the engine to the agents file.
    pub(crate) fn with_llm(mut self, engine: &LlmEngine) -> Result<Self, Failed> {
        let agents = std::fs::read_to_string(&self.agents)?;
        let section =
            format!("\n[llm]\nbase_url = \"{}/v1\"\nmodel = \"{}\"\ntools = true\n", engine.url(), LlmEngine::MODEL);
        self.agents = self.directory.path().join("agents.toml");
        std::fs::write(&self.agents, agents + &section)?;
        Ok(self)
    }

    /// Returns a command with the agents file and the state of this run.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kapell"));
        command
            .args(arguments)
            .arg("--agents")
            .arg(&self.agents)
            .current_dir(root())
            .env("PWD", root())
            .env("XDG_STATE_HOME", self.directory.path())
            .env("KAPELL_DEMO_DIR", self.directory.path().join("documents"))
            .stdin(Stdio::null());
        command
    }

    /// Plans `goal`. Returns the file of a plan that `validate` accepts. Returns `None` if the plan was saved with its
    /// diagnostics, or if the model replied with an answer, a question, or a refusal, which is shown.
    pub(crate) fn plan_or_explain(&self, goal: &str) -> Result<Option<PathBuf>, Failed> {
        let output = self.command(&["plan", goal]).output()?;
        let talk = String::from_utf8_lossy(&output.stderr);
        let unexpected = || Err(format!("exit code {:?}\n{talk}", output.status.code()).into());
        match output.status.code() {
            Some(0) => {
                let plan = self.directory.path().join("plan.yaml");
                std::fs::write(&plan, &output.stdout)?;
                let validated = self.command(&["validate", &plan.display().to_string()]).status()?;
                if validated.success() { Ok(Some(plan)) } else { unexpected() }
            }
            Some(1) => {
                let saved = talk.lines().find_map(|line| line.strip_prefix("plan saved to "));
                let is_saved = saved.is_some_and(|path| PathBuf::from(path).exists());
                let explained = talk.contains("no plan in ") && talk.contains(": error[plan::");
                let is_reply = talk.contains("error[planner::no_tasks]") || talk.contains("error[planner::impossible]");
                if (is_saved && explained || is_reply) && output.stdout.is_empty() { Ok(None) } else { unexpected() }
            }
            Some(4) if talk.contains("error[planner::question]") && output.stdout.is_empty() => Ok(None),
            _ => unexpected(),
        }
    }

    /// Logs in to `agent`, as a person with a browser does.
    pub(crate) fn log_in(&self, agent: &str) -> Result<(), Failed> {
        let mut login = self
            .command(&["agents", "login", agent, "--no-browser"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(login.stdout.take().ok_or("no stdout")?).read_line(&mut address)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The authorization server redirects to the address at which kapell waits.
        let visited = runtime.block_on(async {
            let browser = reqwest::Client::builder().no_proxy().build()?;
            browser.get(address.trim()).send().await?.error_for_status()
        });
        let ended = login.wait_with_output()?;
        let talk = String::from_utf8_lossy(&ended.stderr);
        visited.map_err(|error| format!("{error}\n{talk}"))?;
        if ended.status.success() { Ok(()) } else { Err(format!("`agents login` failed:\n{talk}").into()) }
    }

    /// Runs `plan` to its end.
    pub(crate) fn run(&self, plan: &str) -> Result<Outcome, Failed> {
        let output = self
            .command(&["run", plan, "--output", "json", "--no-input"])
            .arg("--journal")
            .arg(self.directory.path().join("journal.sqlite"))
            .args(&self.arguments)
            .output()?;
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        let result = serde_json::from_slice(&output.stdout).map_err(|error| {
            let printed = String::from_utf8_lossy(&output.stdout);
            format!("stdout is not valid JSON ({error}), exit code {:?}:\n{printed}\n{talk}", output.status.code())
        })?;
        Ok(Outcome { code: output.status.code(), result, stderr: talk })
    }
}

impl Outcome {
    /// Fails with all available details unless the run and each of its tasks succeeded.
    pub(crate) fn assert_succeeded(&self) -> Result<(), Failed> {
        let tasks = self.result["tasks"].as_object().ok_or("the result has no `tasks`")?;
        let all = tasks.values().all(|task| task["status"] == "succeeded");
        if self.code == Some(0) && self.result["status"] == "succeeded" && all {
            return Ok(());
        }
        Err(format!("exit code {:?}\n{:#}\n{}", self.code, self.result, self.stderr).into())
    }
}
