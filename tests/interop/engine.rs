//! The language-model engine of `tests/llm-engine`, for the duration of a test. It ends when its standard input closes,
//! so it never outlives the test.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

use crate::root;

/// The context size: the tokens of a request and its reply together.
const CONTEXT: u32 = 16_384;

/// A running engine.
pub(crate) struct LlmEngine {
    process: Child,
    url: String,
}

impl LlmEngine {
    /// The name of its model.
    pub(crate) const MODEL: &str = "tiny-random";
    /// The name of the small model that understands a little language.
    pub(crate) const SMALL_MODEL: &str = "smollm2";

    /// Starts the engine on a free port and waits until it answers.
    pub(crate) fn start() -> Result<Self, Failed> {
        Self::start_with_key("")
    }

    /// Starts the engine with a key, without which it refuses every request. An empty key means none.
    pub(crate) fn start_with_key(key: &str) -> Result<Self, Failed> {
        Self::launch(Command::new(Self::python()).env("LLM_KEY", key), CONTEXT)
    }

    /// Starts the engine with a context of this many tokens.
    pub(crate) fn start_with_context(tokens: u32) -> Result<Self, Failed> {
        Self::launch(&mut Command::new(Self::python()), tokens)
    }

    /// Starts the engine with a seed, so that the same request always gets the same reply.
    pub(crate) fn start_with_seed(seed: u32) -> Result<Self, Failed> {
        Self::launch(Command::new(Self::python()).env("LLM_SEED", seed.to_string()), CONTEXT)
    }

    /// Starts the engine with the small model, and a seed.
    pub(crate) fn start_small_model() -> Result<Self, Failed> {
        let mut command = Command::new(Self::python());
        Self::launch_model(command.env("LLM_SEED", "1"), ("smollm2.gguf", Self::SMALL_MODEL), 8_192)
    }

    fn python() -> PathBuf {
        root().join(".interop/llm/bin/python")
    }

    fn launch(command: &mut Command, context: u32) -> Result<Self, Failed> {
        Self::launch_model(command, ("tiny.gguf", Self::MODEL), context)
    }

    fn launch_model(command: &mut Command, (file, name): (&str, &str), context: u32) -> Result<Self, Failed> {
        let mut process = command
            .arg(root().join("tests/llm-engine/serve.py"))
            .arg(root().join(".interop/llm").join(file))
            .args(["--alias", name, "--until-stdin-closes", "--context", &context.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = process.stdout.take().ok_or("the engine has no standard output")?;
        let ready = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("READY ").map(str::to_owned));
        match ready {
            Some(url) => Ok(Self { process, url }),
            None => Err(format!("the engine ended before it was ready: {}", process.wait()?).into()),
        }
    }

    /// Returns its base URL, without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for LlmEngine {
    fn drop(&mut self) {
        // Both fail only if the engine has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
