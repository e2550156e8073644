//! Sends each language model small requests.

use futures::future::join_all;

use crate::config::NO_MODEL_HELP;
use crate::llm::{Check, Models, ProbeOutcome, probe_model};
use crate::model::LlmSpec;
use crate::view::{HealthCheck, HealthSection, HealthStatus};

/// Checks the models whose variables are set.
pub(super) async fn check_models(specs: &[LlmSpec]) -> Vec<HealthCheck> {
    let check = |name: &str, status, message: String| HealthCheck::new(HealthSection::Models, name, status, message);
    let usable = specs.iter().filter(|spec| spec.unset_variables.is_empty()).cloned();
    let models = match Models::new(usable) {
        Ok(Some(models)) => models,
        Ok(None) if specs.is_empty() => {
            let message = "none is configured, so goals cannot be planned and sampling requests of agents are refused; plans run without one";
            let fix = format!("to use one, {NO_MODEL_HELP}");
            return vec![check("llm", HealthStatus::Absent, message.to_owned()).with_fix(fix)];
        }
        Ok(None) => return Vec::new(),
        Err(error) => {
            let fix = "correct the section of the model in the agents file";
            return vec![check("llm", HealthStatus::Failed, error.to_string()).with_fix(fix)];
        }
    };
    let probes = models.iter().map(async |model| {
        let (spec, mut checks) = (model.spec(), Vec::new());
        let place = format!("{} at {}", spec.model, model.base_url());
        checks.push(check(&spec.name, HealthStatus::Ok, place));
        for Check { check: feature, outcome } in probe_model(model).await {
            let (status, message) = match outcome {
                ProbeOutcome::Works(message) => (HealthStatus::Ok, message),
                ProbeOutcome::Absent(message) => (HealthStatus::Absent, message),
                ProbeOutcome::Fails(message) => (HealthStatus::Failed, message),
            };
            // The message of a failure contains the key to set.
            checks.push(check(&format!("{}: {feature}", spec.name), status, message));
        }
        checks
    });
    join_all(probes).await.into_iter().flatten().collect()
}
