//! Checks the programs that start the servers of agents, such as `npx`, and prints their versions.

use std::time::Duration;

use indexmap::IndexMap;
use tokio::process::Command;
use tokio::time::timeout;

use crate::model::{AgentId, AgentSpec};
use crate::view::{HealthCheck, HealthSection, HealthStatus};

/// The maximum duration of printing a version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The programs that install or interpret servers, and how to get each.
const RUNTIMES: [(&str, &str); 12] = [
    ("npx", NODE),
    ("node", NODE),
    ("npm", NODE),
    ("uvx", UV),
    ("uv", UV),
    ("pipx", "install pipx: https://pipx.pypa.io"),
    ("python", PYTHON),
    ("python3", PYTHON),
    ("docker", "install Docker: https://docs.docker.com/get-docker"),
    ("podman", "install Podman: https://podman.io"),
    ("bunx", "install Bun: https://bun.sh"),
    ("deno", "install Deno: https://deno.com"),
];
const NODE: &str = "install Node.js: https://nodejs.org";
const UV: &str = "install uv: https://docs.astral.sh/uv";
const PYTHON: &str = "install Python: https://www.python.org";

/// Checks the runtimes that the commands of these agents name.
pub(super) async fn check_runtimes(agents: impl Iterator<Item = &AgentSpec>) -> Vec<HealthCheck> {
    let mut users: IndexMap<String, Vec<&AgentId>> = IndexMap::new();
    for agent in agents {
        if let Some(child) = agent.transport.child_process().filter(|child| install_hint(&child.command).is_some()) {
            users.entry(child.command.clone()).or_default().push(&agent.id);
        }
    }
    let checks = users.iter().map(async |(command, users)| check_runtime(command, users).await);
    futures::future::join_all(checks).await
}

/// Returns how to install the program of a command, if it is a known runtime.
fn install_hint(command: &str) -> Option<&'static str> {
    let program = command.rsplit('/').next()?;
    RUNTIMES.into_iter().find_map(|(name, hint)| (name == program).then_some(hint))
}

async fn check_runtime(command: &str, users: &[&AgentId]) -> HealthCheck {
    let names: Vec<String> = users.iter().map(|agent| format!("`{agent}`")).collect();
    let used = format!("used by {}", names.join(", "));
    let check = |status, message| HealthCheck::new(HealthSection::Runtimes, command, status, message);
    let install = || install_hint(command).unwrap_or_default();
    let mut program = Command::new(command);
    program.arg("--version").stdin(std::process::Stdio::null()).kill_on_drop(true);
    match timeout(VERSION_TIMEOUT, program.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            check(HealthStatus::Ok, format!("{}, {used}", version.lines().next().unwrap_or_default().trim()))
        }
        Ok(Ok(output)) => {
            let message = format!("`{command} --version` failed with {}, {used}", output.status);
            check(HealthStatus::Failed, message).with_fix(install())
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let fix = format!("{}, or add its directory to `PATH`", install());
            check(HealthStatus::Failed, format!("not found, {used}")).with_fix(fix)
        }
        Ok(Err(error)) => {
            check(HealthStatus::Failed, format!("cannot be started: {error}, {used}")).with_fix(install())
        }
        Err(_) => {
            let message = format!("`{command} --version` did not answer within {VERSION_TIMEOUT:?}, {used}");
            check(HealthStatus::Warning, message).with_fix("run it yourself, and see what it waits for")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the check of an executable script with this text.
    async fn check_script(text: &str) -> HealthCheck {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("npx");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("executable");
        let mut check = check_runtime(&path.display().to_string(), &[&AgentId::from("files")]).await;
        check.message = check.message.replace(&check.name, "npx");
        check
    }

    #[tokio::test]
    async fn runtimes_work_fail_or_are_missing() {
        let works = check_script("#!/bin/sh\necho 10.2.3\n").await;
        assert_eq!((works.status, works.message.as_str()), (HealthStatus::Ok, "10.2.3, used by `files`"));
        let fails = check_script("#!/bin/sh\nexit 3\n").await;
        assert_eq!((fails.status, fails.fix.as_deref()), (HealthStatus::Failed, Some(NODE)));
        assert_eq!(fails.message, "`npx --version` failed with exit status: 3, used by `files`");
        let missing = check_runtime("/nowhere/uvx", &[&AgentId::from("time")]).await;
        assert_eq!((missing.status, missing.message.as_str()), (HealthStatus::Failed, "not found, used by `time`"));
        assert!(missing.fix.is_some_and(|fix| fix.starts_with(UV) && fix.contains("`PATH`")));
    }

    #[test]
    fn only_runtimes_are_checked() {
        assert_eq!(
            [install_hint("/usr/bin/npx"), install_hint("my-server"), install_hint("")],
            [Some(NODE), None, None]
        );
    }
}
