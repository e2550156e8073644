//! `kapell schema`: prints the JSON Schema of a file format.

use clap::{Args, ValueEnum};

use crate::cli::common::exit::print;
use crate::cli::{CliError, Exit};
use crate::config;

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// The file format
    format: SchemaFormat,
}

/// A file format with a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemaFormat {
    /// A plan
    Plan,
    /// agents.toml
    Agents,
    /// An answers file, for `--answers`
    Answers,
}

pub(crate) fn schema(args: SchemaArgs) -> Result<Exit, CliError> {
    print(&schema_text(args.format)?)?;
    Ok(Exit::Success)
}

/// Returns the text of the schema of a file format.
///
/// # Errors
/// Fails if it cannot be converted to JSON.
pub(crate) fn schema_text(format: SchemaFormat) -> Result<String, CliError> {
    let schema = match format {
        SchemaFormat::Plan => config::plan_schema(),
        SchemaFormat::Agents => config::agents_schema(),
        SchemaFormat::Answers => config::answers_schema(),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| CliError::failed("cli::output", "the schema cannot be converted to JSON", error))?;
    Ok(text + "\n")
}
