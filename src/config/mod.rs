//! Turns `agents.toml` and plan files into model types, or into all their mistakes at once.
//! Never connects to anything.
