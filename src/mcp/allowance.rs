//! Keeps account of what one agent has asked of the language model in a run, over all its connections.
//! Never asks anybody.

use std::sync::Mutex;

use rmcp::model::{ErrorCode, ErrorData};

use super::lock;
use crate::model::{ChatError, ChatReply, ChatRequest, Consent, SamplingPolicy};

/// JSON-RPC's code for a sampling request that the user rejects, by the page on sampling of MCP 2025-11-25.
pub(super) const REJECTED: ErrorCode = ErrorCode(-1);

/// What an agent may ask of the model, and what it has.
#[derive(Debug)]
pub(super) struct Allowance {
    policy: SamplingPolicy,
    /// Shared by all requests of the agent; held for a sum.
    spent: Mutex<Spent>,
}

/// What was used, and what requests under way may use at most.
#[derive(Debug, Default)]
struct Spent {
    tokens: u64,
    requests: u64,
}

/// What a request may use. Dropped before it is sent, it costs nothing; dropped afterwards, all of it.
#[derive(Debug)]
pub(super) struct Charge<'a> {
    allowance: &'a Allowance,
    tokens: u64,
    sent: bool,
}

impl Allowance {
    /// An allowance of which nothing is spent.
    pub(super) fn new(policy: SamplingPolicy) -> Self {
        Self { policy, spent: Mutex::default() }
    }

    /// Takes in what was spent in the run before this process.
    pub(super) fn spent_before(&self, requests: u64, tokens: u64) {
        let mut spent = lock(&self.spent);
        spent.requests = spent.requests.saturating_add(requests);
        spent.tokens = spent.tokens.saturating_add(tokens);
    }

    /// Whether a person is asked before each request.
    pub(super) fn wants_consent(&self) -> bool {
        self.policy.consent == Consent::Ask
    }

    /// Charges the most tokens that `chat` may use.
    ///
    /// # Errors
    /// The JSON-RPC error that names the cap in the way.
    pub(super) fn charge(&self, chat: &ChatRequest) -> Result<Charge<'_>, ErrorData> {
        let tokens = chat.most_tokens();
        let mut spent = lock(&self.spent);
        if let Some(cap) = self.policy.max_requests.filter(|cap| spent.requests >= *cap) {
            let message = format!("no further request in this run: `sampling.max_requests` is {cap}");
            return Err(ErrorData::new(REJECTED, message, None));
        }
        if let Some(cap) = self.policy.max_tokens.filter(|cap| spent.tokens.saturating_add(tokens) > *cap) {
            let used = spent.tokens;
            let message = format!(
                "the request may use {tokens} tokens, but `sampling.max_tokens` is {cap}, of which {used} are spent or \
                 reserved in this run"
            );
            return Err(ErrorData::new(REJECTED, message, None));
        }
        spent.tokens = spent.tokens.saturating_add(tokens);
        spent.requests += 1;
        drop(spent);
        Ok(Charge { allowance: self, tokens, sent: false })
    }
}

impl Charge<'_> {
    /// The request is about to be sent: from now on it costs what it may use, until [`Charge::settle`] knows better.
    pub(super) fn send(&mut self) {
        self.sent = true;
    }

    /// Replaces what the request might have used by what it did. Without a count, all of it stays charged.
    pub(super) fn settle(self, result: &Result<ChatReply, ChatError>) {
        let used = match result {
            Ok(reply) => reply.usage.map(|usage| usage.input_tokens.saturating_add(usage.output_tokens)),
            Err(_) => Some(0),
        };
        if let Some(used) = used {
            let mut spent = lock(&self.allowance.spent);
            spent.tokens = spent.tokens.saturating_sub(self.tokens).saturating_add(used);
        }
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if !self.sent {
            let mut spent = lock(&self.allowance.spent);
            spent.tokens = spent.tokens.saturating_sub(self.tokens);
            spent.requests = spent.requests.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChatMessage, ChatRole, Usage};

    fn allowance(max_tokens: Option<u64>, max_requests: Option<u64>) -> Allowance {
        Allowance::new(SamplingPolicy { consent: Consent::Allow, max_tokens, max_requests })
    }

    /// A request of eight bytes that wants up to `max_tokens`.
    fn chat(max_tokens: u32) -> ChatRequest {
        let messages = vec![ChatMessage::text(ChatRole::User, "eight by").into()];
        ChatRequest { messages, max_tokens, ..ChatRequest::default() }
    }

    fn reply(usage: Option<Usage>) -> Result<ChatReply, ChatError> {
        let (model, stop_reason) = ("m".to_owned(), "endTurn".to_owned());
        Ok(ChatReply { parts: Vec::new(), model, stop_reason, usage, cost_usd: None, warning: None })
    }

    fn send(mut charge: Charge<'_>) -> Charge<'_> {
        charge.send();
        charge
    }

    #[test]
    fn requests_under_way_count_with_all_that_they_may_use() {
        let allowance = allowance(Some(250), None);
        let first = send(allowance.charge(&chat(98)).unwrap());
        let second = send(allowance.charge(&chat(98)).unwrap());
        let refused = allowance.charge(&chat(98)).unwrap_err();
        assert_eq!(refused.code, REJECTED);
        assert_eq!(
            refused.message,
            "the request may use 100 tokens, but `sampling.max_tokens` is 250, of which 200 are spent or reserved in \
             this run"
        );
        first.settle(&reply(Some(Usage { input_tokens: 3, output_tokens: 5 })));
        let third = send(allowance.charge(&chat(98)).unwrap());
        assert_eq!(lock(&allowance.spent).tokens, 208);
        second.settle(&reply(None));
        third.settle(&Err(ChatError::Endpoint { message: "overloaded".to_owned(), status: None }));
        assert_eq!(lock(&allowance.spent).tokens, 108);
    }

    #[test]
    fn a_request_that_is_not_sent_costs_nothing_and_one_that_is_dropped_later_all_it_may_use() {
        let allowance = allowance(Some(1_000), Some(2));
        drop(allowance.charge(&chat(98)).unwrap());
        drop(send(allowance.charge(&chat(98)).unwrap()));
        let spent = lock(&allowance.spent);
        assert_eq!((spent.tokens, spent.requests), (100, 1));
    }

    #[test]
    fn the_number_of_requests_is_capped_too() {
        let allowance = allowance(None, Some(2));
        for _ in 0..2 {
            send(allowance.charge(&chat(u32::MAX)).unwrap()).settle(&reply(None));
        }
        let refused = allowance.charge(&chat(1)).unwrap_err();
        assert_eq!(refused.message, "no further request in this run: `sampling.max_requests` is 2");
    }
}
