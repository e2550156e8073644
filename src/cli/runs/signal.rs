//! `kapell signal`: sends a signal to a run, which ends a task that waits for it.

use clap::Args;
use serde_json::Value;

use crate::cli::common::args::JournalArg;
use crate::cli::common::remote_run::RemoteRun;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::journal::ControlRequest;

#[derive(Debug, Args)]
pub(crate) struct SignalArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(add = completion::runs())]
    run: String,
    /// The name of the signal, as in `wait: { webhook: NAME }`
    name: String,
    /// The data of the signal, which becomes the output of the task: JSON, or any other text [default: null]
    #[arg(long, value_name = "DATA", allow_hyphen_values = true)]
    data: Option<String>,
    #[command(flatten)]
    journal: JournalArg,
}

/// Sends the signal. A signal that no task waits for yet is kept for the first one that does.
pub(crate) fn signal(args: SignalArgs) -> Result<Exit, CliError> {
    let remote = RemoteRun::find(&args.journal, &args.run)?;
    let data = args.data.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
    remote.send(&ControlRequest::Signal { name: args.name.clone(), data })?;
    let (name, short) = (&args.name, remote.run.short());
    match remote.summary()?.driver {
        Some(_) => message!("signal `{name}` sent to run {short}"),
        None => message!("signal `{name}` is saved for run {short}; `kapell resume {short}` delivers it"),
    }
    Ok(Exit::Success)
}
