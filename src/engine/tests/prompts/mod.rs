//! Tests of prompts, syntheses, and budgets.

mod budgets;
mod exchanges;
mod retries;
mod server_prompts;
mod synthesis;
