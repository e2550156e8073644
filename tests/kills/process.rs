//! One process of the host: started, watched, and killed at its kill point.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::rng::Rng;
use crate::support::workspace::Workspace;

/// The longest silence of a working host, even on a busy machine.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The moment at which a process is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KillPoint {
    /// This long after its start.
    After(Duration),
    /// This long after it printed this many events.
    AfterEvents(u64, Duration),
    /// This long after the agents had this many effects, some of them perhaps unknown to the host.
    AfterEffects(u64, Duration),
    /// This long after it printed that the run has ended.
    RunEnded(Duration),
    /// Never.
    Never,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    Killed,
    /// It exited by itself, with this code.
    Exited(i32),
    /// It made no progress, and was killed for that.
    Stuck,
}

impl KillPoint {
    /// Draws a kill point of any kind: during startup, at any time, after an event, after an effect, or at the very
    /// end.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let kind = rng.below(20);
        // Short enough to fall between an event and its consequences.
        let pause = Duration::from_micros(rng.below(4_000));
        match kind {
            0..3 => Self::After(Duration::from_millis(rng.below(60))),
            3..5 => Self::After(Duration::from_millis(rng.below(1_500))),
            5..13 => Self::AfterEvents(1 + rng.below(40), pause),
            13..18 => Self::AfterEffects(1 + rng.below(6), pause),
            _ => Self::RunEnded(pause),
        }
    }
}

/// Starts `command`, which prints its events as lines, in `place`, and runs it until `kill_point`.
pub(crate) fn run_until(mut command: Command, kill_point: KillPoint, place: &Workspace) -> ProcessEnd {
    let talk = File::options().create(true).append(true).open(place.path("talk")).expect("a file for what is said");
    let start = Instant::now();
    let effects = place.path("effects.jsonl");
    let done_before = count_lines(&effects);
    let mut child = command.stdout(Stdio::piped()).stderr(talk).spawn().expect("kapell starts");
    let lines = read_lines(&mut child);
    let mut printed = 0;
    let outcome = watch(&lines, |line| {
        printed += u64::from(line.is_some());
        match kill_point {
            KillPoint::After(pause) => start.elapsed() >= pause,
            KillPoint::AfterEvents(number, _) => printed >= number,
            KillPoint::AfterEffects(more, _) => count_lines(&effects) >= done_before + more,
            KillPoint::RunEnded(_) => line.is_some_and(|line| line.contains("\"type\":\"run_ended\"")),
            KillPoint::Never => false,
        }
    });
    if let KillPoint::AfterEvents(_, pause) | KillPoint::AfterEffects(_, pause) | KillPoint::RunEnded(pause) =
        kill_point
    {
        std::thread::sleep(pause);
    }
    // A process that ended by itself still has an exit code.
    if !matches!(kill_point, KillPoint::Never) || outcome == WatchResult::SilenceTimeout {
        child.kill().expect("killed, or ended before");
    }
    let status = child.wait().expect("ended");
    match outcome {
        WatchResult::SilenceTimeout => ProcessEnd::Stuck,
        WatchResult::TimeReached | WatchResult::OutputClosed => {
            status.code().map_or(ProcessEnd::Killed, ProcessEnd::Exited)
        }
    }
}

/// The reason why watching a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatchResult {
    /// The moment came.
    TimeReached,
    /// The process closed its output.
    OutputClosed,
    /// Nothing was printed for longer than any step of the plan takes.
    SilenceTimeout,
}

/// Watches a process until `is_time` holds, which is checked after every line and after every interval without one.
fn watch(lines: &Receiver<String>, mut is_time: impl FnMut(Option<&str>) -> bool) -> WatchResult {
    let mut last_output = Instant::now();
    loop {
        let line = match lines.recv_timeout(Duration::from_micros(200)) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return WatchResult::OutputClosed,
        };
        if is_time(line.as_deref()) {
            return WatchResult::TimeReached;
        }
        if line.is_some() {
            last_output = Instant::now();
        } else if last_output.elapsed() > SILENCE_TIMEOUT {
            return WatchResult::SilenceTimeout;
        }
    }
}

/// Returns the lines that the process prints, until its output closes.
fn read_lines(child: &mut Child) -> Receiver<String> {
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, lines) = channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

fn count_lines(file: &Path) -> u64 {
    let text = std::fs::read(file).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}
