//! Kills a host in the middle of its work, and checks that its children end too.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use support::{RecordingHost, is_running, odd_agent, pool, process, spec, wait_until_gone};

/// The variable that makes this process the host. Its value is the file for the process IDs of the agents.
const HOST: &str = "KAPELL_TEST_GUARD_HOST";

/// The host that the test below kills; not a test by itself.
#[tokio::test]
async fn host() {
    let Ok(file) = std::env::var(HOST) else { return };
    let mut stubborn = odd_agent("stubborn");
    let kapell::model::Transport::Stdio(child) = &mut stubborn.transport else { unreachable!() };
    child.args.push(file);
    // A child whose `exec` fails leaves no entry in the guard.
    let missing = spec("missing", kapell::model::Transport::Stdio(process("/no/such/program", &[])));
    let pool = pool(vec![stubborn, missing], &RecordingHost::new());
    assert!(pool.connect(&"missing".into()).await.is_err());
    pool.connect(&"odd".into()).await.unwrap();
    println!("ready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn killed_hosts_leave_no_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host", "--nocapture"])
        .env(HOST, &file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(host.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the host ended");
    }
    let pids = pids(&file);
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| is_running(*pid)), "{pids:?}");
    host.kill().unwrap();
    host.wait().unwrap();
    wait_until_gone(&pids).await;
    // Neither the guard nor a child holds the host's output open.
    let closed = tokio::task::spawn_blocking(move || output.read_to_end(&mut Vec::new()));
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap().unwrap().unwrap();
}

fn pids(file: &Path) -> Vec<u32> {
    std::fs::read_to_string(file).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect()
}
