//! The servers that this machine knows but that no run can use: disabled agents, and agents of other hosts.

use super::import_sources::read_places;
use crate::cli::common::goal::KnownServer;
use crate::config::AgentsFile;

/// Returns the servers that are not in use, the disabled agents first.
pub(crate) fn known_servers(agents: &AgentsFile) -> Vec<KnownServer> {
    let disabled = agents.disabled.iter().map(|id| KnownServer {
        name: id.to_string(),
        about: String::new(),
        place: "disabled in the agents file".to_owned(),
    });
    let mut servers: Vec<KnownServer> = disabled.collect();
    for source in read_places(None).files {
        for agent in source.agents.agents {
            let is_known = agents.agents.contains_key(agent.name.as_str())
                || servers.iter().any(|server| server.name == agent.name);
            if is_known {
                continue;
            }
            let words = agent.entry.command.into_iter().chain(agent.entry.args).chain(agent.entry.url);
            let place = format!("in {}; `kapell agents import` adds it", source.path.display());
            servers.push(KnownServer { name: agent.name, about: words.collect::<Vec<_>>().join(" "), place });
        }
    }
    servers
}
