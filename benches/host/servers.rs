//! Starts the reference agents and the language model for one run, and ends them.
//! Never measures.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::{Outcome, agent::Over, floor::Reach, graph::Agent};

/// Both agents.
pub(crate) struct Agents {
    /// How each is reached, in the order of [`Agent::ALL`].
    pub(crate) reached: Vec<Reach>,
    /// Where each writes when its first call came and its last sleep was over.
    stamps: Vec<PathBuf>,
    /// Those that are not started by whoever calls them.
    _served: Vec<Served>,
}

impl Agents {
    /// New agents, which leave files in `place`.
    ///
    /// # Errors
    /// When they do not start.
    pub(crate) fn start(over: Over, place: &Path) -> Outcome<Self> {
        let mut agents = Self { reached: Vec::new(), stamps: Vec::new(), _served: Vec::new() };
        for agent in Agent::ALL {
            let stamp = place.join(agent.name());
            let path = stamp.display().to_string();
            match over {
                Over::Stdio => {
                    let this = std::env::current_exe()?.display().to_string();
                    let arguments = ["role", "agent", "stdio", "--stamp", &path].map(str::to_owned);
                    agents.reached.push(Reach::Command([this].into_iter().chain(arguments).collect()));
                }
                Over::Http => {
                    let served = Served::start(&["agent", "http", "--stamp", &path])?;
                    agents.reached.push(Reach::Url(served.address.clone()));
                    agents._served.push(served);
                }
            }
            agents.stamps.push(stamp);
        }
        Ok(agents)
    }

    /// When the first call of all came, since 1970, and when the last sleep was over, if there was one.
    ///
    /// # Errors
    /// When none came.
    pub(crate) fn calls(&self) -> Outcome<(Duration, Option<Duration>)> {
        let (mut first, mut last) = (None, None);
        for path in self.stamps.iter().filter(|path| path.exists()) {
            let text = fs::read_to_string(path)?;
            let mut times = text.split(' ').map(|nanos| nanos.parse().map(Duration::from_nanos));
            first = first.into_iter().chain(times.next().transpose()?).min();
            last = last.max(times.next().transpose()?);
        }
        Ok((first.ok_or("no call came to an agent")?, last))
    }
}

/// A server of this program, which ends with its standard input.
pub(crate) struct Served {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) address: String,
}

impl Served {
    /// Starts a role that prints its address first.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(role: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("role").args(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("a server has no output")?);
        let mut address = String::new();
        output.read_line(&mut address)?;
        Ok(Self { child, output, address: address.trim_end().to_owned() })
    }

    /// Ends it; gives what it prints last.
    ///
    /// # Errors
    /// When what it prints is no text.
    pub(crate) fn end(mut self) -> Outcome<String> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        Ok(said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Its end only has to be waited for.
        let _ = self.child.wait();
    }
}
