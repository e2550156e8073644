//! The options of all commands for their output: how much is printed, colors, and diagnostics of the host on stderr.

use std::borrow::Cow;
use std::io::Write;
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use clap::{ArgAction, Args, ValueEnum};
use tracing_appender::non_blocking::NonBlockingBuilder;

use crate::model::Secrets;
use crate::view::report_line::Verbosity;
use crate::view::text::printable_styled;

/// The options of all commands for their output.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// Print only questions, warnings, errors, and the result
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    quiet: bool,
    /// Also print connections, log messages of agents, and the arguments of calls; -vv also prints what `KAPELL_LOG=debug`
    /// does
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// When to use colors; by default on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = "Global options")]
    color: ColorWhen,
}

/// When colors are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ColorWhen {
    /// On a terminal; variables such as `NO_COLOR` and `CLICOLOR_FORCE` decide otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much is said about a run, once the command line is read.
static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();

impl OutputArgs {
    /// Applies the options to the process. Called once, before anything is printed.
    pub(crate) fn apply(&self) {
        let choice = match self.color {
            ColorWhen::Auto => ColorChoice::Auto,
            ColorWhen::Always => ColorChoice::AlwaysAnsi,
            ColorWhen::Never => ColorChoice::Never,
        };
        choice.write_global();
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Progress,
            (false, _) => Verbosity::Detailed,
        };
        // A process reads one command line.
        let _ = VERBOSITY.set(verbosity);
    }

    /// Returns the filter of diagnostics that the options ask for.
    fn default_filter(&self) -> Option<&'static str> {
        (self.verbose > 1).then_some("debug")
    }
}

/// Returns how much is said about a run.
pub(crate) fn verbosity() -> Verbosity {
    VERBOSITY.get().copied().unwrap_or_default()
}

/// Returns whether a standard stream gets colors.
pub(crate) fn has_color(stream: &impl anstream::stream::RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Writes diagnostics of the host and its libraries to stderr if `KAPELL_LOG` (`debug`, `kapell=trace`) or the options ask
/// for them.
///
/// A separate thread writes them, and drops lines rather than delay a run when stderr accepts none. The returned
/// guard writes the remaining lines when it is dropped.
pub(crate) fn start_logging(options: &OutputArgs) -> Option<tracing_appender::non_blocking::WorkerGuard> {
    use tracing_subscriber::EnvFilter;
    let configured = EnvFilter::try_from_env("KAPELL_LOG").ok();
    let mut filter = configured.or_else(|| options.default_filter().map(EnvFilter::new))?;
    // Below this level, the library logs the codes and the tokens of logins.
    if let Ok(without_tokens) = "rmcp::transport::auth=info".parse() {
        filter = filter.add_directive(without_tokens);
    }
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_LOG_LINES).lossy(true).finish(SafeStderr);
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(has_color(&std::io::stderr()))
        .log_internal_errors(false)
        .with_writer(writer);
    // This fails only on a second call in one process; the first call's logging stays.
    drop(logging.try_init());
    Some(guard)
}

/// Limits how many lines of diagnostics wait for stderr.
const MAX_LOG_LINES: usize = 4_096;

/// The secrets of the agents files, for the diagnostics thread: libraries log messages of agents unchanged.
static SECRETS: OnceLock<Secrets> = OnceLock::new();

/// Masks `secrets` in diagnostics from now on.
pub(crate) fn mask_in_diagnostics(secrets: &Secrets) {
    SECRETS.get_or_init(Secrets::default).add_all(secrets);
}

/// Writes whole lines to stderr with secrets masked and unsafe characters escaped. Errors are ignored, since a closed
/// stderr does not end a run.
struct SafeStderr;

impl Write for SafeStderr {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        let text = SECRETS.get().map_or(Cow::Borrowed(&*text), |secrets| secrets.mask_text(&text));
        let _ = std::io::stderr().write_all(printable_styled(&text).as_bytes());
        Ok(lines.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stderr().flush();
        Ok(())
    }
}
