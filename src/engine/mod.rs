//! Decides what a run does next.
//! Never reads a clock, a file or a socket; time, seeds and ids come in as data.
