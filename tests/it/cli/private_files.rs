//! The files of kapell: only the owner can read them, they are where they belong, and input files have a size limit.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::workspace::{CommandOutput, Workspace};

const PLAN: &str = "name: x\ntasks: [{ id: a, agent: research, tool: research, with: { topic: x, delay_ms: 1 } }]\n";

/// Runs a command with a umask that makes every new file accessible to everyone.
fn run_with_open_umask(place: &Workspace, arguments: &[&str]) -> CommandOutput {
    let kapell = place.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(kapell.get_program()).args(kapell.get_args());
    shell.current_dir(kapell.get_current_dir().expect("a folder")).stdin(std::process::Stdio::null());
    for (name, value) in kapell.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    CommandOutput::of(&mut shell)
}

/// Returns all paths at or below a directory, including the directory.
fn paths_below(path: &Path) -> Vec<PathBuf> {
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("reads") {
            paths.extend(paths_below(&entry.expect("an entry").path()));
        }
    }
    paths
}

#[test]
fn written_files_are_private_with_any_umask() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", PLAN);
    let run = |arguments: &[&str]| {
        let ended = run_with_open_umask(&place, arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    // Connecting to an agent creates the state directory before it contains a journal.
    run(&["agents", "test"]);
    run(&["run", "plan.yaml", "--no-input"]);
    run(&["run", "plan.yaml", "--detach"]);
    run(&["run", "plan.yaml", "--no-input", "--journal", "new/other.db"]);
    let written = [paths_below(&place.path("state/kapell")), paths_below(&place.path("new"))].concat();
    for name in ["agents/research.log", "journal.db", "journal.logs"] {
        assert!(written.contains(&place.path("state/kapell").join(name)), "{name} is not in {written:?}");
    }
    for path in written {
        // A log can be removed, and a lease released, in the meantime.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn symbolic_links_are_rejected() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", PLAN).write("victim", "kept");
    fs::create_dir(place.path("elsewhere")).expect("creates");
    for name in ["j.logs", "j.db.leases"] {
        symlink(place.path("elsewhere"), place.path(name)).expect("links");
    }
    let detached = place.kapell(&["run", "plan.yaml", "--journal", "j.db", "--detach"]);
    assert!(detached.code == Some(1) && detached.stderr.contains("j.logs"), "{detached:?}");
    let driven = place.kapell(&["run", "plan.yaml", "--journal", "j.db", "--no-input"]);
    assert!(driven.code == Some(1) && driven.stderr.contains("j.db.leases"), "{driven:?}");

    fs::create_dir_all(place.path("state/kapell/agents")).expect("creates");
    symlink(place.path("victim"), place.path("state/kapell/agents/research.log")).expect("links");
    let logged = place.kapell(&["run", "plan.yaml", "--journal", "other.db", "--no-input"]);
    assert_eq!(logged.code, Some(0), "{logged:?}");
    assert_eq!(fs::read_to_string(place.path("victim")).expect("reads"), "kept");
    assert!(fs::read_dir(place.path("elsewhere")).expect("reads").next().is_none());
}

#[test]
fn special_files_are_rejected() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", PLAN);
    assert!(Command::new("mkfifo").arg(place.path("fifo")).status().expect("mkfifo starts").success());
    fs::create_dir(place.path("folder.yaml")).expect("creates");
    fs::create_dir(place.path("folder")).expect("creates");
    for (path, kind) in [("/dev/zero", "a device"), ("fifo", "a FIFO"), ("folder", "a directory")] {
        for arguments in [
            &["run", path, "--no-input"][..],
            &["validate", path],
            &["run", "plan.yaml", "--no-input", "--answers", path],
            &["run", "plan.yaml", "--no-input", "--params-file", path],
            &["run", "plan.yaml", "--no-input", "--agents", path],
        ] {
            let ended = place.kapell(arguments);
            assert_eq!(ended.code, Some(2), "{arguments:?} gave {ended:?}");
            assert!(ended.stderr.contains(kind), "{arguments:?} gave {ended:?}");
        }
    }
    for arguments in
        [&["run", "plan.yaml", "--journal", "fifo", "--no-input"][..], &["runs", "list", "--journal", "fifo"]]
    {
        let ended = place.kapell(arguments);
        assert!(matches!(ended.code, Some(1 | 2)) && ended.stderr.contains("fifo"), "{arguments:?} gave {ended:?}");
    }
}
