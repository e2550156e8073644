//! An interactive session at a terminal with a third-party server: it is killed in the middle of a call, and the next
//! session continues the call.

use libtest_mimic::Failed;

use crate::host_kills::start_in_thread;
use crate::reattach::ServerKind;
use crate::support::terminal::{run_after, run_at_terminal, step};
use crate::support::workspace::Workspace;

const PROMPT: &str = "kapell> ";

/// Tests a session that is killed during a call, and the one after it.
pub(crate) fn killed_session(kind: ServerKind) -> Result<(), Failed> {
    let server = start_in_thread(kind)?;
    let place = Workspace::new();
    place.write("agents.toml", format!("[agents.other]\nurl = {:?}\nprotocol = {:?}\n", server.url(), kind.protocol()));
    let first = run_at_terminal(
        &place,
        &["repl"],
        &[
            step(PROMPT, "list\r"),
            step("other.research_agent(", ""),
            step(PROMPT, "travel_agent\r"),
            step("destination> ", "Lisbon\r"),
            step("for an estimated 1200 EUR?", ""),
            step("confirm> ", "yes\r"),
            step("booked a trip to Lisbon", ""),
            step(PROMPT, "research_agent topic=Lisbon\r"),
            step("a book on Lisbon", ""),
            step(PROMPT, "work seconds=8 steps=8\r"),
            run_after("25%", "kill -KILL $COMMAND"),
        ],
    );
    assert_eq!(first.code, Some(137), "{}", first.stdout);
    let second = run_at_terminal(
        &place,
        &["repl"],
        &[
            step("(work, ", ""),
            step(" %)? [Y/n] ", "y\r"),
            step("done", ""),
            step(PROMPT, "runs --limit 1\r"),
            step("succeeded", ""),
            step(PROMPT, "quit\r"),
        ],
    );
    assert_eq!(second.code, Some(0), "{}", second.stdout);
    assert!(second.stdout.contains("1 call resumed"), "{}", second.stdout);
    assert_eq!(["travel_agent", "research_agent", "work"].map(|tool| server.count_calls(tool)), [1, 1, 1]);
    Ok(())
}
