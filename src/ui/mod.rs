//! Shows runs to people and asks them questions: the terminal, forms, reporters, and history.

pub mod answers;
pub mod forms;
pub mod health_report;
pub mod history;
pub mod human;
pub mod reporters;
pub mod styles;
pub mod terminal;
pub(crate) mod text_table;

pub use crate::json_schema::tool_signature;
