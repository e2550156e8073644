//! Slow readers of the JSON lines: nothing is lost, the run does not wait for them, and little is buffered.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::cli::many_calls::{self, CALLS};
use crate::support::workspace::{Workspace, wait_for_status};

/// The size of each result, in bytes.
const RESULT_BYTES: usize = 16 << 10;

fn workspace() -> Workspace {
    many_calls::place(&["good"], RESULT_BYTES)
}

fn start(place: &Workspace, output: &str) -> Child {
    many_calls::command(place, &["--output", output]).stderr(Stdio::null()).spawn().expect("kapell starts")
}

/// Waits until the journal contains the end of the latest run. Returns the peak memory of its process so far, in KiB.
fn peak_memory_kib(place: &Workspace, host: &Child) -> u64 {
    wait_for_status(place, &["succeeded"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).expect("it still runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of it");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
#[cfg(target_os = "linux")]
fn slow_reader_gets_all_events_without_blocking_the_run() {
    // A run whose result is not read for now.
    let place = workspace();
    let mut host = start(&place, "json");
    let usual = peak_memory_kib(&place, &host);
    host.stdout.take().expect("piped").read_to_end(&mut Vec::new()).expect("readable");
    assert!(host.wait().expect("ends").success());

    let place = self::workspace();
    let mut host = start(&place, "stream-json");
    let mut lines = BufReader::new(host.stdout.take().expect("piped")).lines().map(|line| line.expect("a line"));
    let mut read = Vec::new();
    for line in lines.by_ref().take(25) {
        read.push(line);
        // Fifty lines a second, and then none until the run has ended.
        sleep(Duration::from_millis(20));
    }
    let peak = peak_memory_kib(&place, &host);
    let unread = CALLS * RESULT_BYTES / 1024;
    assert!(peak < usual + unread as u64 / 2, "{peak} KiB instead of {usual} KiB");

    read.extend(lines);
    assert!(host.wait().expect("ends").success());
    let result: Value = serde_json::from_str(&read.pop().expect("a last line")).expect("JSON");
    assert_eq!((&result["type"], &result["status"]), (&"result".into(), &"succeeded".into()));
    let journal = place.kapell(&["logs", "last", "--journal", "j.db", "--output", "json"]);
    assert!(journal.stdout.lines().eq(&read), "the lines are not those of the journal");
    let numbers: Vec<_> =
        read.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_u64()).collect();
    assert_eq!(numbers, (0..read.len() as u64).map(Some).collect::<Vec<_>>());
}
