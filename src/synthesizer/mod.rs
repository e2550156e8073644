//! Merges the results of a run into one answer. Pure.
//! Never shows it.
