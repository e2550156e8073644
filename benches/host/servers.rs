//! Starts and ends the reference agents and the language model of one run.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::BenchResult;
use crate::agent::AgentTransport;
use crate::baseline::AgentAddress;
use crate::graph::Agent;

/// Both agents.
pub(crate) struct AgentServers {
    /// The address of each agent, in the order of [`Agent::ALL`].
    pub(crate) addresses: Vec<AgentAddress>,
    /// The files in which the agents record their first call and the end of their last sleep.
    stamps: Vec<PathBuf>,
    /// The HTTP servers. Agents over stdio are started by their client.
    _servers: Vec<ServerProcess>,
}

impl AgentServers {
    /// Starts new agents, which write files in `place`.
    ///
    /// # Errors
    /// Fails if an agent does not start.
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

    /// Returns the time of the first call since 1970, and the end of the last sleep, if there was one.
    ///
    /// # Errors
    /// Fails if there was no call.
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

/// A server process of this program, which ends when its standard input closes.
pub(crate) struct ServerProcess {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The address of the server.
    pub(crate) address: String,
}

impl ServerProcess {
    /// Starts a role that prints its address first.
    ///
    /// # Errors
    /// Fails if it does not start.
    pub(crate) fn start(role: &[&str]) -> BenchResult<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("role").args(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("a server has no output")?);
        let mut address = String::new();
        output.read_line(&mut address)?;
        Ok(Self { child, output, address: address.trim_end().to_owned() })
    }

    /// Ends the server, and returns the rest of its output.
    ///
    /// # Errors
    /// Fails if the output is not valid text.
    pub(crate) fn shut_down(mut self) -> BenchResult<String> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Its standard input is closed, so it ends by itself.
        let _ = self.child.wait();
    }
}
