//! The demo agents as separate HTTP servers, which are not children of the host. They end with their case.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::workspace::Workspace;

/// The agents, each speaking both eras.
pub(crate) const AGENTS: [&str; 3] = ["travel", "research", "archive"];

/// The processes of the servers.
pub(crate) struct AgentServers {
    running: Vec<Server>,
}

struct Server {
    agent: &'static str,
    port: u16,
    process: Child,
}

impl AgentServers {
    /// Starts all servers on free ports.
    pub(crate) fn start(place: &Workspace) -> Self {
        Self { running: AGENTS.map(|agent| Server::start(place, agent, 0)).into() }
    }

    /// Returns the port of an agent.
    pub(crate) fn port(&self, agent: &str) -> u16 {
        let server = self.running.iter().find(|server| server.agent == agent);
        server.expect("every agent is started").port
    }

    /// Ends all servers with their running calls, and starts them again on the same ports.
    pub(crate) fn restart(&mut self, place: &Workspace) {
        for server in &mut self.running {
            server.end();
            *server = Server::start(place, server.agent, server.port);
        }
    }

    /// Returns whether a process is one of the servers.
    pub(crate) fn has_process(&self, pid: u32) -> bool {
        self.running.iter().any(|server| server.process.id() == pid)
    }
}

impl Drop for AgentServers {
    fn drop(&mut self) {
        self.running.iter_mut().for_each(Server::end);
    }
}

impl Server {
    fn start(place: &Workspace, agent: &'static str, port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kapell"));
        command
            .args(["demo-agent", agent, "--http", &port.to_string()])
            .env("KAPELL_DEMO_EFFECTS", place.path("effects.jsonl"))
            .env("KAPELL_DEMO_DIR", place.path("documents"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("the agent starts");
        let mut line = String::new();
        let mut errors = BufReader::new(process.stderr.take().expect("it is piped"));
        errors.read_line(&mut line).expect("it says where it listens");
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
        Self { agent, port: port.unwrap_or_else(|| panic!("no port in {line:?}")), process }
    }

    fn end(&mut self) {
        self.process.kill().expect("killed, or ended before");
        self.process.wait().expect("ended");
    }
}
