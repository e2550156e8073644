//! One run of the plan, driven by processes that are killed until it has ended. `audit` judges the outcome.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kapell::journal::{self, JournalError, JournalReader};
use kapell::model::{Asker, AttemptId, Event, Question, Record, RunStatus};
use kapell::runtime::ContentStore;
use serde_json::json;

use crate::audit::{self, Effects, Outputs};
use crate::process::{KillPoint, ProcessEnd, run_until};
use crate::rng::Rng;
use crate::servers::{AGENTS, AgentServers};
use crate::support::workspace::{Workspace, wait_for};

const PLAN: &str = include_str!("plan.yaml");
/// The plan that runs as a task of the plan.
const INNER_PLAN: &str = include_str!("inner.yaml");

/// The minimum number of kills of one run: enough to hit max_kills tasks, and few enough for the run to end soon.
const MIN_KILLS: u64 = 4;
const MAX_KILLS: u64 = 16;
/// The limit on processes of one run: beyond the kills, one for each question that only the agents' record can answer.
const MAX_PROCESSES: usize = 120;

/// The outputs of the plan without failures.
pub(crate) static EXPECTED: LazyLock<Outputs> = LazyLock::new(|| {
    let mut case = CrashCase::new("undisturbed");
    assert_eq!(case.spawn_next_process(KillPoint::Never), ProcessEnd::Exited(0), "{}", case.stderr_text());
    case.outputs()
});

/// A run and its environment.
pub(crate) struct CrashCase {
    /// The name of the case, for messages.
    name: String,
    place: Workspace,
    servers: AgentServers,
    /// The answers of the person about calls with an unknown effect.
    resolutions: HashMap<AttemptId, &'static str>,
    /// The number of processes so far.
    processes: usize,
    /// True if the run got the signal that a task waits for.
    is_signalled: bool,
}

impl CrashCase {
    /// Creates a case with the plan of more than fifty tasks.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_plan(name, PLAN)
    }

    /// Creates a case with this plan, the agents file and agents that serve HTTP.
    pub(crate) fn with_plan(name: &str, plan: &str) -> Self {
        let place = Workspace::new();
        let servers = AgentServers::start(&place);
        place
            .write("agents.toml", agents_file(&place, &servers))
            .write("plan.yaml", plan)
            .write("inner.yaml", INNER_PLAN);
        let case = Self {
            name: name.to_owned(),
            place,
            servers,
            resolutions: HashMap::new(),
            processes: 0,
            is_signalled: false,
        };
        case.write_answers();
        case
    }

    /// Returns the workspace of the case.
    pub(crate) fn place(&self) -> &Workspace {
        &self.place
    }

    /// Returns the outputs of the run so far.
    pub(crate) fn outputs(&self) -> Outputs {
        audit::outputs(&self.records())
    }

    /// Returns the number of started calls in the journal.
    pub(crate) fn started(&self) -> usize {
        self.records().iter().filter(|record| matches!(record.event, Event::AttemptStarted { .. })).count()
    }

    /// Returns the effects of the agents.
    pub(crate) fn effects(&self) -> Effects {
        Effects::read(&self.place.path("effects.jsonl"))
    }

    /// Starts, kills and resumes the run until it ends by itself. Returns the number of kills.
    pub(crate) fn run_with_kills(&mut self, mut rng: Rng) -> usize {
        let max_kills = MIN_KILLS + rng.below(MAX_KILLS - MIN_KILLS);
        let mut kills = 0;
        while self.status() != Some(RunStatus::Succeeded) {
            let fate = if kills < max_kills { KillPoint::random(&mut rng) } else { KillPoint::Never };
            if self.run_next_process(fate) == ProcessEnd::Killed {
                kills += 1;
            }
        }
        usize::try_from(kills).expect("few")
    }

    /// Resumes the run until it ends by itself.
    pub(crate) fn finish(&mut self) {
        while self.status() != Some(RunStatus::Succeeded) {
            self.run_next_process(KillPoint::Never);
        }
    }

    /// Runs the next process, and answers the questions that it leaves open.
    fn run_next_process(&mut self, kill_point: KillPoint) -> ProcessEnd {
        assert!(self.processes < MAX_PROCESSES, "{}: the run does not end\n{}", self.name, self.stderr_text());
        let end = self.spawn_next_process(kill_point);
        self.check_files();
        match end {
            ProcessEnd::Killed | ProcessEnd::Exited(0) => {}
            ProcessEnd::Exited(4) => self.resolve_ambiguous_calls(),
            ProcessEnd::Exited(_) | ProcessEnd::Stuck => {
                panic!("{}: {kill_point:?}: {end:?}\n{}", self.name, self.stderr_text())
            }
        }
        end
    }

    /// Checks the files that the journal refers to. A run without a journal has none.
    fn check_files(&self) {
        if self.status().is_none() {
            return;
        }
        let run = self.open_journal().expect("a journal").find_run("last").expect("a run");
        let files = ContentStore::new(&self.place.path("journal.files"), &run, None);
        if let Err(problems) = audit::check_files(&self.records(), &files) {
            panic!("{}:\n{}\n{}", self.name, problems.join("\n"), self.stderr_text());
        }
    }

    /// Compares the agents' record of a run that has ended with the journal.
    pub(crate) fn audit(&self, expected: &Outputs) {
        wait_for("every process of the host and its agents to end", || {
            self.leftover_processes().is_empty().then_some(())
        });
        let again = self.place.kapell(&["resume", "last", "--journal", "journal.db"]);
        assert_eq!(again.code, Some(2), "{}: there is nothing to resume: {again:?}", self.name);
        if let Err(problems) = audit::check_run(&self.records(), &self.effects(), expected) {
            panic!("{}:\n{}\n{}", self.name, problems.join("\n"), self.stderr_text());
        }
    }

    /// Describes the case for people.
    pub(crate) fn summary(&self) -> String {
        let mut settled: BTreeMap<&str, usize> = BTreeMap::new();
        self.resolutions.values().for_each(|truth| *settled.entry(truth).or_default() += 1);
        format!("{}: {} processes, settled by a person: {settled:?}", self.name, self.processes)
    }

    /// Runs the next process, which starts the run or resumes it.
    fn spawn_next_process(&mut self, kill_point: KillPoint) -> ProcessEnd {
        self.processes += 1;
        self.write_answers();
        let is_over = AtomicBool::new(false);
        let next = self.place.command(self.next_command());
        std::thread::scope(|scope| {
            if !self.is_signalled {
                let signal = ["signal", "last", "go", "--data", "{\"n\": 7}", "--journal", "journal.db"];
                let mut command = self.place.command(signal);
                let (is_over, is_signalled) = (&is_over, &mut self.is_signalled);
                scope.spawn(move || {
                    // Before the run starts, there is none to send it to.
                    while !*is_signalled && !is_over.load(Ordering::Relaxed) {
                        *is_signalled = command.output().expect("it runs").status.success();
                        std::thread::sleep(Duration::from_millis(50));
                    }
                });
            }
            let end = run_until(next, kill_point, &self.place);
            is_over.store(true, Ordering::Relaxed);
            end
        })
    }

    /// Returns the command that a person would type next.
    pub(crate) fn next_command(&self) -> Vec<&'static str> {
        let mut command = match self.status() {
            None => vec!["run", "plan.yaml"],
            Some(_) => vec!["resume", "last"],
        };
        command.extend(["--no-input", "--answers", "answers.yaml", "--journal", "journal.db"]);
        command.extend(["--output", "stream-json"]);
        command
    }

    /// Writes the answers of the person: a yes to every booking, and the known effects of interrupted calls.
    pub(crate) fn write_answers(&self) {
        let mut text = String::from(
            "answers:\n- { tool: book_trip, message: for an estimated, accept: { confirm: true } }\n\
             - { message: Which room is free?, accept: { room: 4b } }\n",
        );
        for question in self.open_questions() {
            if let Asker::Host { attempt } = &question.asker
                && let Some(outcome) = self.resolutions.get(attempt)
            {
                let rule = json!({"task": attempt.task, "message": "unknown whether", "accept": {"outcome": outcome}});
                let _ = writeln!(text, "- {rule}");
            }
        }
        self.place.write("answers.yaml", text);
    }

    /// Resolves the ambiguous calls that the host asks about: ends every process that may still work on one of them,
    /// and then reads the agents' record.
    pub(crate) fn resolve_ambiguous_calls(&mut self) {
        wait_for("the agents' processes to end", || self.leftover_processes().is_empty().then_some(()));
        self.servers.restart(&self.place);
        let effects = self.effects();
        let mut news = 0;
        for question in self.open_questions() {
            let Asker::Host { attempt } = question.asker else { continue };
            let outcome = if effects.attempts_of(&attempt.task).is_empty() { "repeat" } else { "done" };
            news += usize::from(self.resolutions.insert(attempt, outcome).is_none());
        }
        assert_ne!(
            news,
            0,
            "{}: the run paused, and not for a question of the host\n{}",
            self.name,
            self.stderr_text()
        );
    }

    fn open_questions(&self) -> Vec<Question> {
        let mut open: BTreeMap<String, Question> = BTreeMap::new();
        for record in self.records() {
            match record.event {
                Event::QuestionAsked { question, .. } => {
                    open.insert(question.id.to_string(), (*question).clone());
                }
                Event::QuestionAnswered { question, .. } => {
                    open.remove(question.as_str());
                }
                _ => {}
            }
        }
        open.into_values().collect()
    }

    fn status(&self) -> Option<RunStatus> {
        if !self.place.path("journal.db").exists() {
            return None;
        }
        // A process that was killed while it created the journal may have left an empty file.
        let reader = self.open_journal().ok()?;
        let runs = reader.runs(2).expect("a journal");
        assert!(runs.len() < 2, "a second run was begun");
        Some(runs.first()?.status)
    }

    fn open_journal(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        journal::store(&self.place.path("journal.db").into()).open_reader()
    }

    fn records(&self) -> Vec<Record> {
        if self.status().is_none() {
            return Vec::new();
        }
        let reader = self.open_journal().expect("a journal");
        let run = reader.find_run("last").expect("a run");
        reader.records(&run, 0).collect::<Result<_, _>>().expect("its events")
    }

    /// Returns the processes of this workspace that are not its servers. Each has the workspace in its environment.
    fn leftover_processes(&self) -> Vec<u32> {
        let place = self.place.path("").display().to_string();
        let processes = std::fs::read_dir("/proc").expect("a list of processes").filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = pids.filter(|pid| !self.servers.has_process(*pid)).filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&place)
        });
        ours.collect()
    }

    /// Returns the output of the processes, the latest last.
    fn stderr_text(&self) -> String {
        std::fs::read_to_string(self.place.path("talk")).unwrap_or_default()
    }
}

/// Returns an agents file with each agent three times: as a child of the host, and over HTTP in each era. The children
/// speak one era each, too.
fn agents_file(place: &Workspace, servers: &AgentServers) -> String {
    let (effects, documents) = (place.path("effects.jsonl"), place.path("documents"));
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/pictures.py");
    let mut text = format!("[agents.pictures]\ncommand = \"python3\"\nargs = [{pictures:?}, {effects:?}]\n");
    for (agent, protocol) in AGENTS.into_iter().zip(["legacy", "auto", "modern"]) {
        let port = servers.port(agent);
        let _ = writeln!(
            text,
            "[agents.{agent}-stdio]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"{agent}\"]\n\
             env = {{ KAPELL_DEMO_EFFECTS = {effects:?}, KAPELL_DEMO_DIR = {documents:?} }}\n\
             protocol = \"{protocol}\"\n\
             [agents.{agent}-legacy]\nurl = \"http://127.0.0.1:{port}/mcp\"\nprotocol = \"legacy\"\n\
             [agents.{agent}-modern]\nurl = \"http://127.0.0.1:{port}/mcp\"\nprotocol = \"modern\""
        );
    }
    text
}
