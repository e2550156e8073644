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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaFormat {
    /// A plan
    Plan,
    /// agents.toml
    Agents,
}

pub(crate) fn schema(args: SchemaArgs) -> Result<Exit, CliError> {
    let schema = match args.format {
        SchemaFormat::Plan => config::plan_schema(),
        SchemaFormat::Agents => config::agents_schema(),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| CliError::failed("cli::output", "the schema cannot be converted to JSON", error))?;
    print(&(text + "\n"))?;
    Ok(Exit::Success)
}
