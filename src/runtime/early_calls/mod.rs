//! Makes calls of a plan while a model still writes it, and gives their results to the run. A call changes nothing, so it
//! can be lost with its process, and its task can make it again.

mod early_agents;
mod kept_calls;
mod unsettled_calls;

pub(super) use early_agents::EarlyAgents;
pub use kept_calls::KeptCalls;
pub use unsettled_calls::{CallPlace, UnsettledCalls};
