//! Executes a run with the outputs of a command: the screen, JSON lines, and the streamed answer.

use std::fs::File;
use std::io::{IsTerminal, Read as _};
use std::mem;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::args::OutputFormat;
use super::exit::{print, print_json};
use super::files;
use super::offers_watcher::OffersWatcher;
use super::output::verbosity;
use super::run_context::RunContext;
use super::run_options::RunOutputFormat;
use crate::cli::{CliError, Exit};
use crate::config::{AgentCatalog, AgentsFile};
use crate::engine::synthesis::unfinished;
use crate::journal::Store;
use crate::mcp::EarlyPool;
use crate::mcp::process::guard;
use crate::model::{Plan, RunId, RunStatus, SavedFile, Task, TaskId, Timestamp, describe_unset};
use crate::runtime::shutdown::{RunStateAtExit, SessionSignals};
#[cfg(feature = "otel")]
use crate::runtime::trace_of_run;
use crate::runtime::{ContentStore, KeptCalls, OffersCache, ResumableRun, RunClock, RunRequest, connect_options};
use crate::ui::reporters::json_lines::{JsonLines, JsonLinesError};
use crate::ui::reporters::live::{LiveReporter, TimeSource};
use crate::ui::reporters::live_answer::{DisplayedAnswer, LiveAnswer};
#[cfg(feature = "otel")]
use crate::ui::reporters::otlp::OtlpReporter;
use crate::ui::reporters::plain::PlainReporter;
use crate::ui::reporters::screenful::Screenful;
use crate::ui::reporters::{EndContext, ProgressOptions, ProgressReporter};
use crate::ui::terminal::screen::{Screen, ScreenSize};
use crate::view::report_line::Verbosity;
use crate::view::text::{bytes_text, count_text, printable};
use crate::view::{self, ResultFile, ResultScope, RunResult, TaskResult};
use crate::{Host, journal};

/// The part of a result that was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrintedResult {
    /// All of it.
    Whole,
    /// As much as fits on the screen.
    Cut,
}

/// Prints the result of a run, except an answer that the terminal shows completely.
fn print_unless_displayed(
    result: &RunResult,
    output: RunOutputFormat,
    displayed: DisplayedAnswer,
) -> Result<PrintedResult, CliError> {
    if output == RunOutputFormat::Text
        && result.has_structured_synthesis()
        && let Some(notice) = unfinished::unfinished_notice(&result.not_done, result.missing.as_deref())
    {
        // On stderr: if the answer is JSON, stdout must stay JSON.
        message!("{notice}");
    }
    match output {
        RunOutputFormat::Text if displayed == DisplayedAnswer::Complete => Ok(PrintedResult::Whole),
        // The partial results of an interrupted run are not an answer; `kapell runs show` prints them.
        RunOutputFormat::Text if result.status == RunStatus::Interrupted => Ok(PrintedResult::Whole),
        RunOutputFormat::Text => print_to_screen(result),
        RunOutputFormat::Json => print_result(OutputFormat::Json, result).map(|()| PrintedResult::Whole),
        // The last line of the stream was the result.
        RunOutputFormat::StreamJson => Ok(PrintedResult::Whole),
    }
}

/// Prints the result of a run that was just shown: on a terminal a screenful of answers, elsewhere everything.
///
/// # Errors
/// Fails if stdout cannot be written.
pub(crate) fn print_to_screen(result: &RunResult) -> Result<PrintedResult, CliError> {
    let (stdout, stderr) = (console::Term::stdout(), console::Term::stderr());
    if !stdout.is_term() {
        print_with_large_texts(&view::result_text(result), result)?;
        return Ok(PrintedResult::Whole);
    }
    // The messages on the same screen have the failures.
    let scope = if stderr.is_term() { ResultScope::Answers } else { ResultScope::Everything };
    let text = name_large_texts(&view::scoped_result_text(result, scope), result);
    if text.is_empty() {
        return Ok(PrintedResult::Whole);
    }
    let cut = Screenful::cut(&text, screen_size(&stdout));
    print_answer(cut.text)?;
    if cut.omitted_lines == 0 {
        return Ok(PrintedResult::Whole);
    }
    let more = count_text(cut.omitted_lines, "more line");
    print(&format!("… and {more}: `kapell result {}`\n", result.run.short()))?;
    Ok(PrintedResult::Cut)
}

/// Shows the end of a run, as the last on the screen.
pub(crate) fn show_end(screen: &Screen, reporter: &dyn ProgressReporter, store: &dyn Store, printed: PrintedResult) {
    let Some(end) = reporter.end() else { return };
    let is_result_cut = printed == PrintedResult::Cut;
    if verbosity() == Verbosity::Quiet && end.has_succeeded() && !is_result_cut {
        return;
    }
    let lines = match screen.capabilities().live {
        true => {
            let context = EndContext { run: name_on_screen(end.run(), store), is_result_cut };
            let size = screen_size(&console::Term::stderr());
            // Separates the end from the result.
            std::iter::once(String::new()).chain(end.styled_lines(&context, size)).collect::<Vec<_>>()
        }
        false => end.plain_lines(&EndContext { run: end.run().short().to_owned(), is_result_cut }),
    };
    screen.println(lines.join("\n"));
    screen.flush();
}

/// Returns the name of a run for a command that a person types next: `last` if it is the latest one.
fn name_on_screen(run: &RunId, store: &dyn Store) -> String {
    let latest = store.open_reader().and_then(|reader| reader.runs(1)).unwrap_or_default();
    if latest.iter().any(|latest| latest.run == *run) { "last".to_owned() } else { run.short().to_owned() }
}

fn screen_size(terminal: &console::Term) -> ScreenSize {
    let (rows, columns) = terminal.size();
    ScreenSize { rows: rows.into(), columns: columns.into() }
}

/// Prints the result of a run.
///
/// # Errors
/// Fails if stdout cannot be written.
pub(crate) fn print_result(format: OutputFormat, result: &RunResult) -> Result<(), CliError> {
    match format {
        OutputFormat::Text if std::io::stdout().is_terminal() => {
            print_answer(&name_large_texts(&view::result_text(result), result))
        }
        OutputFormat::Text => print_with_large_texts(&view::result_text(result), result),
        OutputFormat::Json => print_json(result),
    }
}

/// Prints the paths of the files of a task and its items that were saved for the user.
pub(crate) fn report_saved(task: &TaskResult) {
    for ResultFile { path, mime_type, bytes, .. } in &task.files {
        let media = mime_type.as_deref().map(|media| format!("{media}, ")).unwrap_or_default();
        message!("saved {} ({media}{})", path.display(), bytes_text(*bytes));
    }
    task.items.iter().flatten().for_each(report_saved);
}

/// Returns the error for files that cannot be saved in `directory`.
pub(crate) fn cannot_save(directory: &Path, error: std::io::Error) -> CliError {
    CliError::failed("cli::unwritable", format!("cannot save files to `{}`", directory.display()), error)
}

/// Prints a text in which a line can refer to a large text of the result. That one is printed from its file.
fn print_with_large_texts(text: &str, result: &RunResult) -> Result<(), CliError> {
    let texts = result.large_texts();
    if texts.is_empty() {
        return print(text);
    }
    for line in text.split_inclusive('\n') {
        match large_text(line, &texts) {
            Some((_, path)) => print_file(path)?,
            None => print(line)?,
        }
    }
    Ok(())
}

/// Prints the text of a file, which is never in memory as a whole. Ends with a line break.
fn print_file(path: &Path) -> Result<(), CliError> {
    let unreadable = |error| CliError::failed("cli::missing_file", format!("cannot read `{}`", path.display()), error);
    let mut file = File::open(path).map_err(unreadable)?;
    let (mut pending, mut last) = (Vec::new(), b'\n');
    while (&mut file).take(MAX_PIECE_BYTES).read_to_end(&mut pending).map_err(unreadable)? > 0 {
        let whole = match std::str::from_utf8(&pending) {
            // The rest of the last character is in the next piece.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => pending.len(),
        };
        print(&String::from_utf8_lossy(&pending[..whole]))?;
        last = pending[..whole].last().copied().unwrap_or(last);
        pending.drain(..whole);
    }
    if last == b'\n' { Ok(()) } else { print("\n") }
}

/// Returns the text with the size and the path of each large text in place of the line that refers to it.
fn name_large_texts(text: &str, result: &RunResult) -> String {
    let texts = result.large_texts();
    let name = |line: &str| match large_text(line, &texts) {
        Some((file, path)) => format!("{} ({})\n", path.display(), bytes_text(file.bytes)),
        None => line.to_owned(),
    };
    text.split_inclusive('\n').map(name).collect()
}

/// Returns the large text to which a line refers.
fn large_text<'t>(line: &str, texts: &[(&'t SavedFile, &'t Path)]) -> Option<(&'t SavedFile, &'t Path)> {
    let file = SavedFile::parse(line.trim_end()).filter(|file| file.is_text)?;
    texts.iter().copied().find(|(known, _)| **known == file)
}

/// The maximum size of a piece of a file that is printed at once, in bytes.
const MAX_PIECE_BYTES: u64 = 64 * 1024;

/// Prints the answer. On a terminal, separates it from the messages before it.
fn print_answer(answer: &str) -> Result<(), CliError> {
    if std::io::stdout().is_terminal() {
        print("\n")?;
    }
    print(answer)
}

/// Starts the process that ends the agents if this one is killed.
///
/// # Errors
/// Fails if the system cannot start another process.
pub(crate) fn start_guard() -> Result<(), CliError> {
    guard::start()
        .map_err(|error| CliError::failed("cli::guard", "cannot start the guard process that ends agents", error))
}

/// What is known of the agents from the planning of a goal.
#[derive(Default)]
pub(crate) struct KnownAgents {
    /// What they offered.
    pub(crate) catalog: AgentCatalog,
    /// The connections to them.
    pub(crate) connections: Option<EarlyPool>,
    /// The calls that the run takes over.
    pub(crate) early_calls: KeptCalls,
}

/// Executes a run and prints its result. Returns the exit code.
///
/// # Errors
/// Fails if a component that the run needs fails. A failed task is part of the result instead.
pub(crate) async fn execute(
    context: RunContext,
    agents: AgentsFile,
    known: KnownAgents,
    request: RunRequest,
) -> Result<Exit, CliError> {
    let RunContext { run, journal, screen, human, output, durability, save } = context;
    let store = journal::store(&journal);
    let plan = request.plan();
    if !SessionSignals::is_active() {
        // The process ends with the run, so its memory is freed at once rather than task by task.
        mem::forget(Arc::clone(plan));
    }
    let resumable = request.resumable();
    let clock = RunClock::start_no_earlier_than(resumable.map_or_else(Timestamp::default, ResumableRun::last_event_at));
    let mut view = progress_reporter(&screen, &run, Arc::new(move || clock.now()));
    let mut answer = match output {
        RunOutputFormat::Text if std::io::stdout().is_terminal() => streamed_answer_task(plan),
        _ => None,
    }
    .map(|task| LiveAnswer::new(screen.clone(), task));
    let mut lines = match output {
        RunOutputFormat::StreamJson => {
            let from_seq = resumable.map_or(0, ResumableRun::next_seq);
            Some(JsonLines::start(Arc::clone(&store), &run, from_seq, std::io::stdout()).map_err(lines_error)?)
        }
        _ => None,
    };

    #[cfg(feature = "otel")]
    let mut spans = OtlpReporter::start(&run, trace_of_run(&run))
        .map_err(|error| CliError::failed("cli::otel", "cannot export the spans of the run", error))?
        .map(Box::new);
    report_unusable_models(&screen, &agents);
    let cache = OffersCache::new(&connect_options(&agents, None)?);
    let mut watcher = OffersWatcher::new(cache, agents.agents.clone());
    let mut builder = Host::builder()
        .agents(agents)
        .catalog(known.catalog)
        .connections(known.connections)
        .early_calls(known.early_calls)
        .run_id(run.clone())
        .journal(Arc::clone(&store))
        .durability(durability)
        .content_directory(files::content_root(&journal))
        .cache_directory(files::cache_root(&journal))
        .human(Arc::clone(&human))
        .own_process({
            let (screen, run) = (screen.clone(), run.clone());
            move |state| {
                human.discard_typed();
                print_resume_hint(&screen, &run, state);
            }
        });
    if let Some(directory) = save.clone() {
        builder = builder.copy_content_to(directory);
    }
    // Before the view, so that the end of an answer precedes the lines about it.
    if let Some(answer) = &mut answer {
        builder = builder.reporter(answer);
    }
    builder = builder.reporter(&mut *view).reporter(&mut watcher);
    if let Some(lines) = &mut lines {
        builder = builder.reporter(lines);
    }
    #[cfg(feature = "otel")]
    if let Some(spans) = &mut spans {
        builder = builder.reporter(&mut **spans);
    }
    let driven = builder.build()?.run(request).await;
    #[cfg(feature = "otel")]
    if let Some(spans) = spans {
        // The thread that exports blocks on the network, which a runtime does not allow.
        let _ = tokio::task::spawn_blocking(move || spans.finish()).await;
    }
    screen.hide();
    screen.flush();
    let displayed = answer.map_or(DisplayedAnswer::Nothing, |answer| answer.displayed());
    let mut result = driven?;
    if let Some(directory) = &save {
        for (id, task) in &mut result.tasks {
            ContentStore::save_texts(id, task, directory).map_err(|error| cannot_save(directory, error))?;
            report_saved(task);
        }
    }
    if let Some(lines) = lines {
        lines.finish(&result).map_err(lines_error)?;
    }
    let printed = print_unless_displayed(&result, output, displayed)?;
    show_end(&screen, &*view, &*store, printed);
    let exit = Exit::of_run(result.status, result.cause.as_ref());
    if !SessionSignals::is_active() {
        // The process ends, so its memory is freed at once rather than result by result.
        mem::forget(result);
    }
    Ok(exit)
}

/// Says why agents see a host without a language model, although the agents file has some.
fn report_unusable_models(screen: &Screen, agents: &AgentsFile) {
    let mut unset = agents.models.iter().map(|model| describe_unset(&model.unset_variables));
    if let Some(Some(reason)) = unset.next()
        && unset.all(|model| model.is_some())
        && verbosity() != Verbosity::Quiet
    {
        screen.println(format!("no language model is used: {}", printable(&reason)));
    }
}

fn lines_error(error: JsonLinesError) -> CliError {
    CliError::failed("cli::output", "some events could not be printed", error)
}

/// The longest wait at an immediate end for the last line to be written.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(300);

/// Prints how to resume the run, before the process ends immediately.
fn print_resume_hint(screen: &Screen, run: &RunId, state: RunStateAtExit) {
    screen.hide();
    if state == RunStateAtExit::Unfinished {
        screen.println(format!("stopped immediately; `kapell resume {}` resumes the run", run.short()));
    }
    let (written, done) = mpsc::channel();
    let screen = screen.clone();
    // A terminal that accepts nothing must not block the end of the process.
    std::thread::spawn(move || {
        screen.flush();
        let _ = written.send(());
    });
    let _ = done.recv_timeout(LAST_LINE_TIMEOUT);
}

/// Returns the task whose text is the whole printed answer of a successful run, if there is one.
fn streamed_answer_task(plan: &Plan) -> Option<TaskId> {
    let has_outputs = plan.outputs.as_ref().is_some_and(|outputs| !outputs.is_empty());
    let is_text = |task: &&Task| task.prompt().is_some_and(|prompt| prompt.output_schema.is_none());
    plan.synthesis().filter(|_| !has_outputs).filter(is_text).map(|task| task.id.clone())
}

/// Returns a live view at `now` on a terminal, and a plain line reporter elsewhere.
pub(crate) fn progress_reporter(screen: &Screen, run: &RunId, now: TimeSource) -> Box<dyn ProgressReporter> {
    let options = ProgressOptions { verbosity: verbosity() };
    if screen.capabilities().live {
        Box::new(LiveReporter::new(screen.clone(), run.clone(), now, options))
    } else {
        Box::new(PlainReporter::new(screen.clone(), files::time_zone(), options))
    }
}
