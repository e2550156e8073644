//! The command line: the options of the benchmark, and the roles in which this program starts itself.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum as _};

use crate::agent::{self, AgentTransport};
use crate::baseline::{self, Era};
use crate::comparison::{self, BenchSettings, Durability, Row};
use crate::instructions::{self, Purpose};
use crate::measure::{self, MeasuredProgram};
use crate::table::{self, Format};
use crate::workload::Workload;
use crate::{BenchResult, in_process, llm};

/// The argument that makes this program run a role.
const ROLE_ARGUMENT: &str = "role";
/// The flag that distinguishes `cargo bench` from `cargo test`.
const BENCH_FLAG: &str = "--bench";

/// Runs workloads alternately with kapell and with a baseline, and compares them.
///
/// The baseline is a loop written by hand over rmcp: once in memory, once with a row for each call and each result in
/// SQLite (WAL, synchronous=FULL), committed in groups. All outputs must be equal. Each ratio is the median of the
/// ratios of the rounds. Times are those of whole processes, including agents; processor times and memory are those of
/// kapell alone. Quote only pinned ratios, since unpinned ones vary with the machine.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench host --")]
struct Options {
    /// Number of rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only these workloads
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<Workload>,
    /// The revision of the protocol that both sides speak: 2025-11-25, or 2026-07-28
    #[arg(long, value_enum, default_value = "modern")]
    era: Era,
    /// Reach the agents over Streamable HTTP, and not over their pipes
    #[arg(long)]
    http: bool,
    /// Use every processor, and not one for all
    #[arg(long)]
    unpinned: bool,
    /// One round of small workloads, to see that everything works
    #[arg(long, conflicts_with_all = ["rounds", "only"])]
    quick: bool,
    /// Print the table as Markdown
    #[arg(long)]
    markdown: bool,
    /// Fail where a target is missed
    #[arg(long)]
    check: bool,
    /// Count the instructions of a run of 1 000 tasks instead, with valgrind, relative to the baseline; fail above what is recorded
    #[arg(long, conflicts_with_all = ["rounds", "only", "era", "http", "unpinned", "quick", "markdown", "check"])]
    instructions: bool,
    /// Count them, and record them as the budget in `benches/instructions.toml`
    #[arg(long, conflicts_with_all = ["rounds", "only", "era", "http", "unpinned", "quick", "markdown", "check"])]
    record: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// The roles of this program.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
enum Role {
    /// A reference agent.
    Agent {
        /// The transport.
        over: AgentTransport,
        /// The file for the times of its first call and of the end of its last sleep.
        #[arg(long)]
        stamp: Option<PathBuf>,
    },
    /// The language model.
    Llm,
    /// The baseline.
    Baseline {
        /// The file of the job.
        job: PathBuf,
    },
    /// A run with an agent within the process.
    Inside {
        /// The plan.
        plan: PathBuf,
        /// The path of the journal.
        journal: PathBuf,
    },
    /// A measured program.
    Measure(MeasuredProgram),
}

/// Runs the benchmark if this is `cargo bench`, or runs a role.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = match arguments.next() {
        Some(first) if first == ROLE_ARGUMENT => run_role(Role::parse_from(arguments)),
        _ if std::env::args_os().any(|argument| argument == BENCH_FLAG) => return measure(&Options::parse()),
        _ => {
            println!("nothing is measured here but by `cargo bench --bench host`");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_role(role: Role) -> BenchResult<()> {
    if let Role::Measure(program) = role {
        println!("{}", serde_json::to_string(&program.measure()?)?);
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Agent { over, stamp } => agent::serve(over, stamp).await?,
            Role::Llm => llm::serve().await?,
            Role::Baseline { job } => println!("{}", serde_json::to_string(&baseline::run(&job).await?)?),
            Role::Inside { plan, journal } => in_process::run(&plan, &journal).await?,
            Role::Measure(_) => {}
        }
        Ok(())
    })
}

fn measure(options: &Options) -> ExitCode {
    let purpose = match options {
        Options { record: true, .. } => Purpose::Record,
        Options { instructions: true, .. } => Purpose::Check,
        _ => return compare(options),
    };
    match instructions::count_instructions(purpose) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> ExitCode {
    let over = if options.http { AgentTransport::Http } else { AgentTransport::Stdio };
    let rounds = if options.quick { 1 } else { usize::from(options.rounds) };
    let setting = BenchSettings { era: options.era, transport: over, rounds };
    println!("{}", heading(options, setting));
    let mut measured = Vec::new();
    let mut failed = false;
    for row in rows(options) {
        eprintln!("{} ...", row.name());
        match comparison::measure_row(row, setting) {
            Ok(figures) => measured.push(figures),
            Err(error) => {
                failed = true;
                eprintln!("{} FAILED: {error}", row.name());
            }
        }
    }
    let format = if options.markdown { Format::Markdown } else { Format::Columns };
    let (table, holds) = table::render_table(&measured, over, format);
    print!("\n{table}");
    let missed = options.check && !holds;
    if failed || missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Returns the heading of the table, with the settings of all rows.
fn heading(options: &Options, setting: BenchSettings) -> String {
    let era = match setting.era {
        Era::Legacy => "2025-11-25",
        Era::Modern => "2026-07-28",
    };
    let over = match setting.transport {
        AgentTransport::Stdio => "stdio",
        AgentTransport::Http => "Streamable HTTP",
    };
    let processors = if options.unpinned {
        format!("unpinned, {} processors", measure::processor_count())
    } else {
        match measure::pin_to_one_processor() {
            Ok(number) => format!("everything on processor {number}"),
            Err(error) => format!("unpinned ({error}), {} processors", measure::processor_count()),
        }
    };
    format!("{over}, protocol {era}, {processors}, median of {} rounds", setting.rounds)
}

fn rows(options: &Options) -> Vec<Row> {
    let chosen: Vec<Workload> = if options.quick {
        vec![Workload::Pair, Workload::Chain100, Workload::Layered1k, Workload::Think200, Workload::Progress50]
    } else if options.only.is_empty() {
        Workload::value_variants().to_vec()
    } else {
        options.only.clone()
    };
    let mut rows = Vec::new();
    for workload in chosen {
        rows.push(Row { workload, durability: Durability::Full });
        if workload == Workload::Layered10k {
            rows.push(Row { workload, durability: Durability::Normal });
        }
    }
    rows
}
