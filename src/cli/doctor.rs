//! `kapell doctor`: asks every language model of the agents file for something small, and says what works.
//! Never changes a file.

use std::time::Instant;

use clap::Args;
use futures::future::join_all;
use serde_json::json;

use super::{
    AgentsArg, CliError, Exit, Format,
    exit::{print, print_json},
    files,
};
use crate::{
    llm::{Check, OpenAi, Outcome, check_up},
    report::text::printable,
};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    agents: AgentsArg,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// What was found of one model.
struct Examined<'m> {
    model: &'m OpenAi,
    checks: Vec<Check>,
    milliseconds: u128,
}

impl Examined<'_> {
    fn is_well(&self) -> bool {
        !self.checks.iter().any(|check| matches!(check.outcome, Outcome::Fails(_)))
    }
}

pub(super) async fn doctor(args: DoctorArgs) -> Result<Exit, CliError> {
    let agents = files::agents(&args.agents)?;
    let Some(models) = files::models(&agents)? else {
        return Err(CliError::usage(
            "no language model is configured",
            "add a section [llm] to the agents file, with `provider` (or `base_url`), `model` and, where the endpoint \
             wants a key, `api_key_env_var`; `kapell schema agents` describes it",
        ));
    };
    let examined = join_all(models.iter().map(|model| async move {
        let start = Instant::now();
        let checks = check_up(model).await;
        Examined { model, checks, milliseconds: start.elapsed().as_millis() }
    }))
    .await;
    match args.output {
        Format::Json => print_json(&examined.iter().map(object).collect::<Vec<_>>())?,
        Format::Text => print(&examined.iter().map(lines).collect::<String>())?,
    }
    Ok(if examined.iter().all(Examined::is_well) { Exit::Done } else { Exit::Failed })
}

fn object(examined: &Examined<'_>) -> serde_json::Value {
    let spec = examined.model.spec();
    json!({
        "name": spec.name,
        "model": spec.model,
        "base_url": examined.model.base_url(),
        "ok": examined.is_well(),
        "milliseconds": examined.milliseconds,
        "checks": examined.checks,
    })
}

fn lines(examined: &Examined<'_>) -> String {
    let spec = examined.model.spec();
    let mut text = format!(
        "{}  {} at {}  {} ms\n",
        printable(&spec.name),
        printable(&spec.model),
        printable(examined.model.base_url()),
        examined.milliseconds
    );
    for Check { check, outcome } in &examined.checks {
        let (word, message) = match outcome {
            Outcome::Works(message) => ("works", message),
            Outcome::Absent(message) => ("-", message),
            Outcome::Fails(message) => ("FAILS", message),
        };
        text += &format!("    {check:<18}{word:<7}{}\n", printable(message));
    }
    text
}
