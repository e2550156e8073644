//! Sums the sampling requests of agents, so that a later process can continue counting.

use std::collections::HashMap;

use crate::model::{AgentId, Event, Record, RequestId, SamplingOrigin};

/// The sampling usage of an agent in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SamplingUsage {
    /// The number of requests.
    pub requests: u64,
    /// The tokens of requests and replies. A request without a reply or a reported usage counts with its maximum.
    pub tokens: u64,
}

/// Returns the sampling usage of each agent, computed from the events of a run.
pub fn sampling_usage<'r>(records: impl IntoIterator<Item = &'r Record>) -> HashMap<AgentId, SamplingUsage> {
    let mut sums: HashMap<AgentId, SamplingUsage> = HashMap::new();
    let mut open: HashMap<&RequestId, (&AgentId, u64)> = HashMap::new();
    for record in records {
        match &record.event {
            Event::SamplingStarted { request, origin: SamplingOrigin::Agent(origin), chat } => {
                let estimate = chat.estimate_tokens();
                let sum = sums.entry(origin.agent.clone()).or_default();
                sum.requests += 1;
                sum.tokens += estimate;
                open.insert(request, (&origin.agent, estimate));
            }
            Event::SamplingFinished { request, result } => {
                let used = match result {
                    Ok(reply) => reply.usage.map(|usage| usage.input_tokens + usage.output_tokens),
                    Err(_) => Some(0),
                };
                if let (Some((agent, estimate)), Some(used)) = (open.remove(request), used)
                    && let Some(sum) = sums.get_mut(agent)
                {
                    sum.tokens = sum.tokens - estimate + used;
                }
            }
            _ => {}
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn counts_used_or_reserved_tokens() {
        let events = samples::sample_run();
        let asked = events.iter().position(|record| matches!(record.event, Event::SamplingStarted { .. }));
        let asked = asked.expect("the journey has one") + 1;
        let research = AgentId::from("research");
        let of = |events: &[Record]| sampling_usage(events).get(&research).copied();
        assert_eq!(of(&events), Some(SamplingUsage { requests: 1, tokens: 23 }));
        let unanswered = of(&events[..asked]).expect("it asked");
        assert_eq!((unanswered.requests, unanswered.tokens >= 100), (1, true), "{unanswered:?}");
        assert_eq!(of(&events[..asked - 1]), None);
    }
}
