//! Makes tool calls: from the request, or a checkpoint of an earlier process, to the output.

pub(crate) mod active_call;
pub(crate) mod guard;
pub(crate) mod input_required;
pub(crate) mod poll_backoff;
mod reconnecting;
pub(crate) mod remote_task;
pub(crate) mod resource;
pub(crate) mod run;
pub(crate) mod timeouts;
pub(crate) mod watch;
