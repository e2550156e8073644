//! Reads the journal of the `kapell` program: lists the latest runs, and counts the events of the last one.
//!
//! ```sh
//! cargo run --example read_journal [JOURNAL]
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use kapell::journal::{self, JournalLocation};

fn main() -> Result<(), Box<dyn Error>> {
    let location = match std::env::args_os().nth(1) {
        Some(path) => JournalLocation::from(PathBuf::from(path)),
        None => journal::default_location()?,
    };
    // Reading works while another process writes.
    let reader = journal::store(&location).open_reader()?;
    for run in reader.runs(10)? {
        println!("{} {} {}", run.run, run.status, run.name);
    }
    let Some(last) = reader.runs(1)?.pop() else { return Ok(()) };
    let mut counts = BTreeMap::<String, usize>::new();
    for record in reader.records(&last.run, 0) {
        let event = serde_json::to_value(&record?.event)?;
        *counts.entry(event["type"].as_str().unwrap_or("unknown").to_owned()).or_default() += 1;
    }
    println!("events of run {}:", last.run);
    for (event, count) in counts {
        println!("{count:6} {event}");
    }
    Ok(())
}
