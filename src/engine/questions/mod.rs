//! Asks people, and processes their answers.

mod answers;
mod timeouts;
