//! One process of the host: started, watched, and killed at the moment that was drawn for it.
//! Never looks at what the run is about.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use crate::{dice::Dice, support::Place};

/// No host that works is silent for so long, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// This long after its start.
    After(Duration),
    /// This long after it printed so many events.
    Events(u64, Duration),
    /// This long after the agents did so many things, of which the host may not know yet.
    Effects(u64, Duration),
    /// This long after it printed that the run has ended.
    AtTheEnd(Duration),
    /// Never.
    Spared,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    /// By itself, with this code.
    Exited(i32),
    /// It did nothing any more, and was killed for that.
    Stuck,
}

impl Fate {
    /// Draws a moment of any kind: while the host is starting, at any time, right after an event, right after an effect,
    /// at the very end.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let kind = dice.below(20);
        // Fine enough to fall between a fact and what follows from it.
        let pause = Duration::from_micros(dice.below(4_000));
        match kind {
            0..3 => Self::After(Duration::from_millis(dice.below(60))),
            3..5 => Self::After(Duration::from_millis(dice.below(1_500))),
            5..13 => Self::Events(1 + dice.below(40), pause),
            13..18 => Self::Effects(1 + dice.below(6), pause),
            _ => Self::AtTheEnd(pause),
        }
    }
}

/// Starts `command`, which prints its events as lines, in `place`, and lets it live as long as `fate` says.
pub(crate) fn live(mut command: Command, fate: Fate, place: &Place) -> End {
    let talk = File::options().create(true).append(true).open(place.path("talk")).expect("a file for what is said");
    let start = Instant::now();
    let effects = place.path("effects.jsonl");
    let done_before = number_of_lines(&effects);
    let mut child = command.stdout(Stdio::piped()).stderr(talk).spawn().expect("kapell starts");
    let lines = lines(&mut child);
    let mut printed = 0;
    let outcome = watch(&lines, |line| {
        printed += u64::from(line.is_some());
        match fate {
            Fate::After(pause) => start.elapsed() >= pause,
            Fate::Events(number, _) => printed >= number,
            Fate::Effects(more, _) => number_of_lines(&effects) >= done_before + more,
            Fate::AtTheEnd(_) => line.is_some_and(|line| line.contains("\"type\":\"run_ended\"")),
            Fate::Spared => false,
        }
    });
    if let Fate::Events(_, pause) | Fate::Effects(_, pause) | Fate::AtTheEnd(pause) = fate {
        std::thread::sleep(pause);
    }
    // One that ended by itself has an exit code all the same.
    if !matches!(fate, Fate::Spared) || outcome == Watched::Silence {
        child.kill().expect("killed, or ended before");
    }
    let status = child.wait().expect("ended");
    match outcome {
        Watched::Silence => End::Stuck,
        Watched::Moment | Watched::Exit => status.code().map_or(End::Killed, End::Exited),
    }
}

/// What the watch over a process ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// The moment came.
    Moment,
    /// The process closed its output.
    Exit,
    /// Nothing was printed for longer than anything in the plan takes.
    Silence,
}

/// Watches a process until `is_time`, which is asked after every line and every moment without one.
fn watch(lines: &Receiver<String>, mut is_time: impl FnMut(Option<&str>) -> bool) -> Watched {
    let mut heard = Instant::now();
    loop {
        let line = match lines.recv_timeout(Duration::from_micros(200)) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Watched::Exit,
        };
        if is_time(line.as_deref()) {
            return Watched::Moment;
        }
        if line.is_some() {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            return Watched::Silence;
        }
    }
}

/// The lines that it prints, for as long as it does.
fn lines(child: &mut Child) -> Receiver<String> {
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, lines) = channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

fn number_of_lines(file: &Path) -> u64 {
    let text = std::fs::read(file).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}
