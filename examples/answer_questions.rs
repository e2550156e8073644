//! Answers the questions of agents from code.
//!
//! ```sh
//! cargo build && cargo run --example answer_questions
//! ```

mod support;

use std::error::Error;
use std::sync::Arc;

use kapell::model::{Answer, Question};
use kapell::ui::human::{Human, HumanResponse};
use kapell::{Host, config, view};
use serde_json::json;

const PLAN: &str = r#"
name: trip
tasks:
  - id: trip
    agent: travel
    tool: book_trip
    with: { city: Lisbon, nights: 3 }
"#;

/// Confirms every booking. A real program would ask its user, or apply rules.
struct ConfirmBookings;

#[async_trait::async_trait]
impl Human for ConfirmBookings {
    async fn ask(&self, question: &Question) -> HumanResponse {
        println!("asked: {}", question.message);
        let content = json!({"confirm": true, "notes": "A quiet room, please."});
        HumanResponse::Answered {
            answer: Answer::Accept { content: Some(content) },
            answered_by: "the example".to_owned(),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let agents = support::demo_agents()?;
    let plan = config::load_plan("trip.yaml", PLAN, &agents, None)?.plan;
    let inputs = config::resolve_inputs(&plan, &[], None)?;

    let host = Host::builder().agents(agents).human(Arc::new(ConfirmBookings)).build()?;
    let result = host.run_plan(plan, inputs).await?;

    println!("{}: {}", result.status, view::result_text(&result));
    Ok(())
}
