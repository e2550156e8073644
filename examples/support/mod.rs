//! What the examples share: the demo agents of the `kapell` program.

use std::error::Error;
use std::path::PathBuf;

use kapell::config::{self, AgentsFile, Environment, ProcessEnvironment};

/// Reads `agents.toml` of this repository, whose agents are started with `${KAPELL}`, the `kapell` program.
/// # Errors
/// Returns an error if the file is invalid or the program is not built.
pub(crate) fn demo_agents() -> Result<AgentsFile, Box<dyn Error>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("agents.toml");
    Ok(config::load_agents(&path, &ExampleEnvironment)?)
}

/// The environment of this process, in which `${KAPELL}` is the program that cargo builds beside the examples.
struct ExampleEnvironment;

impl Environment for ExampleEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        ProcessEnvironment.variable(name)
    }

    fn executable(&self) -> Result<String, String> {
        let example = std::env::current_exe().map_err(|error| error.to_string())?;
        let program = example.parent().and_then(|examples| examples.parent()).map(|target| target.join("kapell"));
        match program {
            Some(program) if program.is_file() => Ok(program.display().to_string()),
            _ => Err("the agents need the program: run `cargo build` first".to_owned()),
        }
    }

    fn free_port(&self) -> Result<u16, String> {
        ProcessEnvironment.free_port()
    }
}
