//! The models of the agents file, and the selection of a model for each request.
//! A failed request is never sent to another model.

use std::sync::Arc;

use super::client::{Llm, OnDelta};
use super::openai::OpenAi;
use super::transport::EndpointError;
use crate::model::{ChatError, ChatReply, ChatRequest, LlmSpec, ModelPreferences};

/// A set of models that acts as one [`Llm`].
#[derive(Debug)]
pub struct Models {
    /// The models, the default first; never empty.
    models: Vec<OpenAi>,
}

impl Models {
    /// Sets up all models, the default first, or returns `None` if `specs` is empty. Sends nothing.
    ///
    /// # Errors
    /// When the configuration of a model can never work.
    pub fn new(specs: impl IntoIterator<Item = LlmSpec>) -> Result<Option<Self>, EndpointError> {
        let mut models: Vec<OpenAi> = Vec::new();
        for spec in specs {
            let mut model = OpenAi::new(spec)?;
            if let Some(other) = models.iter().find(|other| other.base_url() == model.base_url()) {
                model.rate_limiter = Arc::clone(&other.rate_limiter);
            }
            models.push(model);
        }
        Ok((!models.is_empty()).then_some(Self { models }))
    }

    /// Returns all models, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &OpenAi> {
        self.models.iter()
    }

    /// Selects the model for a request.
    ///
    /// A model that the request names is used. Otherwise, only models that support the request are candidates: the
    /// first match of a hint (in the order of the hints), then the best match for the priorities, then the first
    /// candidate. If no model supports the request, selects the default.
    fn select(&self, request: &ChatRequest) -> Result<&OpenAi, ChatError> {
        if let Some(name) = &request.model {
            let named = self.models.iter().find(|model| model.spec().name == *name);
            return named.ok_or_else(|| {
                let names: Vec<_> = self.models.iter().map(|model| format!("`{}`", model.spec().name)).collect();
                let message = format!("unknown model `{name}`: the agents file has {}", names.join(", "));
                ChatError::Unsupported { message }
            });
        }
        let able: Vec<&OpenAi> = self.models.iter().filter(|model| model.check_support(request).is_ok()).collect();
        let Some(first) = able.first().copied() else {
            // The default reports what it does not support.
            return Ok(&self.models[0]);
        };
        let hinted = request.preferences.hints.iter().map(|hint| hint.to_lowercase()).find_map(|hint| {
            let fits = |text: &str| !hint.trim().is_empty() && text.to_lowercase().contains(hint.trim());
            able.iter().copied().find(|model| fits(&model.spec().name) || fits(&model.spec().model))
        });
        Ok(hinted.or_else(|| best_by_priority(&request.preferences, &able)).unwrap_or(first))
    }
}

/// Returns the model with the highest weighted score (the first of equals), or `None` if all weights are zero.
fn best_by_priority<'m>(preferences: &ModelPreferences, models: &[&'m OpenAi]) -> Option<&'m OpenAi> {
    let weight =
        |priority: Option<f32>| priority.filter(|priority| priority.is_finite()).unwrap_or(0.0).clamp(0.0, 1.0);
    let [cost, speed, intelligence] = [preferences.cost, preferences.speed, preferences.intelligence].map(weight);
    if cost + speed + intelligence == 0.0 {
        return None;
    }
    let score = |model: &OpenAi| {
        let scores = model.spec().scores;
        cost * scores.cost + speed * scores.speed + intelligence * scores.intelligence
    };
    models.iter().copied().reduce(|best, model| if score(model) > score(best) { model } else { best })
}

#[async_trait::async_trait]
impl Llm for Models {
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        self.select(request)?.chat_stream(request, on_delta).await
    }
}

#[cfg(test)]
mod tests;
