//! `kapell fmt`: formats plan files.

use std::path::Path;

use clap::Args;

use crate::cli::common::exit::print;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config;
use crate::system::files;

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// The plans; - formats standard input to standard output
    #[arg(value_name = "PLAN", required = true, add = completion::plans())]
    plans: Vec<String>,
    /// Change nothing; list the plans that are not formatted, and exit with 1 if there are any
    #[arg(long)]
    check: bool,
}

/// Formats the plans. A plan that cannot be formatted is reported, and the others are formatted.
///
/// # Errors
/// Fails if a plan cannot be read, formatted, or written.
pub(crate) fn fmt(args: &FmtArgs) -> Result<Exit, CliError> {
    let (mut is_unformatted, mut failure) = (false, None);
    for plan in &args.plans {
        match format_one(plan, args) {
            Ok(changed) => is_unformatted |= changed,
            Err(error) => {
                if let Some(earlier) = failure.replace(error) {
                    let _ = earlier.report();
                }
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None if args.check && is_unformatted => Ok(Exit::Failed),
        None => Ok(Exit::Success),
    }
}

/// Formats one plan, and returns whether it was not formatted before.
fn format_one(plan: &str, args: &FmtArgs) -> Result<bool, CliError> {
    let path = Path::new(plan);
    let name = if plan == "-" { "standard input" } else { plan };
    let text = config::read_text(path)?;
    let formatted = config::format_plan(name, &text)?;
    let is_changed = formatted != text;
    match (plan, args.check) {
        (_, true) if is_changed => message!("{name} is not formatted; `kapell fmt {plan}` formats it"),
        (_, true) => {}
        ("-", false) => print(&formatted)?,
        (_, false) if is_changed => {
            files::replace(path, formatted.as_bytes())
                .map_err(|error| CliError::failed("cli::unwritable", format!("cannot write `{plan}`"), error))?;
            message!("formatted {plan}");
        }
        (_, false) => {}
    }
    Ok(is_changed)
}
