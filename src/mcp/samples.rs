//! Builds links for the tests of the room.
//! Never reaches an agent or a host.

use std::sync::{Arc, atomic::AtomicBool};

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Host, Sampling,
    allowance::Allowance,
    link::{Common, Link},
    session::Session,
    turns::Turns,
};
use crate::model::{
    Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, LogMessage, NoteKey, Origin, Progress,
    SamplingPolicy,
};

/// A host whom nobody asks.
struct Nobody;

#[async_trait::async_trait]
impl Host for Nobody {
    async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
        Answer::Cancel
    }

    async fn sample(&self, _: Origin, _: ChatRequest) -> Result<ChatReply, ChatError> {
        std::future::pending().await
    }

    async fn input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

    fn note(&self, _: NoteKey, _: Value) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn progressed(&self, _: &AttemptId, _: Progress) {}

    fn logged(&self, _: Origin, _: LogMessage) {}
}

/// A link to agent `a`, whose next request has the number 0.
pub(super) fn link() -> Arc<Link> {
    let common = Common {
        sampling: Sampling::Off,
        allowance: Allowance::new(SamplingPolicy::default()),
        turns: Turns::new(1),
        left: AtomicBool::new(false),
    };
    Link::new(Session::none("a".into(), Arc::new(Nobody)), Arc::new(common))
}
