//! Language models: their configuration, requests and replies, and the estimate of tokens.

pub(crate) mod chat;
mod content;
pub(crate) mod llm_spec;
pub(crate) mod reply_text;
pub(crate) mod token_estimate;
