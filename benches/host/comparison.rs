//! Runs the baseline and kapell alternately over one workload, in the same rounds, and records the measurements.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::BenchResult;
use crate::agent::AgentTransport;
use crate::baseline::{AgentAddress, BaselineJob, BaselineReport, Era};
use crate::graph::{Agent, Graph, MAX_PARALLEL, Task};
use crate::measure::MeasuredProgram;
use crate::servers::{AgentServers, ServerProcess};
use crate::workload::{NOTIFICATIONS_PER_TASK, Workload};

const KAPELL: &str = env!("CARGO_BIN_EXE_kapell");

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The workload.
    pub(crate) workload: Workload,
    /// The durability of kapell's journal.
    pub(crate) durability: Durability,
}

/// The durability of kapell's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The journal survives a power cut.
    Full,
    /// The journal survives the end of the process.
    Normal,
}

/// The settings of all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BenchSettings {
    /// The revision of the protocol, on both sides.
    pub(crate) era: Era,
    /// The transport to the agents, on both sides.
    pub(crate) transport: AgentTransport,
    /// The number of rounds.
    pub(crate) rounds: usize,
}

/// A contender of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// The baseline without a journal.
    Memory,
    /// The baseline with a journal.
    Durable,
    Kapell,
}

/// The measurements of one run.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// From the start of the process to its end.
    pub(crate) wall: Duration,
    /// The processor time, without the agents.
    pub(crate) cpu: Duration,
    /// The peak resident memory, in KiB.
    pub(crate) peak_kib: u64,
    /// From the start of the process to the arrival of the first call at an agent.
    pub(crate) first_call: Duration,
    /// From the first call to the end of the last sleep, if there are sleeps.
    pub(crate) makespan: Option<Duration>,
    /// The maximum of concurrent requests to the language model; 0 without one.
    pub(crate) peak_llm_requests: usize,
    /// The progress notifications that the baseline received, or the progress events of kapell.
    pub(crate) notifications: usize,
}

/// A round: one run of each contender.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    /// The baseline without a journal.
    pub(crate) in_memory: Sample,
    /// The baseline with a journal.
    pub(crate) durable: Sample,
    /// kapell.
    pub(crate) kapell: Sample,
}

/// All rounds of a row.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// The row.
    pub(crate) row: Row,
    /// The number of tasks.
    pub(crate) tasks: usize,
    /// The rounds, at least one.
    pub(crate) rounds: Vec<Round>,
    /// The duration of `kapell validate`, where it is measured.
    pub(crate) validation: Option<Duration>,
}

/// Measures one row.
///
/// # Errors
/// Fails if a run fails, or does not do the same work as the others.
pub(crate) fn measure_row(row: Row, setting: BenchSettings) -> BenchResult<Figures> {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let graph = row.workload.graph();
    let stage = BenchSetup::new(place.path(), row, setting, &graph)?;
    let round = |_| -> BenchResult<Round> {
        let (memory, expected) = stage.run(Contender::Memory)?;
        let (durable, durably) = stage.run(Contender::Durable)?;
        let (kapell, done) = stage.run(Contender::Kapell)?;
        if durably != expected || done != expected {
            return Err(
                format!("the outputs differ: {expected} and {durably} of the baseline, {done} of kapell").into()
            );
        }
        Ok(Round { in_memory: memory, durable, kapell })
    };
    let rounds = (0..setting.rounds).map(round).collect::<BenchResult<Vec<_>>>()?;
    let validation = (row.workload == Workload::Layered100k).then(|| stage.validate()).transpose()?;
    Ok(Figures { row, tasks: graph.tasks.len(), rounds, validation })
}

/// The setup of the runs of a row.
pub(crate) struct BenchSetup<'s> {
    directory: &'s Path,
    row: Row,
    setting: BenchSettings,
    graph: &'s Graph,
}

impl<'s> BenchSetup<'s> {
    /// Creates the setup in `place`, and writes the plan.
    ///
    /// # Errors
    /// Fails if the plan cannot be written.
    pub(crate) fn new(place: &'s Path, row: Row, setting: BenchSettings, graph: &'s Graph) -> BenchResult<Self> {
        let stage = Self { directory: place, row, setting, graph };
        fs::write(stage.plan(), graph.plan())?;
        Ok(stage)
    }

    /// Returns the path of the plan.
    pub(crate) fn plan(&self) -> PathBuf {
        self.directory.join("plan.yaml")
    }

    /// Makes one run with new agents, a new model, and a new journal. Returns its measurements and the digest of its
    /// outputs.
    fn run(&self, contender: Contender) -> BenchResult<(Sample, String)> {
        let place = TempDir::new_in(self.directory)?;
        let llm = (self.row.workload == Workload::Think200).then(|| ServerProcess::start(&["llm"])).transpose()?;
        let agents = AgentServers::start(self.setting.transport, place.path())?;
        let address = llm.as_ref().map(|llm| llm.address.clone());
        let program = match contender {
            Contender::Memory => self.baseline_program(place.path(), &agents, address, None)?,
            Contender::Durable => {
                self.baseline_program(place.path(), &agents, address, Some(place.path().join("baseline.db")))?
            }
            Contender::Kapell => self.kapell_program(place.path(), &agents, address)?,
        };
        let usage =
            program.run(&[("XDG_STATE_HOME", place.path())]).map_err(|error| format!("{contender:?}: {error}"))?;
        let (digest, notifications) = match contender {
            Contender::Memory | Contender::Durable => {
                let report: BaselineReport = serde_json::from_slice(&fs::read(program.stdout())?)?;
                (report.digest, report.notifications)
            }
            Contender::Kapell => {
                let result: RunResult = serde_json::from_slice(&fs::read(program.stdout())?)?;
                let notifications = match self.row.workload {
                    Workload::Progress50 => self.notifications(&result.run, place.path())?,
                    _ => 0,
                };
                (result.digest(self.graph)?, notifications)
            }
        };
        let (first_call, last_sleep) = agents.call_times()?;
        let sample = Sample {
            wall: usage.wall,
            cpu: usage.cpu,
            peak_kib: usage.peak_kib,
            first_call: first_call.saturating_sub(usage.started),
            makespan: last_sleep.map(|last| last.saturating_sub(first_call)),
            peak_llm_requests: llm
                .map(ServerProcess::shut_down)
                .transpose()?
                .map_or(Ok(0), |count| count.trim().parse())?,
            notifications,
        };
        Ok((sample, digest))
    }

    /// Returns the program in which the baseline runs the graph, with its files in `place`.
    ///
    /// # Errors
    /// Fails if the job cannot be written.
    pub(crate) fn baseline_program(
        &self,
        place: &Path,
        agents: &AgentServers,
        llm: Option<String>,
        journal: Option<PathBuf>,
    ) -> BenchResult<MeasuredProgram> {
        let agents = agents.addresses.clone();
        let job = BaselineJob { graph: self.graph.clone(), agents, era: self.setting.era, llm, journal };
        let path = place.join("job.json");
        fs::write(&path, serde_json::to_vec(&job)?)?;
        let this = std::env::current_exe()?.into_os_string();
        Ok(MeasuredProgram::new(place, [this, "role".into(), "baseline".into(), path.into()]))
    }

    /// Returns the program in which kapell runs the plan, with its files in `place`.
    ///
    /// # Errors
    /// Fails if the files cannot be written.
    pub(crate) fn kapell_program(
        &self,
        place: &Path,
        agents: &AgentServers,
        llm: Option<String>,
    ) -> BenchResult<MeasuredProgram> {
        let file = place.join("agents.toml");
        fs::write(&file, self.agents_file(agents, llm))?;
        let mut command = vec![KAPELL.into(), "run".into(), self.plan().into_os_string()];
        command.extend(["--agents".into(), file.into_os_string()]);
        command.extend(["--journal".into(), journal_path(place).into_os_string()]);
        command.extend(["--output", "json", "--no-input"].map(Into::into));
        if self.row.durability == Durability::Normal {
            command.extend(["--durability", "normal"].map(Into::into));
        }
        Ok(MeasuredProgram::new(place, command))
    }

    fn agents_file(&self, agents: &AgentServers, llm: Option<String>) -> String {
        let mut file = String::new();
        if let Some(address) = llm {
            file += &format!("[llm]\nbase_url = {}\nmodel = \"scripted\"\n\n", json!(address));
        }
        for (agent, reached) in Agent::ALL.iter().zip(&agents.addresses) {
            file += &format!("[agents.{}]\n", agent.name());
            match reached {
                AgentAddress::Command(command) => {
                    file += &format!("command = {}\nargs = {}\n", json!(command[0]), json!(command[1..]));
                    if self.row.workload == Workload::Think200 && self.setting.era == Era::Legacy {
                        // Requests of these agents do not identify their call, so each process gets one call at a time.
                        file += &format!("max_processes = {}\n", MAX_PARALLEL / Agent::ALL.len());
                    }
                }
                AgentAddress::Url(url) => file += &format!("url = {}\n", json!(url)),
            }
            let era = match self.setting.era {
                Era::Legacy => "legacy",
                Era::Modern => "modern",
            };
            file += &format!("protocol = \"{era}\"\nmax_concurrency = {MAX_PARALLEL}\n\n");
        }
        file
    }

    /// Returns the number of progress events of the run. The last event of each task must be the last that its agent
    /// sent.
    fn notifications(&self, run: &str, place: &Path) -> BenchResult<usize> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(rename = "type")]
            kind: String,
            attempt: Option<Attempt>,
            progress: Option<Progress>,
        }
        #[derive(Deserialize)]
        struct Attempt {
            task: String,
        }
        #[derive(Deserialize)]
        struct Progress {
            progress: f64,
        }
        let mut logs = Command::new(KAPELL);
        logs.args(["logs", run, "--output", "json", "--journal"]).arg(journal_path(place));
        let events = logs.stderr(Stdio::inherit()).output()?.stdout;
        let (mut count, mut last) = (0, HashMap::new());
        for line in events.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Line = serde_json::from_slice(line)?;
            if let ("attempt_progressed", Some(attempt), Some(progress)) = (&*line.kind, line.attempt, line.progress) {
                count += 1;
                last.insert(attempt.task, progress.progress);
            }
        }
        let whole = |task: &&Task| last.get(&task.id) == Some(&(NOTIFICATIONS_PER_TASK as f64));
        match self.graph.tasks.iter().find(|task| !whole(task)) {
            Some(task) => Err(format!("the last progress of `{}` was lost", task.id).into()),
            None => Ok(count),
        }
    }

    fn validate(&self) -> BenchResult<Duration> {
        let place = TempDir::new_in(self.directory)?;
        let agents = AgentServers::start(self.setting.transport, place.path())?;
        let file = place.path().join("agents.toml");
        fs::write(&file, self.agents_file(&agents, None))?;
        let command = [KAPELL.into(), "validate".into(), self.plan(), "--agents".into(), file];
        Ok(MeasuredProgram::new(place.path(), command).run(&[("XDG_STATE_HOME", place.path())])?.wall)
    }
}

fn journal_path(place: &Path) -> PathBuf {
    place.join("journal.db")
}

/// The relevant fields of the output of `kapell run --output json`.
#[derive(Debug, Deserialize)]
pub(crate) struct RunResult {
    run: String,
    tasks: HashMap<String, TaskResult>,
}

#[derive(Debug, Deserialize)]
struct TaskResult {
    output: Value,
}

impl RunResult {
    /// Returns the digest of all outputs.
    ///
    /// # Errors
    /// Fails if a task has no output.
    pub(crate) fn digest(&self, graph: &Graph) -> BenchResult<String> {
        let output = |task: &Task| self.tasks.get(&task.id).and_then(|task| task.output.as_str());
        if let Some(task) = graph.tasks.iter().find(|task| output(task).is_none()) {
            return Err(format!("`{}` has no text", task.id).into());
        }
        Ok(graph.digest(|task| output(&graph.tasks[task]).unwrap_or_default()))
    }
}
