//! Selects which of many tools a model is shown.

mod ranking;
pub(super) mod similar_plans;
pub(super) mod sub_goals;
mod terms;
pub(super) mod tool_selection;
