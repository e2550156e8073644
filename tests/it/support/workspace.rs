//! A workspace to run kapell in, and its files.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Returns the command of the misbehaving agent. Its first argument selects the misbehavior.
pub(crate) fn odd_agent_command() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/odd.py").display().to_string()
}

/// A directory with its own plan, agents file, journal and home.
pub(crate) struct Workspace {
    directory: TempDir,
}

/// The exit code and output of a command.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.path(name), text).expect("written");
        self
    }

    /// Writes an agents file with the demo agents (stdio), and `odd-MODE` for each of `modes`.
    pub(crate) fn write_agents(&self, modes: &[&str]) -> &Self {
        let mut text = String::new();
        for demo in ["travel", "research", "archive"] {
            let folder = self.path("documents").display().to_string();
            let _ = writeln!(
                text,
                "[agents.{demo}]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"{demo}\"]\n\
                 env = {{ KAPELL_DEMO_DIR = {folder:?} }}\n"
            );
        }
        for mode in modes {
            let _ = writeln!(
                text,
                "[agents.odd-{mode}]\ncommand = \"python3\"\nargs = [{:?}, {mode:?}, {:?}]\nstartup_timeout = \"5s\"\n",
                odd_agent_command(),
                self.path("pids").display().to_string()
            );
        }
        self.write("agents.toml", text)
    }

    /// Writes an agents file with one agent, a script of `tests/agents`, and further keys of its section.
    pub(crate) fn scripted_agent(&self, name: &str, script: &str, keys: &str) -> &Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents").join(script);
        let section = format!("[agents.{name}]\ncommand = \"python3\"\nargs = [{script:?}]\n{keys}\n");
        self.write("agents.toml", section)
    }

    pub(crate) fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kapell"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("HOME", self.directory.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("NO_COLOR", "1")
            .env_remove("KAPELL_LOG")
            .stdin(Stdio::null())
            // In the background of a terminal on which the tests run, so that no question is asked there.
            .process_group(0);
        command
    }

    pub(crate) fn kapell(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::of(&mut self.command(arguments))
    }

    /// Writes and runs a plan. Its agents file is `agents.toml` in the workspace.
    pub(crate) fn run_plan(&self, plan: &str, arguments: &[&str]) -> CommandOutput {
        self.write("plan.yaml", plan);
        let mut all = vec!["run", "plan.yaml", "--output", "json", "--no-input"];
        all.extend(arguments);
        self.kapell(&all)
    }

    /// Returns the command and its output, without what differs from run to run: paths, IDs and times.
    pub(crate) fn normalized_output(&self, ended: &CommandOutput) -> String {
        let progress: String = ended.stderr.lines().map(|line| without_times(line) + "\n").collect();
        let text = format!("exit code {:?}\n--- stdout\n{}--- stderr\n{progress}", ended.code, ended.stdout);
        let mut text = text.replace(&self.path("").display().to_string(), "PLACE/");
        // IDs of runs and documents are 36 characters of digits, letters and hyphens.
        let is_id = |part: &str| part.len() == 36 && part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let ids: Vec<String> = (0..text.len())
            .filter_map(|at| text.get(at..at + 36).filter(|part| is_id(part)).map(str::to_owned))
            .collect();
        for id in ids {
            text = text.replace(&id, "RUN");
        }
        // Their short forms have eight digits; one without any decimal digit is one in 2 500.
        let is_short = |word: &str| {
            word.len() == 8
                && word.bytes().all(|byte| byte.is_ascii_hexdigit())
                && word.bytes().any(|byte| byte.is_ascii_digit())
        };
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let short: Vec<String> = words.filter(|word| is_short(word)).map(str::to_owned).collect();
        for id in short {
            text = text.replace(&id, "RUN");
        }
        text
    }

    /// Returns the events of the latest run of a journal whose `type` is `kind`.
    pub(crate) fn logged_events(&self, journal: &str, kind: &str) -> Vec<Value> {
        let events = self.events(&["--journal", journal]).into_iter();
        events.filter(|event| event["type"] == kind).collect()
    }

    /// Returns the events of the latest run, with further options of `kapell logs`.
    pub(crate) fn events(&self, options: &[&str]) -> Vec<Value> {
        let logs = self.kapell(&[&["logs", "last", "--output", "json"], options].concat());
        logs.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Waits until a call of the task has started in the latest run.
    pub(crate) fn wait_for_attempt(&self, task: &str, options: &[&str]) {
        let is_start = |event: &Value| event["type"] == "attempt_started" && event["attempt"]["task"] == task;
        wait_for("the call", || self.events(options).iter().any(is_start).then_some(()));
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kapell starts")
    }
}

impl CommandOutput {
    /// Runs the command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from_output(command.output().expect("the command starts"))
    }

    pub(crate) fn from_output(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("kapell prints UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Returns the result that `--output json` printed.
    pub(crate) fn result(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Returns the stable codes of the errors on stderr, such as `plan::unknown_task`, in order. Warnings are omitted.
    pub(crate) fn error_codes(&self) -> Vec<&str> {
        self.stderr.lines().filter_map(error_code_of_line).collect()
    }

    /// Returns the stable code of the error on stderr.
    pub(crate) fn error_code(&self) -> &str {
        match self.error_codes().as_slice() {
            [code] => code,
            codes => panic!("one error is expected, not {codes:?}: {self:?}"),
        }
    }

    /// Returns the status of a task, and the kind of its error, if any.
    pub(crate) fn task(&self, id: &str) -> (String, Option<String>) {
        let result = self.result();
        let task = &result["tasks"][id];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (text(&task["status"]).unwrap_or_default(), text(&task["error"]["kind"]))
    }
}

/// Returns the error code in a line of stderr. It is in brackets.
fn error_code_of_line(line: &str) -> Option<&str> {
    let code = match line.split_once(": error[") {
        Some((_, rest)) => rest.split_once("]: ")?.0,
        None => line.strip_prefix("error[")?.split_once("]: ")?.0,
    };
    let is_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_code);
    let (family, name) = code.split_once("::")?;
    (is_word(family) && is_word(name)).then_some(code)
}

/// Removes the time of day and the durations from a progress line. Other lines stay unchanged.
fn without_times(line: &str) -> String {
    let Some((_, message)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else {
        return line.to_owned();
    };
    let is_time = |word: &str| {
        let digits = word.trim_end_matches(['s', 'm']);
        word.ends_with('s') && digits.len() < word.len() && digits.parse::<f64>().is_ok()
    };
    let words = message.split(' ').map(|word| match word.trim_end_matches([',', ':']) {
        time if is_time(time) => format!("TIME{}", &word[time.len()..]),
        _ => word.to_owned(),
    });
    format!("[TIME] {}", words.collect::<Vec<_>>().join(" "))
}

/// Waits until `done` returns a value, for as long as a slow machine may need.
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(600), "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the latest run of the journal `j.db` has one of the statuses.
pub(crate) fn wait_for_status(place: &Workspace, statuses: &[&str]) {
    wait_for("the status of the run", || {
        let shown = place.kapell(&["runs", "list", "--journal", "j.db", "--output", "json"]);
        let runs: Value = serde_json::from_str(&shown.stdout).ok()?;
        statuses.contains(&runs[0]["status"].as_str()?).then_some(())
    });
}

/// Sends a signal to a process.
pub(crate) fn send_signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill");
    assert!(sent.success(), "kill -{name}");
}
