//! Starts the reference agents and the language model for one run, and ends them.
//! Never measures.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::{BenchResult, agent::AgentTransport, baseline::AgentAddress, graph::Agent};

/// Both agents.
pub(crate) struct AgentServers {
    /// How each is reached, in the order of [`Agent::ALL`].
    pub(crate) addresses: Vec<AgentAddress>,
    /// Where each writes when its first call came and its last sleep was over.
    stamps: Vec<PathBuf>,
    /// Those that are not started by whoever calls them.
    _servers: Vec<ServerProcess>,
}

impl AgentServers {
    /// New agents, which leave files in `place`.
    ///
    /// # Errors
    /// When they do not start.
    pub(crate) fn start(over: AgentTransport, place: &Path) -> BenchResult<Self> {
        let mut agents = Self { addresses: Vec::new(), stamps: Vec::new(), _servers: Vec::new() };
        for agent in Agent::ALL {
            let stamp = place.join(agent.name());
            let path = stamp.display().to_string();
            match over {
                AgentTransport::Stdio => {
                    let this = std::env::current_exe()?.display().to_string();
                    let arguments = ["role", "agent", "stdio", "--stamp", &path].map(str::to_owned);
                    agents.addresses.push(AgentAddress::Command([this].into_iter().chain(arguments).collect()));
                }
                AgentTransport::Http => {
                    let served = ServerProcess::start(&["agent", "http", "--stamp", &path])?;
                    agents.addresses.push(AgentAddress::Url(served.address.clone()));
                    agents._servers.push(served);
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
    pub(crate) fn call_times(&self) -> BenchResult<(Duration, Option<Duration>)> {
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
pub(crate) struct ServerProcess {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) address: String,
}

impl ServerProcess {
    /// Starts a role that prints its address first.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(role: &[&str]) -> BenchResult<Self> {
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
    pub(crate) fn shut_down(mut self) -> BenchResult<String> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        Ok(said)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Its end only has to be waited for.
        let _ = self.child.wait();
    }
}
