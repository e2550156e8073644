//! The generated pages of `docs/reference`. `just reference` writes them; a test fails when one is out of date.

mod commands;
mod errors;
mod events;
mod exit_codes;
mod hosts;
mod keys;
mod page;
mod retries;
mod rust_items;
mod variables;
