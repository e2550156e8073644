//! Diagnostics of the host and its libraries on stderr.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use tracing_appender::non_blocking::NonBlockingBuilder;

use crate::model::Secrets;
use crate::view::text::printable_styled;

/// Writes diagnostics of the host and its libraries to stderr if `KAPELL_LOG` asks for them (`debug`, `kapell=trace`).
///
/// A separate thread writes them, and drops lines rather than delay a run when stderr accepts none. The returned
/// guard writes the remaining lines when it is dropped.
pub(crate) fn start_logging() -> Option<tracing_appender::non_blocking::WorkerGuard> {
    use tracing_subscriber::EnvFilter;
    let mut filter = EnvFilter::try_from_env("KAPELL_LOG").ok()?;
    // Below this level, the library logs the codes and the tokens of logins.
    if let Ok(without_tokens) = "rmcp::transport::auth=info".parse() {
        filter = filter.add_directive(without_tokens);
    }
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_LOG_LINES).lossy(true).finish(SafeStderr);
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
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
