//! Texts of people, agents, and models: made safe to display, shortened, and redacted.

pub(crate) mod escape;
pub(crate) mod number;
pub(crate) mod redact;

pub use escape::{
    floor_char_boundary, printable, printable_after, printable_lines, printable_styled, printable_text,
    printable_unstyled, root_cause, safe_json, truncate_bytes, truncate_chars,
};
