//! Gives answers without a person: by the rules of a file, or by a policy.

pub mod policy;
pub mod rules;
