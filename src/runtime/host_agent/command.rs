//! Runs shell commands.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use super::tool::{HostTools, denied, expected_codes, stopped, unwritable};
use crate::mcp::process::command_process::CommandProcess;
use crate::model::text::truncate_bytes;
use crate::model::{ContentBlock, Failure, FailureKind, JsonObject, ToolCall, ToolOutput};
use crate::runtime::content::{FileContents, Received, ReferenceKind, Spool, SpoolError, SpoolLimits};

/// The size of the end of standard error that the output contains, in bytes.
const MAX_STDERR_BYTES: usize = 256 * 1024;
/// What failures call standard output.
const STDOUT: &str = "the standard output of the command";
/// The type of an output that is not text.
const DATA_TYPE: &str = "application/octet-stream";
/// The size of one read of an output, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// The number of lines of standard error in a failure, and their maximum size in bytes.
const FAILURE_LINES: usize = 5;
const MAX_FAILURE_BYTES: usize = 1_000;
/// The time to read what remains in the pipes of a command that has exited, if another process keeps them open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The reason why the output of a command is not complete.
enum OutputError {
    Stdout(SpoolError),
    Read(io::Error),
}

/// The output of a command.
struct CommandOutput {
    stdout: Spool,
    /// The end of standard error.
    stderr: Vec<u8>,
}

/// Runs a command and returns its output, if it exits with an expected code.
///
/// # Errors
/// Returns [`FailureKind::ToolError`] for another code, or the reason why the command could not run to its end.
pub(super) async fn run_command(
    tools: &HostTools,
    call: &mut ToolCall,
    cancel: CancellationToken,
) -> Result<ToolOutput, Failure> {
    tools.settings.check_shell().map_err(denied)?;
    let stdin = match tools.remove_payload(call, "stdin").await? {
        Some(payload) => payload.into_stdin().await?,
        None => Stdio::null(),
    };
    let call = &*call;
    let text = |key: &str| call.arguments.get(key).and_then(Value::as_str);
    let command = text("command").unwrap_or_default();
    let directory = tools.directory.join(text("cwd").unwrap_or_default());
    let env = call.arguments.get("env").and_then(Value::as_object).into_iter().flat_map(JsonObject::iter);
    let env = env.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let started = match directory.is_dir() {
        true => CommandProcess::spawn(command, stdin, &directory, env),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "it is not a directory")),
    };
    let (process, stdout, stderr) = started.map_err(|error| {
        let message = format!("the command cannot be started in `{}`: {error}", directory.display());
        let failure = Failure::new(FailureKind::InvalidArguments, message);
        match error.kind() {
            io::ErrorKind::ArgumentListTooLong => failure.with_help(
                "pass large values as `stdin`, or save them with `save` and pass the path, `tasks.ID.saved`",
            ),
            _ => failure,
        }
    })?;
    let mut guard = tools.guard(call, cancel);
    let state = guard.call.clone();
    let report = move |line: &str| state.report_message(line);
    let shell = &tools.settings.shell;
    let limits = SpoolLimits { max_value_bytes: shell.max_value_bytes, max_bytes: shell.max_output_bytes };
    let mut output = CommandOutput { stdout: tools.spool(limits), stderr: Vec::new() };
    let running = run_to_end(&process, (stdout, stderr), &mut output, &report);
    let ended = guard.wait(running, std::future::pending()).await;
    guard.report_final_progress();
    let failure = match ended {
        Ok(Ok(status)) => return command_result(status, output, call).await,
        Ok(Err(OutputError::Stdout(SpoolError::TooLarge(limit)))) => {
            let message = format!("the standard output of the command is larger than {limit} bytes");
            let help = "raise `max_output_bytes` in `[shell]` of the agents file, or write the output to a file";
            Failure::new(FailureKind::ResultTooLarge, message).with_help(help)
        }
        Ok(Err(OutputError::Stdout(SpoolError::File(error)))) => unwritable(STDOUT, &error),
        Ok(Err(OutputError::Read(error))) => {
            let message = format!("the output of the command cannot be read: {error}");
            Failure::new(FailureKind::ConnectionLost, message)
        }
        Err(stop) => stopped(&guard, stop),
    };
    process.terminate().await;
    Err(failure)
}

/// Reads the outputs of a command until it has exited.
async fn run_to_end(
    process: &CommandProcess,
    (stdout, stderr): (impl AsyncRead + Unpin, impl AsyncRead + Unpin),
    output: &mut CommandOutput,
    report: &(impl Fn(&str) + Send + Sync),
) -> Result<Option<ExitStatus>, OutputError> {
    let CommandOutput { stdout: output, stderr: errors } = output;
    let mut reading = pin!(async {
        tokio::try_join!(read_all(stdout, output, report), read_tail(stderr, errors, report)).map(|_| ())
    });
    let status = tokio::select! {
        read = &mut reading => {
            read?;
            return Ok(process.wait().await);
        }
        status = process.wait() => status,
    };
    // Its group has ended too. A process outside of it may keep the pipes open.
    match tokio::time::timeout(DRAIN_TIMEOUT, reading).await {
        Ok(read) => read.map(|()| status),
        Err(_) => Ok(status),
    }
}

/// Reads standard output to its end.
async fn read_all(
    mut pipe: impl AsyncRead + Unpin,
    output: &mut Spool,
    report: &(impl Fn(&str) + Send + Sync),
) -> Result<(), OutputError> {
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let length = pipe.read(&mut chunk).await.map_err(OutputError::Read)?;
        if length == 0 {
            return Ok(());
        }
        output.push(&chunk[..length]).await.map_err(OutputError::Stdout)?;
        report_last_line(&chunk[..length], report);
    }
}

/// Reads standard error to its end, and keeps the last [`MAX_STDERR_BYTES`].
async fn read_tail(
    mut pipe: impl AsyncRead + Unpin,
    errors: &mut Vec<u8>,
    report: &(impl Fn(&str) + Send + Sync),
) -> Result<(), OutputError> {
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let length = pipe.read(&mut chunk).await.map_err(OutputError::Read)?;
        if length == 0 {
            errors.drain(..errors.len().saturating_sub(MAX_STDERR_BYTES));
            return Ok(());
        }
        errors.extend_from_slice(&chunk[..length]);
        if errors.len() > 2 * MAX_STDERR_BYTES {
            errors.drain(..errors.len() - MAX_STDERR_BYTES);
        }
        report_last_line(&chunk[..length], report);
    }
}

/// Reports the last line of a piece of output that is not blank.
fn report_last_line(piece: &[u8], report: &impl Fn(&str)) {
    let text = String::from_utf8_lossy(piece);
    if let Some(line) = text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        report(line);
    }
}

/// Returns the output of a command that has exited, or its failure.
async fn command_result(
    status: Option<ExitStatus>,
    output: CommandOutput,
    call: &ToolCall,
) -> Result<ToolOutput, Failure> {
    let Some(status) = status else {
        return Err(Failure::new(FailureKind::ConnectionLost, "the exit status of the command is unknown"));
    };
    let CommandOutput { stdout, stderr } = output;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    // Shells report the end by a signal in the same way.
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let expected = expected_codes(call).unwrap_or_else(|| vec![0]);
    if !expected.iter().any(|expected| i32::from(*expected) == code) {
        let what = match status.signal() {
            Some(signal) => format!("the command was ended by signal {signal}"),
            None => format!("the command exited with code {code}"),
        };
        let lines = match last_lines(&stderr) {
            Some(lines) => format!("; standard error: {lines}"),
            None => last_lines(&String::from_utf8_lossy(&stdout.end_of_output()))
                .map(|lines| format!("; standard error is empty; standard output: {lines}"))
                .unwrap_or_default(),
        };
        let expected = expected.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let help = format!("`expect` lists the exit codes with which the task succeeds: {expected}");
        return Err(Failure::new(FailureKind::ToolError, format!("{what}{lines}")).with_help(help));
    }
    let received = stdout.finish(&call.attempt.task, describe_stdout).await;
    let stdout = match received.map_err(|error| unwritable(STDOUT, &error))? {
        Received::Value(stdout) => String::from_utf8(stdout).map_err(|binary| STANDARD.encode(binary.as_bytes())),
        Received::File(file) if file.is_text => {
            let structured = json!({"exit_code": code, "stdout": file.reference(), "stderr": stderr});
            return Ok(ToolOutput::new([ContentBlock::text_in_file(file, None)], Some(structured)));
        }
        Received::File(file) => Err(file.reference()),
    };
    Ok(match stdout {
        Ok(stdout) => {
            let text = stdout.strip_suffix('\n').unwrap_or(&stdout);
            let text = text.strip_suffix('\r').unwrap_or(text).to_owned();
            let structured = json!({"exit_code": code, "stdout": stdout, "stderr": stderr});
            ToolOutput::new([ContentBlock::Text(text)], Some(structured))
        }
        Err(blob) => {
            let resource = json!({"uri": "shell:stdout", "mimeType": DATA_TYPE, "blob": blob});
            let structured = json!({"exit_code": code, "stdout": null, "stderr": stderr});
            ToolOutput::new([json!({"type": "resource", "resource": resource})], Some(structured))
        }
    })
}

/// Describes the file of a large standard output.
fn describe_stdout(contents: FileContents) -> (String, ReferenceKind) {
    match contents {
        FileContents::Text | FileContents::TextWithNull => ("text/plain".to_owned(), ReferenceKind::Text),
        FileContents::Data => (DATA_TYPE.to_owned(), ReferenceKind::Data),
    }
}

/// Returns the last lines of an output on one line, if it is not blank.
fn last_lines(text: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut last = lines.split_off(lines.len().saturating_sub(FAILURE_LINES)).join(" | ");
    truncate_bytes(&mut last, MAX_FAILURE_BYTES);
    (!last.is_empty()).then_some(last)
}
