//! Forms for the questions of agents.

pub(crate) mod changed_arguments;
pub mod form;
pub mod form_prompt;
pub(crate) mod typed_text;
pub(crate) mod url_prompt;
