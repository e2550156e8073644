//! The formats of other hosts, one in each file.

pub(super) mod claude;
pub(super) mod cline;
pub(super) mod codex;
pub(super) mod common;
pub(super) mod continue_dev;
pub(super) mod copilot;
pub(super) mod crush;
pub(super) mod cursor;
pub(super) mod gemini;
pub(super) mod goose;
pub(super) mod opencode;
pub(super) mod vscode;
pub(super) mod windsurf;
pub(super) mod zed;
