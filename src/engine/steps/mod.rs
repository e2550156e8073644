//! Performs work that needs no agent: groups and sub-plans, iterations, questions, timers, signals, watches, and early
//! ends.

mod ends;
mod groups;
mod outputs;
mod sub_plans;
mod waits;
