//! Carries out what the engine decides: one dispatcher, one executor for each attempt.
//! Never decides.
