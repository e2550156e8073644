//! Prompts: the exchanges with the model, its tool calls, and the acceptance of its answer.

mod exchange;
mod reply;
mod request;
mod saving;
mod server_prompt;
