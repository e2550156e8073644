//! Evaluates `${{ }}` over what is known of a run. Pure.
//! Never reads a clock, a file or a socket, and never changes what it is shown.
