//! Random plans, their simulation, and the properties that every run has.

pub(super) mod invariants;
pub(super) mod plans;
pub(super) mod simulation;
