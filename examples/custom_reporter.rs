//! Watches a run with a reporter of its own, and cancels it from another task.
//!
//! ```sh
//! cargo build && cargo run --example custom_reporter
//! ```

mod support;

use std::error::Error;

use kapell::model::{Event, Record};
use kapell::ui::reporters::Reporter;
use kapell::view::RunView;
use kapell::{Host, RunHandle, config};

const PLAN: &str = r#"
name: reading
tasks:
  - id: books
    foreach: [Lisbon, Porto, Faro, Coimbra, Evora]
    agent: research
    tool: research
    with: { topic: "${{ item }}", depth: 1, delay_ms: 200 }
    max_parallel: 1
"#;

/// Counts attempts, and cancels the run when two calls have succeeded.
struct StopAfterTwo {
    handle: RunHandle,
    started: usize,
    succeeded: usize,
}

impl Reporter for StopAfterTwo {
    fn report(&mut self, _: &RunView, record: &Record) {
        match &record.event {
            Event::AttemptStarted { .. } => self.started += 1,
            Event::AttemptSucceeded { .. } => self.succeeded += 1,
            _ => return,
        }
        println!("event {}: {} started, {} succeeded", record.seq, self.started, self.succeeded);
        if self.succeeded == 2 {
            let handle = self.handle.clone();
            tokio::spawn(async move { handle.cancel("the example").await });
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let agents = support::demo_agents()?;
    let plan = config::load_plan("reading.yaml", PLAN, &agents, None)?.plan;
    let inputs = config::resolve_inputs(&plan, &[], None)?;

    let handle = RunHandle::new();
    let mut reporter = StopAfterTwo { handle: handle.clone(), started: 0, succeeded: 0 };
    let host = Host::builder().agents(agents).handle(&handle).reporter(&mut reporter).build()?;
    let result = host.run_plan(plan, inputs).await?;

    println!("{} after {} calls", result.status, reporter.succeeded);
    Ok(())
}
