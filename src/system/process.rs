//! Hardens the host's process, and determines the ancestors of processes.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::{fmt, fs};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, User, getuid};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::environment;

/// The default process name of the host.
const HOST_NAME: &str = "kapell";

/// The maximum number of ancestors that are visited.
const MAX_ANCESTORS: usize = 256;

/// Denies other processes of the same user access to this one: no debugger, no `/proc/PID/mem` and `/proc/PID/environ`,
/// and no core dump.
pub fn harden() {
    #[cfg(target_os = "linux")]
    // Errors are ignored: the process is as safe as before, and logging has not started yet.
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Makes this process the parent of orphaned descendants, so that agents cannot leave its process tree.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
        tracing::warn!(%error, "descendants of agents can leave the host's process tree");
    }
}

/// The child processes that the host started and waits for.
static OWN_CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A registration of a child process that the host waits for, removed on drop.
#[derive(Debug)]
pub struct OwnChild(u32);

impl OwnChild {
    /// Registers a child process, right after its start.
    pub fn new(pid: u32) -> Self {
        OWN_CHILDREN.lock().insert(pid);
        Self(pid)
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        OWN_CHILDREN.lock().remove(&self.0);
    }
}

/// Reaps adopted processes that have exited.
pub fn reap_orphans() {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return };
    let own = OWN_CHILDREN.lock().clone();
    for thread in threads.flatten() {
        let Ok(children) = fs::read_to_string(thread.path().join("children")) else { continue };
        for child in children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            if !own.contains(&child) {
                reap(child);
            }
        }
    }
}

fn reap(child: u32) {
    if let Ok(child) = i32::try_from(child) {
        // Running processes are not affected, and errors need no handling.
        let _ = waitpid(Pid::from_raw(child), Some(WaitPidFlag::WNOHANG));
    }
}

/// Reaps the adopted processes of a process group that have exited.
pub fn reap_group(group: u32) {
    let Ok(group) = i32::try_from(group) else { return };
    for _ in 0..MAX_ANCESTORS {
        match waitpid(Pid::from_raw(-group), Some(WaitPidFlag::WNOHANG)) {
            Ok(status) if status.pid().is_some() => {}
            _ => return,
        }
    }
}

/// A process, distinguished from later ones with the same ID by its start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process ID.
    pub pid: u32,
    /// The start time in clock ticks since boot.
    pub started: u64,
    /// The name of the program.
    pub name: String,
}

impl Process {
    /// Returns the process with an ID.
    pub fn find(pid: u32) -> Option<Self> {
        Some(ProcessStat::read(pid)?.process)
    }

    /// Returns whether the process may be a host, according to its name. A script that starts the host can have the
    /// same name.
    fn may_be_host(&self, own_name: &str) -> bool {
        let is_named = self.name == HOST_NAME || self.name == own_name;
        // The programs of other users and of hosts cannot be read; hosts are not dumpable.
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).ok().filter(|_| self.is_running());
        let is_other = |program: PathBuf| {
            let starts_like_host =
                program.file_name().is_some_and(|name| name.as_bytes().starts_with(HOST_NAME.as_bytes()));
            !starts_like_host && fs::read_link("/proc/self/exe").is_ok_and(|own| own != program)
        };
        is_named && !program.is_some_and(is_other)
    }

    /// Returns whether the process is still running.
    fn is_running(&self) -> bool {
        Self::find(self.pid).is_some_and(|current| current.started == self.started)
    }
}

/// The parsed contents of `/proc/PID/stat`.
struct ProcessStat {
    process: Process,
    parent: u32,
    /// The device number of the terminal; 0 without one.
    terminal: u32,
}

impl ProcessStat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // A name may contain spaces and parentheses.
        let (pid, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let process = Process { pid: pid.parse().ok()?, started: fields.get(19)?.parse().ok()?, name: name.to_owned() };
        Some(Self { process, parent: fields.get(1)?.parse().ok()?, terminal: fields.get(4)?.parse().ok()? })
    }

    /// Returns the name of the terminal.
    fn terminal(&self) -> Option<String> {
        let (major, minor) = (self.terminal >> 8 & 0xfff, self.terminal & 0xff | self.terminal >> 12 & 0xfff00);
        match major {
            0 => None,
            136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
            4 => Some(format!("tty{minor}")),
            _ => Some(format!("terminal {major}:{minor}")),
        }
    }
}

/// Returns a process and its ancestors, nearest first.
fn ancestry(pid: u32) -> Vec<Process> {
    let (mut processes, mut next) = (Vec::new(), pid);
    while next != 0 && processes.len() < MAX_ANCESTORS {
        let Some(stat) = ProcessStat::read(next) else {
            // A process that cannot be read, such as one of another user under `hidepid`.
            processes.push(Process { pid: next, started: 0, name: String::new() });
            break;
        };
        processes.push(stat.process);
        next = stat.parent;
    }
    processes
}

/// The sender of a request to a run, as described by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSender {
    /// The process.
    process: Process,
    /// The name of the user.
    user: String,
    /// The terminal, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terminal: Option<String>,
    /// The ancestors, nearest first.
    ancestors: Vec<Process>,
    /// Whether the process inherited an agent's environment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    marked: bool,
    /// Whether a person acted in a page that the process serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    in_page: bool,
}

impl fmt::Display for RequestSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terminal = self.terminal.as_deref().unwrap_or("no terminal");
        let way = if self.in_page { "page" } else { "command" };
        write!(f, "{way} (process {}, user {}, {terminal})", self.process.pid, self.user)
    }
}

impl RequestSender {
    /// Describes this process.
    pub fn current() -> Self {
        let pid = std::process::id();
        let mut lineage = ancestry(pid).into_iter();
        let process = lineage.next().unwrap_or(Process { pid, started: 0, name: String::new() });
        let ancestors: Vec<_> = lineage.collect();
        let user = match User::from_uid(getuid()) {
            Ok(Some(user)) => user.name,
            _ => getuid().to_string(),
        };
        let marked = environment::variable(environment::AGENT_VARIABLE).is_some()
            || ancestors.iter().any(|ancestor| has_agent_marker(ancestor.pid));
        Self {
            terminal: ProcessStat::read(pid).and_then(|stat| stat.terminal()),
            process,
            user,
            ancestors,
            marked,
            in_page: false,
        }
    }

    /// Returns the sender of what a person does in a page that this process serves.
    #[must_use]
    pub fn from_page(self) -> Self {
        Self { in_page: true, ..self }
    }

    /// Returns the reason why this process must not act for a person, because it belongs to an agent. `drivers` are the
    /// processes that are known to drive runs.
    pub fn objection(&self, drivers: &[u32]) -> Option<String> {
        if drivers.contains(&self.process.pid) {
            return Some("it names the process that drives the run".to_owned());
        }
        let is_host = |ancestor: &&Process| drivers.contains(&ancestor.pid) || ancestor.may_be_host(&self.process.name);
        match self.ancestors.iter().find(is_host) {
            Some(host) => Some(format!("it was started by an agent of the kapell host in process {}", host.pid)),
            None => self.marked.then(|| "it was started by an agent".to_owned()),
        }
    }

    /// Returns the reason why the request must be denied, according to the current state of the system. `driver` is the
    /// process that drives the run, if it already did so when the request was made.
    pub fn current_objection(&self, driver: Option<u32>) -> Option<String> {
        let drivers: Vec<u32> = driver.into_iter().collect();
        if let Some(objection) = self.objection(&drivers) {
            return Some(objection);
        }
        // The sender's description of itself proves nothing, so the remaining ancestors are looked up again.
        let line = std::iter::once(&self.process).chain(&self.ancestors);
        let Some(nearest) = line.into_iter().find(|process| process.pid > 1 && process.is_running()) else {
            return driver.map(|_| "its process ended before it could be checked".to_owned());
        };
        let mut ancestors = ancestry(nearest.pid);
        if *nearest == self.process {
            ancestors.remove(0);
        }
        Self { ancestors, ..self.clone() }.objection(&drivers)
    }
}

/// Returns whether the initial environment of a process contains the marker of agents.
fn has_agent_marker(pid: u32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let is_marker = |entry: &[u8]| {
        entry.strip_prefix(environment::AGENT_VARIABLE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    environment.split(|byte| *byte == 0).any(is_marker)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn process(pid: u32, name: &str) -> Process {
        Process { pid, started: 7, name: name.to_owned() }
    }

    fn sender(process: Process, ancestors: Vec<Process>) -> RequestSender {
        RequestSender { process, user: "anna".to_owned(), terminal: None, ancestors, marked: false, in_page: false }
    }

    #[test]
    fn stat_lines_with_unusual_names_are_parsed() {
        let line = "42 (a ) (b) S 7 42 42 34817 42 0 0 0 0 0 0 0 0 0 20 0 1 0 98765 0 0";
        let stat = ProcessStat::parse(line).expect("parses");
        assert_eq!(stat.process, Process { pid: 42, started: 98_765, name: "a ) (b".to_owned() });
        assert_eq!((stat.parent, stat.terminal().as_deref()), (7, Some("pts/1")));
        assert!(ProcessStat::parse("42 (cut").is_none());
    }

    #[test]
    fn descendants_of_hosts_are_recognized() {
        let person = sender(process(9, "kapell"), vec![process(5, "bash"), process(1, "init")]);
        assert_eq!(person.objection(&[]), None);
        let in_agent = sender(process(9, "kapell"), vec![process(8, "python3"), process(5, "kapell")]);
        let by_host = "it was started by an agent of the kapell host in process 5";
        assert_eq!(in_agent.objection(&[]).as_deref(), Some(by_host));
        let renamed = sender(process(9, "kap"), vec![process(8, "python3"), process(5, "kap")]);
        assert_eq!(renamed.objection(&[]).as_deref(), Some(by_host));
        assert_eq!(person.objection(&[5]).as_deref(), Some(by_host));
        let planted = person.objection(&[9]);
        assert_eq!(planted.as_deref(), Some("it names the process that drives the run"));
        let marked = RequestSender { marked: true, ..person };
        assert_eq!(marked.objection(&[]).as_deref(), Some("it was started by an agent"));
    }

    #[test]
    fn script_named_like_the_host_is_not_a_host() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join(HOST_NAME);
        std::os::unix::fs::symlink("/bin/cat", &script).expect("linked");
        let mut child = Command::new(&script).stdin(Stdio::piped()).spawn().expect("cat starts");
        let running = Process::find(child.id()).expect("a process");
        assert_eq!((running.name.as_str(), running.may_be_host("other")), (HOST_NAME, false));
        // The program of an exited process cannot be read.
        let exited = Process { started: running.started + 1, ..running };
        assert!(exited.may_be_host("other"));
        drop(child.stdin.take());
        child.wait().expect("ends");
    }

    #[test]
    fn requests_are_checked_against_the_real_ancestry() {
        let me = std::process::id();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat starts");
        let running = Process::find(child.id()).expect("a process");
        let by_me = format!("it was started by an agent of the kapell host in process {me}");
        // The sender's claims about its ancestors are not trusted.
        let impostor = sender(running.clone(), vec![process(1, "init")]);
        assert_eq!(impostor.current_objection(Some(me)).as_deref(), Some(&*by_me));
        assert_eq!(impostor.current_objection(None), None);
        // An exited sender is judged by its nearest running ancestor.
        let exited = sender(process(running.pid, "kapell"), vec![running]);
        assert_eq!(exited.current_objection(Some(me)).as_deref(), Some(&*by_me));
        drop(child.stdin.take());
        child.wait().expect("ends");
        let ended = Some("its process ended before it could be checked");
        assert_eq!(impostor.current_objection(Some(me)).as_deref(), ended);
        assert_eq!(impostor.current_objection(None), None);
    }

    #[test]
    fn own_process_is_described_with_its_ancestors() {
        let sender = RequestSender::current();
        assert_eq!(sender.process.pid, std::process::id());
        assert!(sender.ancestors.iter().all(|ancestor| ancestor.pid != std::process::id()));
        assert_eq!(sender.objection(&[]), None, "{sender:?}");
    }
}
