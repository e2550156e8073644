//! `kapell doctor`: sends each language model of the agents file small requests and reports what works.

use std::time::Instant;

use clap::Args;
use futures::future::join_all;
use serde_json::json;

use crate::cli::common::args::{AgentsArg, OutputFormat};
use crate::cli::common::exit::print_items;
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::llm::{Check, Models, OpenAi, ProbeOutcome, probe_model};
use crate::view::text::printable;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    output: OutputFormat,
}

/// The results of the checks of one model.
struct ModelReport<'m> {
    model: &'m OpenAi,
    checks: Vec<Check>,
    milliseconds: u128,
}

impl ModelReport<'_> {
    fn is_healthy(&self) -> bool {
        !self.checks.iter().any(|check| matches!(check.outcome, ProbeOutcome::Fails(_)))
    }
}

pub(crate) async fn doctor(args: DoctorArgs) -> Result<Exit, CliError> {
    let agents = files::load_agents(&args.agents)?;
    let Some(models) = Models::new(agents.models.iter().cloned())? else {
        message!(
            "no language model is configured, and runs of plans need none; to plan goals, add an `[llm]` section to the \
             agents file with `provider` or `base_url`, `model`, and, if the endpoint requires a key, \
             `api_key_env_var`; `kapell schema agents` describes these keys"
        );
        return Ok(Exit::Success);
    };
    let reports = join_all(models.iter().map(|model| async move {
        let start = Instant::now();
        let checks = probe_model(model).await;
        ModelReport { model, checks, milliseconds: start.elapsed().as_millis() }
    }))
    .await;
    print_items(args.output, &reports, report_json, report_text)?;
    Ok(if reports.iter().all(ModelReport::is_healthy) { Exit::Success } else { Exit::Failed })
}

fn report_json(report: &ModelReport<'_>) -> serde_json::Value {
    let spec = report.model.spec();
    json!({
        "name": spec.name,
        "model": spec.model,
        "base_url": report.model.base_url(),
        "ok": report.is_healthy(),
        "milliseconds": report.milliseconds,
        "checks": report.checks,
    })
}

fn report_text(report: &ModelReport<'_>) -> String {
    let spec = report.model.spec();
    let mut text = format!(
        "{}  {} at {}  {} ms\n",
        printable(&spec.name),
        printable(&spec.model),
        printable(report.model.base_url()),
        report.milliseconds
    );
    for Check { check, outcome } in &report.checks {
        let (word, message) = match outcome {
            ProbeOutcome::Works(message) => ("works", message),
            ProbeOutcome::Absent(message) => ("-", message),
            ProbeOutcome::Fails(message) => ("FAILS", message),
        };
        text += &format!("    {check:<18}{word:<7}{}\n", printable(message));
    }
    text
}
