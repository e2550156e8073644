//! Where hosts keep their configuration files.

use std::path::{Path, PathBuf};

use super::host::{HOSTS, McpHost, On};

/// An operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatingSystem {
    /// Linux.
    Linux,
    /// macOS.
    Mac,
    /// Windows.
    Windows,
}

impl OperatingSystem {
    /// Returns the system that this program was built for.
    pub fn current() -> Self {
        match std::env::consts::OS {
            "macos" => Self::Mac,
            "windows" => Self::Windows,
            _ => Self::Linux,
        }
    }
}

/// What the places of files depend on.
pub struct Surroundings<'a> {
    /// The operating system.
    pub system: OperatingSystem,
    /// The home directory.
    pub home: &'a Path,
    /// The directory of the project.
    pub project: &'a Path,
    /// Returns the value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A place where a host keeps its agents.
#[derive(Debug, Clone)]
pub struct ConfigPlace {
    /// The host.
    pub host: &'static McpHost,
    /// The path of the file. If its last part is `*`, all files of the directory.
    pub path: PathBuf,
    /// Whether the file is part of a project.
    pub in_project: bool,
}

impl PartialEq for ConfigPlace {
    fn eq(&self, other: &Self) -> bool {
        (self.host.name, &self.path, self.in_project) == (other.host.name, &other.path, other.in_project)
    }
}

/// Returns the places of all hosts, or of one of them.
pub fn config_places(only: Option<&'static McpHost>, surroundings: &Surroundings<'_>) -> Vec<ConfigPlace> {
    let hosts = HOSTS.iter().filter(|host| only.is_none_or(|only| only.name == host.name));
    hosts.flat_map(|host| host_places(host, surroundings)).collect()
}

fn host_places(host: &'static McpHost, surroundings: &Surroundings<'_>) -> Vec<ConfigPlace> {
    let is_here = |on: On| match on {
        On::All => true,
        On::Unix => surroundings.system != OperatingSystem::Windows,
        On::Linux => surroundings.system == OperatingSystem::Linux,
        On::Mac => surroundings.system == OperatingSystem::Mac,
        On::Windows => surroundings.system == OperatingSystem::Windows,
    };
    let user = host.user_files.iter().filter(|(on, _)| is_here(*on));
    let user = user.filter_map(|(_, path)| Some((resolve(path, surroundings)?, false)));
    let project = host.project_files.iter().map(|path| (surroundings.project.join(path), true));
    user.chain(project).map(|(path, in_project)| ConfigPlace { host, path, in_project }).collect()
}

/// Returns the path with its first part resolved. Returns `None` if that is a variable that is not set.
fn resolve(path: &str, surroundings: &Surroundings<'_>) -> Option<PathBuf> {
    let (first, rest) = path.split_once('/')?;
    let home = surroundings.home;
    let variable = |name: &str| (surroundings.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = match (first, surroundings.system) {
        ("~", _) => home.to_owned(),
        ("$CONFIG", OperatingSystem::Linux) => variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
        ("$CONFIG", OperatingSystem::Mac) => home.join("Library/Application Support"),
        ("$CONFIG", OperatingSystem::Windows) | ("$APPDATA", _) => {
            variable("APPDATA").unwrap_or_else(|| home.join("AppData/Roaming"))
        }
        ("$LOCALAPPDATA", _) => variable("LOCALAPPDATA").unwrap_or_else(|| home.join("AppData/Local")),
        (name, _) => variable(name.strip_prefix('$')?)?,
    };
    Some(directory.join(rest))
}
