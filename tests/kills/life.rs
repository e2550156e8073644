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
    match fate {
        Fate::After(pause) => while_it_prints(&lines, || start.elapsed() >= pause),
        Fate::Effects(more, pause) => {
            while_it_prints(&lines, || number_of_lines(&effects) >= done_before + more);
            std::thread::sleep(pause);
        }
        Fate::Events(number, pause) => {
            lines.iter().take(usize::try_from(number).expect("few")).for_each(drop);
            std::thread::sleep(pause);
        }
        Fate::AtTheEnd(pause) => {
            lines.iter().find(|line| line.contains("\"type\":\"run_ended\""));
            std::thread::sleep(pause);
        }
        Fate::Spared => lines.iter().for_each(drop),
    }
    // One that ended by itself meanwhile has an exit code all the same.
    if !matches!(fate, Fate::Spared) {
        child.kill().expect("killed, or ended before");
    }
    let status = child.wait().expect("ended");
    status.code().map_or(End::Killed, End::Exited)
}

/// Waits until `done` or the end of the output.
fn while_it_prints(lines: &Receiver<String>, mut done: impl FnMut() -> bool) {
    let moment = Duration::from_micros(200);
    while !done() && lines.recv_timeout(moment) != Err(RecvTimeoutError::Disconnected) {}
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
