//! Limits the length of a model's plan, and raises the limit after a truncated reply.

use crate::config::AgentsFile;
use crate::model::LlmSpec;

/// The default maximum tokens of a reply: enough for a large plan and some reasoning before it.
const DEFAULT_MAX_TOKENS: u32 = 8_192;
/// The limit up to which the default grows after truncated replies.
const MAX_GROWN_TOKENS: u32 = 4 * DEFAULT_MAX_TOKENS;

/// The maximum number of tokens of the next reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenLimit {
    current_tokens: u32,
    /// The limit of the first reply.
    initial_tokens: u32,
    /// The limit up to which it may grow.
    max_tokens: u32,
    source: LimitSource,
}

/// The key that the limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LimitSource {
    Default,
    Planner,
    Model,
}

impl TokenLimit {
    /// Returns the limit of the first reply.
    ///
    /// A limit that the agents file sets is kept. The default grows, because the length of a model's reasoning is
    /// unknown.
    pub(super) fn from_agents(agents: &AgentsFile) -> Self {
        let (initial, max, source) = match agents.planner.max_output_tokens {
            Some(limit) => (limit, limit, LimitSource::Planner),
            None => (DEFAULT_MAX_TOKENS, MAX_GROWN_TOKENS, LimitSource::Default),
        };
        let endpoint = agents.planner_model().and_then(|spec| spec.dialect.max_output_tokens).unwrap_or(u32::MAX);
        let initial_tokens = initial.min(endpoint);
        let source = if endpoint <= initial { LimitSource::Model } else { source };
        Self { current_tokens: initial_tokens, initial_tokens, max_tokens: max.min(endpoint), source }
    }

    pub(super) fn current(self) -> u32 {
        self.current_tokens
    }

    /// Doubles the limit, up to the maximum. Returns whether it changed.
    pub(super) fn grow(&mut self) -> bool {
        let next_tokens = self.current_tokens.saturating_mul(2).min(self.max_tokens);
        std::mem::replace(&mut self.current_tokens, next_tokens) < next_tokens
    }

    /// Resets the limit to the first one, for an endpoint that rejects a higher one. Returns whether it changed.
    pub(super) fn shrink(&mut self) -> bool {
        self.max_tokens = self.initial_tokens;
        std::mem::replace(&mut self.current_tokens, self.initial_tokens) > self.initial_tokens
    }

    /// Returns a suggestion for a truncated reply.
    pub(super) fn help(self, agents: &AgentsFile) -> String {
        let key = match self.source {
            LimitSource::Model => {
                let name = agents.planner_model().map_or(LlmSpec::DEFAULT_NAME, |spec| &spec.name);
                format!("raise `max_output_tokens` of the model `{name}`")
            }
            LimitSource::Planner => "raise `max_output_tokens` in `[planner]` of the agents file".to_owned(),
            LimitSource::Default => {
                format!(
                    "set `max_output_tokens` in `[planner]` of the agents file to more than {}",
                    self.current_tokens
                )
            }
        };
        format!("{key}, choose a model that reasons less, or split the goal")
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn limit(max_tokens: Option<u32>, max_output_tokens: Option<u32>) -> (TokenLimit, AgentsFile) {
        let mut agents = samples::agents(&[]);
        agents.planner.max_output_tokens = max_tokens;
        agents.models[0].dialect.max_output_tokens = max_output_tokens;
        (TokenLimit::from_agents(&agents), agents)
    }

    #[test]
    fn only_the_default_limit_grows() {
        let growth = |max_tokens, max_output_tokens| {
            let (mut limit, _) = limit(max_tokens, max_output_tokens);
            let first = limit.current();
            let limits: Vec<_> = (0..3).map(|_| (limit.grow(), limit.current())).collect();
            (first, limits)
        };
        assert_eq!(growth(None, None), (8_192, vec![(true, 16_384), (true, 32_768), (false, 32_768)]));
        assert_eq!(growth(None, Some(10_000)), (8_192, vec![(true, 10_000), (false, 10_000), (false, 10_000)]));
        assert_eq!(growth(None, Some(500)), (500, vec![(false, 500); 3]));
        assert_eq!(growth(Some(60_000), None), (60_000, vec![(false, 60_000); 3]));
        assert_eq!(growth(Some(100), Some(500)), (100, vec![(false, 100); 3]));
    }

    #[test]
    fn rejected_limit_shrinks_permanently() {
        let (mut limit, _) = limit(None, None);
        assert!(!limit.shrink());
        let (mut limit, _) = self::limit(None, None);
        assert!(limit.grow() && limit.shrink());
        assert_eq!((limit.current(), limit.grow()), (8_192, false));
    }

    #[test]
    fn help_names_the_limiting_key() {
        let help = |max_tokens, max_output_tokens| {
            let (limit, agents) = limit(max_tokens, max_output_tokens);
            limit.help(&agents)
        };
        insta::assert_snapshot!([help(None, None), help(Some(9), None), help(Some(9), Some(9))].join("\n"));
    }
}
