//! The host is suspended for longer than the idle timeout of a call, while its agents continue.

use std::process::Stdio;
use std::time::Duration;

use crate::case::CrashCase;
use crate::support::workspace::{CommandOutput, send_signal, wait_for};

/// One call for each way to reach an agent. Each is silent while it runs.
const PLAN: &str = "\
name: standstill
defaults: { timeout: 5s, effect: at_most_once, retry: { max_attempts: 1 } }
tasks:
- { id: child, agent: archive-stdio, tool: store_document, with: { title: a, text: x, delay_ms: 2000 } }
- { id: legacy, agent: archive-legacy, tool: store_document, with: { title: b, text: x, delay_ms: 2000 } }
- { id: modern, agent: archive-modern, tool: store_document, with: { title: c, text: x, delay_ms: 2000 } }
";

#[test]
fn responses_to_a_suspended_host_are_not_lost() {
    let case = CrashCase::with_plan("standstill", PLAN);
    let mut command = case.place().command(case.next_command());
    let host = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kapell starts");
    wait_for("every call to be under way", || (case.started() == 3).then_some(()));
    // A moment to send the requests; one that is not sent until later does not change the outcome.
    std::thread::sleep(Duration::from_millis(300));
    send_signal(&host, "STOP");
    // By the end, every call has exceeded its idle timeout.
    std::thread::sleep(Duration::from_secs(6));
    send_signal(&host, "CONT");
    let ended = CommandOutput::from_output(host.wait_with_output().expect("ended"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    case.audit(&case.outputs());
}
