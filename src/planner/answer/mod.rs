//! Reads a model's reply and writes it as a plan file.

pub(super) mod file_text;
pub(super) mod plan_draft;
pub(super) mod plan_example;
mod reference_scope;
pub(super) mod reply_form;
mod result_shape;
pub(super) mod streamed_reply;
mod task_reference;
mod task_writer;
