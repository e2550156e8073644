//! Enforces the sampling quota of one agent in a run, over all its connections.

use parking_lot::Mutex;
use rmcp::model::{ErrorCode, ErrorData};

use crate::model::{ChatError, ChatReply, ChatRequest, Consent, SamplingPolicy};

/// The JSON-RPC error code of a sampling request that the user rejects (MCP 2025-11-25, sampling).
pub(crate) const USER_REJECTED: ErrorCode = ErrorCode(-1);

/// The quota of an agent and its usage.
#[derive(Debug)]
pub(crate) struct SamplingQuota {
    policy: SamplingPolicy,
    /// Shared by all requests of the agent. Locked only to update the sums.
    usage: Mutex<QuotaUsage>,
}

/// The usage of completed requests, and the reservations of requests in progress.
#[derive(Debug, Default)]
struct QuotaUsage {
    tokens: u64,
    requests: u64,
}

/// A reservation for one request. Dropping it before the request is sent releases it; afterwards, it stays charged.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    quota: &'a SamplingQuota,
    tokens: u64,
    sent: bool,
}

impl SamplingQuota {
    /// Creates an unused quota.
    pub(crate) fn new(policy: SamplingPolicy) -> Self {
        Self { policy, usage: Mutex::default() }
    }

    /// Adds the usage of earlier processes of the run.
    pub(crate) fn restore_usage(&self, requests: u64, tokens: u64) {
        let mut usage = self.usage.lock();
        usage.requests = usage.requests.saturating_add(requests);
        usage.tokens = usage.tokens.saturating_add(tokens);
    }

    /// Returns whether a person must approve each request.
    pub(crate) fn requires_consent(&self) -> bool {
        self.policy.consent == Consent::Ask
    }

    /// Reserves the largest number of tokens that `chat` can use.
    ///
    /// # Errors
    /// Returns the JSON-RPC error that names the exceeded limit.
    pub(crate) fn reserve(&self, chat: &ChatRequest) -> Result<Reservation<'_>, ErrorData> {
        let tokens = chat.estimate_tokens();
        let mut usage = self.usage.lock();
        if let Some(limit) = self.policy.max_requests.filter(|limit| usage.requests >= *limit) {
            let message = format!("the request quota of this run is exhausted: `sampling.max_requests` is {limit}");
            return Err(ErrorData::new(USER_REJECTED, message, None));
        }
        if let Some(limit) = self.policy.max_tokens.filter(|limit| usage.tokens.saturating_add(tokens) > *limit) {
            let used = usage.tokens;
            let message = format!(
                "the request can use {tokens} tokens, but `sampling.max_tokens` is {limit}, and {used} are spent or \
                 reserved in this run"
            );
            return Err(ErrorData::new(USER_REJECTED, message, None));
        }
        usage.tokens = usage.tokens.saturating_add(tokens);
        usage.requests += 1;
        drop(usage);
        Ok(Reservation { quota: self, tokens, sent: false })
    }
}

impl Reservation<'_> {
    /// Marks the request as sent. From now on, it is charged in full unless [`Reservation::settle`] corrects that.
    pub(crate) fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// Replaces the reservation by the actual usage. Without a token count, the reservation stays charged in full.
    pub(crate) fn settle(self, result: &Result<ChatReply, ChatError>) {
        let used = match result {
            Ok(reply) => reply.usage.map(|usage| usage.input_tokens.saturating_add(usage.output_tokens)),
            Err(_) => Some(0),
        };
        if let Some(used) = used {
            let mut usage = self.quota.usage.lock();
            usage.tokens = usage.tokens.saturating_sub(self.tokens).saturating_add(used);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.sent {
            let mut usage = self.quota.usage.lock();
            usage.tokens = usage.tokens.saturating_sub(self.tokens);
            usage.requests = usage.requests.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChatMessage, ChatRole, Usage};

    fn quota(max_tokens: Option<u64>, max_requests: Option<u64>) -> SamplingQuota {
        SamplingQuota::new(SamplingPolicy { consent: Consent::Allow, max_tokens, max_requests })
    }

    /// Returns a request of eight bytes with the given token limit.
    fn chat(max_tokens: u32) -> ChatRequest {
        let messages = vec![ChatMessage::text(ChatRole::User, "eight by").into()];
        ChatRequest { messages, max_tokens, ..ChatRequest::default() }
    }

    fn reply(usage: Option<Usage>) -> Result<ChatReply, ChatError> {
        let (model, stop_reason) = ("m".to_owned(), "endTurn".to_owned());
        Ok(ChatReply { parts: Vec::new(), model, stop_reason, usage, cost_usd: None, warning: None })
    }

    fn sent(mut charge: Reservation<'_>) -> Reservation<'_> {
        charge.mark_sent();
        charge
    }

    #[test]
    fn reservations_count_until_they_are_settled() {
        let allowance = quota(Some(250), None);
        let first = sent(allowance.reserve(&chat(98)).unwrap());
        let second = sent(allowance.reserve(&chat(98)).unwrap());
        let refused = allowance.reserve(&chat(98)).unwrap_err();
        assert_eq!(refused.code, USER_REJECTED);
        assert_eq!(
            refused.message,
            "the request can use 100 tokens, but `sampling.max_tokens` is 250, and 200 are spent or reserved in \
             this run"
        );
        first.settle(&reply(Some(Usage { input_tokens: 3, output_tokens: 5 })));
        let third = sent(allowance.reserve(&chat(98)).unwrap());
        assert_eq!(allowance.usage.lock().tokens, 208);
        second.settle(&reply(None));
        third.settle(&Err(ChatError::Endpoint { message: "overloaded".to_owned(), status: None }));
        assert_eq!(allowance.usage.lock().tokens, 108);
    }

    #[test]
    fn dropping_a_reservation_refunds_it_only_before_sending() {
        let allowance = quota(Some(1_000), Some(2));
        drop(allowance.reserve(&chat(98)).unwrap());
        drop(sent(allowance.reserve(&chat(98)).unwrap()));
        let usage = allowance.usage.lock();
        assert_eq!((usage.tokens, usage.requests), (100, 1));
    }

    #[test]
    fn requests_are_capped() {
        let allowance = quota(None, Some(2));
        for _ in 0..2 {
            sent(allowance.reserve(&chat(u32::MAX)).unwrap()).settle(&reply(None));
        }
        let refused = allowance.reserve(&chat(1)).unwrap_err();
        assert_eq!(refused.message, "the request quota of this run is exhausted: `sampling.max_requests` is 2");
    }
}
