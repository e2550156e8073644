//! Rules for the structure of `src`, checked on its syntax trees. Tests may break them, so code behind `#[cfg(test)]` is
//! not checked.

mod cycles;
mod layers;
mod names;
mod source;
