//! `kapell agents complete`: asks an agent for values of an argument.

use clap::{ArgGroup, Args};
use indexmap::IndexMap;
use serde_json::json;

use crate::cli::common::args::{AgentsArg, OutputFormat};
use crate::cli::common::exit::{print, print_json};
use crate::cli::common::files;
use crate::cli::common::tool_target::failure_text;
use crate::cli::{CliError, Exit};
use crate::model::{Completion, CompletionRequest, CompletionTarget};
use crate::runtime;
use crate::view::text::printable;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["prompt", "resource"])))]
pub(crate) struct CompleteArgs {
    /// The agent
    agent: String,
    /// Complete an argument of this prompt
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// Complete a variable of this resource template
    #[arg(long, value_name = "TEMPLATE")]
    resource: Option<String>,
    /// The argument and the beginning of its value
    #[arg(value_name = "ARGUMENT=PREFIX", value_parser = parse_pair)]
    argument: (String, String),
    /// The value of another argument (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    context: Vec<(String, String)>,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    output: OutputFormat,
}

/// Splits `KEY=VALUE` at the first `=`.
fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected `KEY=VALUE`")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn complete(args: CompleteArgs) -> Result<Exit, CliError> {
    let (agent, file) = files::load_agent(&args.agents, &args.agent)?;
    let options = runtime::connect_options(&file, None)?;
    let target = match (args.prompt, args.resource) {
        (Some(name), _) => CompletionTarget::Prompt(name),
        (None, template) => CompletionTarget::ResourceTemplate(template.unwrap_or_default()),
    };
    let (argument, value) = args.argument;
    let request = CompletionRequest { target, argument, value, context: IndexMap::from_iter(args.context) };
    match runtime::complete(agent, &request, options, &file.secrets).await {
        Ok(completion) => {
            match args.output {
                OutputFormat::Json => print_json(&json!(completion))?,
                OutputFormat::Text => print_values(&completion)?,
            }
            Ok(Exit::Success)
        }
        Err(failure) => {
            message!("{}", failure_text(&args.agent, &failure));
            Ok(Exit::Failed)
        }
    }
}

/// Prints one value a line, and on stderr whether there are more.
fn print_values(completion: &Completion) -> Result<(), CliError> {
    for value in &completion.values {
        print(&format!("{}\n", printable(value)))?;
    }
    if completion.has_more {
        let total = completion.total.map(|total| format!(", of {total} in total")).unwrap_or_default();
        message!("there are more values{total}");
    }
    Ok(())
}
