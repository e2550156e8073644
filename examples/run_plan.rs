//! Runs a plan from code and prints its result.
//!
//! ```sh
//! cargo build && cargo run --example run_plan
//! ```

mod support;

use std::error::Error;

use kapell::{Host, config, view};

const PLAN: &str = r#"
name: reading
inputs:
  topic: { type: string, default: Porto }
tasks:
  - id: books
    agent: research
    tool: research
    with: { topic: "${{ inputs.topic }}", depth: 2 }
  - id: document
    agent: archive
    tool: store_document
    with: { title: "Reading about ${{ inputs.topic }}", text: "${{ tasks.books.output.summary }}" }
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let agents = support::demo_agents()?;
    // A plan that is not valid is an error with all of its diagnostics.
    let plan = config::load_plan("reading.yaml", PLAN, &agents, None)?.plan;
    let inputs = config::resolve_inputs(&plan, &["topic=Lisbon".to_owned()], None)?;

    // Without a journal, the events of the run are kept in memory.
    let host = Host::builder().agents(agents).build()?;
    println!("run {}", host.run_id());
    let result = host.run_plan(plan, inputs).await?;

    println!("{}: {}", result.status, view::result_text(&result));
    Ok(())
}
