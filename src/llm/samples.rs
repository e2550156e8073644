//! Samples for the tests of this module.

use std::time::Duration;

use crate::model::{Dialect, LlmSpec, RequestSettings, Scores};

/// Returns a minimal model with a key.
pub(super) fn spec(base_url: &str) -> LlmSpec {
    LlmSpec {
        name: LlmSpec::DEFAULT_NAME.to_owned(),
        base_url: base_url.to_owned(),
        model: "small".to_owned(),
        api_key: Some("sk-long-enough".to_owned()),
        headers: Vec::new(),
        query: Vec::new(),
        timeout: Duration::from_secs(20),
        deadline: None,
        dialect: Dialect::default(),
        settings: RequestSettings::default(),
        scores: Scores::default(),
        prices: None,
        unset_variables: Vec::new(),
    }
}
