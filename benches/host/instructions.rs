//! Counts the instructions of a fixed run, as a ratio to those of the baseline for the same graph in the same session, and
//! compares the ratio with a recorded budget. Unlike time, the count hardly depends on the load of the machine.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::BenchResult;
use crate::agent::AgentTransport;
use crate::baseline::{BaselineReport, Era};
use crate::comparison::{BenchSettings, BenchSetup, Durability, Row, RunResult};
use crate::measure::MeasuredProgram;
use crate::servers::AgentServers;
use crate::workload::Workload;

/// The file of the budget.
const BUDGET_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
/// The tolerated relative difference from the budget. Ten counts of the same program differed by 0.1 % in this process
/// and by 0.4 % as a command. The rest allows for other machines, on which the C library and the kernel behave differently.
const TOLERANCE: f64 = 0.03;
/// The tolerance for a program that another compiler has built.
const COMPILER_TOLERANCE: f64 = 0.1;
/// The number of counts for each scope. The smallest one counts, since it has the least noise.
const REPETITIONS: usize = 3;

const WORKLOAD: Row = Row { workload: Workload::Layered1k, durability: Durability::Normal };
const SETTING: BenchSettings = BenchSettings { era: Era::Modern, transport: AgentTransport::Stdio, rounds: 1 };

/// The use of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Compare the counts with the budget.
    Check,
    /// Record the counts as the new budget.
    Record,
}

/// The scope of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The baseline with a journal and with agents over stdio, without the agents.
    Baseline,
    /// A run whose agent is within the process, without MCP.
    Inside,
    /// `kapell run` with agents over stdio, without the agents.
    Command,
}

/// The recorded ratios to the instructions of the baseline.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Budget {
    /// The output of `rustc --version`.
    compiler: String,
    inside: f64,
    command: f64,
}

/// Counts the instructions and prints the counts. Returns whether they are within the budget.
///
/// # Errors
/// Fails if the instructions cannot be counted, or if a recorded budget is missing.
pub(crate) fn count_instructions(purpose: Purpose) -> BenchResult<bool> {
    if std::env::consts::ARCH != "x86_64" {
        return Err("the budget is one of x86_64, and other processors have other instructions".into());
    }
    let baseline = minimum_count(Scope::Baseline)?;
    let counts = [minimum_count(Scope::Inside)?, minimum_count(Scope::Command)?];
    let [inside, command] = counts.map(|count| count as f64 / baseline as f64);
    let measured = Budget { compiler: compiler()?, inside, command };
    let budget = match purpose {
        Purpose::Check => toml::from_str(&fs::read_to_string(BUDGET_FILE)?)?,
        Purpose::Record => {
            fs::write(BUDGET_FILE, measured.to_toml())?;
            measured.clone()
        }
    };
    let tolerance = if measured.compiler == budget.compiler {
        TOLERANCE
    } else {
        println!("the budget is one of {}, and this is {}", budget.compiler, measured.compiler);
        COMPILER_TOLERANCE
    };
    println!("{} with the baseline: {:.1} million instructions", WORKLOAD.workload, baseline as f64 / 1e6);
    let mut holds = true;
    for (what, count, ratio, budget) in [
        ("with an agent in the process", counts[0], measured.inside, budget.inside),
        ("`kapell run` over stdio", counts[1], measured.command, budget.command),
    ] {
        let change = ratio / budget - 1.0;
        let verdict = if change > tolerance {
            holds = false;
            "ABOVE THE BUDGET; if that has to be, record it with `cargo bench --bench host -- --record`"
        } else if change < -tolerance {
            "below the budget: record it, so that it stays there"
        } else {
            "within the budget"
        };
        println!(
            "{} {what}: {:.1} million instructions, {ratio:.3} of the baseline, {:+.1} %: {verdict}",
            WORKLOAD.workload,
            count as f64 / 1e6,
            change * 100.0
        );
    }
    Ok(holds)
}

impl Budget {
    fn to_toml(&self) -> String {
        let mut file = String::new();
        let _ = writeln!(
            file,
            "# Instructions of a run of 1 000 tasks (`layered1k`, `--durability normal`), counted by valgrind and divided by \
             those of the baseline with a journal."
        );
        let _ = writeln!(file, "# Written by `cargo bench --bench host -- --record`; `.ci/run` fails above it.");
        let _ = writeln!(file, "\ncompiler = \"{}\"", self.compiler);
        let _ = writeln!(file, "# With an agent within the process: no MCP.\ninside = {:.4}", self.inside);
        let _ = writeln!(
            file,
            "# `kapell run` with two agents over stdio, which are not counted.\ncommand = {:.4}",
            self.command
        );
        file
    }
}

fn compiler() -> BenchResult<String> {
    let output = std::process::Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn minimum_count(scope: Scope) -> BenchResult<u64> {
    let counts = (0..REPETITIONS).map(|_| count_once(scope)).collect::<BenchResult<Vec<_>>>()?;
    Ok(counts.into_iter().min().unwrap_or_default())
}

/// Counts one run with new agents and a new journal.
fn count_once(scope: Scope) -> BenchResult<u64> {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = place.path();
    let graph = WORKLOAD.workload.graph();
    let stage = BenchSetup::new(place, WORKLOAD, SETTING, &graph)?;
    let agents = AgentServers::start(SETTING.transport, place)?;
    let program = match scope {
        Scope::Baseline => stage.baseline_program(place, &agents, None, Some(place.join("baseline.db")))?,
        Scope::Inside => {
            let this = std::env::current_exe()?.into_os_string();
            let (plan, journal) = (stage.plan().into_os_string(), place.join("journal.db").into_os_string());
            MeasuredProgram::new(place, [this, "role".into(), "inside".into(), plan, journal])
        }
        Scope::Command => stage.kapell_program(place, &agents, None)?,
    };
    let log = place.join("valgrind");
    let program = program.under(valgrind(&log));
    program.run(&[("XDG_STATE_HOME", place)]).map_err(|error| format!("counting with valgrind: {error}"))?;
    let output = fs::read(program.stdout())?;
    match scope {
        Scope::Baseline => drop(serde_json::from_slice::<BaselineReport>(&output)?),
        Scope::Inside | Scope::Command => drop(serde_json::from_slice::<RunResult>(&output)?.digest(&graph)?),
    }
    parse_log(&fs::read_to_string(log)?).ok_or_else(|| "valgrind has not said how many instructions there were".into())
}

fn valgrind(log: &Path) -> Vec<String> {
    let mut command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        .map(str::to_owned)
        .to_vec();
    // The guard process of the agents is forked, and is not part of the run.
    command.push("--child-silent-after-fork=yes".to_owned());
    command.push(format!("--log-file={}", log.display()));
    command
}

/// Returns the number in the line `==1== I refs: 1,234`.
fn parse_log(log: &str) -> Option<u64> {
    let (_, number) = log.lines().find_map(|line| line.split_once("refs:"))?;
    number.trim().replace(',', "").parse().ok()
}
