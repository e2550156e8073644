//! Owns process groups: puts each child into one, signals it, and ensures that none outlives the host.
//!
//! `PR_SET_PDEATHSIG` reaches only the host's own children, and no code of the host runs after `SIGKILL`. So the host
//! forks a guard, which reads a pipe that only the host holds open. When the pipe closes, however the host ended, the
//! guard kills every process group that was reported to it.
//!
//! This is the only module with unsafe code: `fork`, `pre_exec`, and `kill` have no safe form.
#![allow(unsafe_code)]

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::OnceLock;

use libc::{c_int, c_void, pid_t};
use tokio::process::Command;

use crate::system::process::OwnChild;

/// The maximum number of process groups that the guard can hold, far more than a run has agents. Any further child is
/// covered by `PR_SET_PDEATHSIG` alone.
const MAX_GROUPS: usize = 4_096;

/// The write end of the guard's pipe, or the error number of its failed start.
static GUARD: OnceLock<Result<PipeWriter, i32>> = OnceLock::new();

/// A signal to a process group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    /// A request to end, which the processes can handle.
    Terminate,
    /// An immediate end, which the processes cannot handle.
    Kill,
}

/// Makes this process the leader of a session without a terminal, so that closing the terminal does not end it.
///
/// # Errors
/// Returns an error if this process already leads a process group. A process that another program started does not.
pub fn detach_from_terminal() -> io::Result<()> {
    // SAFETY: a plain system call.
    if unsafe { libc::setsid() } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns whether this process was started with hang-ups ignored, as `nohup` does.
pub fn ignores_hangup() -> bool {
    // SAFETY: without a new action the call only writes the old one, whose zeroed form is valid.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut before) == 0 && before.sa_sigaction == libc::SIG_IGN
    }
}

/// Starts the guard of this process; later calls do nothing.
///
/// # Errors
/// Returns an error if the system cannot create a pipe or a process.
pub fn start() -> io::Result<()> {
    guard_pipe().map(|_| ())
}

fn guard_pipe() -> io::Result<&'static PipeWriter> {
    GUARD
        .get_or_init(|| fork_guard().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)))
        .as_ref()
        .map_err(|number| io::Error::from_raw_os_error(*number))
}

fn fork_guard() -> io::Result<PipeWriter> {
    let (reader, writer) = io::pipe()?;
    // The host writes into the pipe and must never block.
    // SAFETY: the descriptor is open, it belongs to `writer`.
    if unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // Everything that the guard needs is allocated before the fork. After it, only async-signal-safe calls are allowed.
    let mut groups = vec![0; MAX_GROUPS];
    let descriptor = reader.as_raw_fd();
    // SAFETY: zeroed sets are valid, and are written before they are read. Signals are blocked around the fork so that
    // no handler of the host runs in the guard.
    let (forked, before) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        (libc::fork(), before)
    };
    if forked == 0 {
        // SAFETY: this is the forked process, and `keep_watch` ends it.
        unsafe { run_guard(descriptor, &mut groups) }
    }
    let error = io::Error::last_os_error();
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    let Ok(guard) = u32::try_from(forked) else { return Err(error) };
    // Leaks the registration: the guard is never reaped, and it ends after the host.
    std::mem::forget(OwnChild::new(guard));
    Ok(writer)
}

/// Runs the guard until the pipe closes. A positive number on the pipe adds a group, a negative one removes a group.
///
/// # Safety
/// Call this only in a freshly forked process: it closes every descriptor and never returns. It makes async-signal-safe
/// calls only, and allocates nothing.
unsafe fn run_guard(pipe: RawFd, groups: &mut [pid_t]) -> ! {
    const MESSAGE_BYTES: usize = size_of::<pid_t>();
    let mut count = 0;
    // SAFETY: plain system calls on descriptors and signals of this process; `message` is as large as it is said to be.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        libc::dup2(pipe, 0);
        close_descriptors_from(1);
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        loop {
            let mut message: pid_t = 0;
            let read = libc::read(0, (&raw mut message).cast::<c_void>(), MESSAGE_BYTES);
            if read == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) {
                continue;
            }
            if usize::try_from(read) != Ok(MESSAGE_BYTES) {
                break;
            }
            if message > 1 && count < groups.len() {
                groups[count] = message;
                count += 1;
            } else if let Some(at) = groups[..count].iter().position(|group| *group == -message) {
                count -= 1;
                groups[at] = groups[count];
            }
        }
        for group in &groups[..count] {
            libc::kill(-*group, libc::SIGKILL);
        }
        libc::_exit(0)
    }
}

/// Closes `first` and every descriptor above it.
///
/// # Safety
/// Nothing in this process may use those descriptors afterwards.
unsafe fn close_descriptors_from(first: c_int) {
    // SAFETY: closing is what the caller asked for; a descriptor that is not open is an error without effect.
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) == 0 {
            return;
        }
        for descriptor in first..65_536 {
            libc::close(descriptor);
        }
    }
}

/// A child that is about to be spawned. It reports itself to the guard before it executes another program.
#[derive(Debug)]
pub(crate) struct GuardRegistration {
    report_reader: PipeReader,
}

impl GuardRegistration {
    /// Removes a child whose `exec` failed from the guard. Otherwise the guard would hold a process ID that the system
    /// may reuse. `command` is dropped first, since it holds the other end of the pipe.
    pub(crate) fn cancel(mut self, command: Command) {
        drop(command);
        let mut pid = [0; size_of::<pid_t>()];
        if self.report_reader.read_exact(&mut pid).is_ok() {
            send_to_guard(-pid_t::from_ne_bytes(pid));
        }
    }
}

/// Prepares `command` so that its child leads its own session and process group and is registered with the guard.
///
/// On Linux, the child is killed when the host's thread that spawns it ends. That thread must be the runtime's, never
/// one of its blocking pool, which ends when idle.
///
/// # Errors
/// Returns an error if the guard cannot be started or no pipe can be created.
pub(crate) fn register(command: &mut Command) -> io::Result<GuardRegistration> {
    let guard = guard_pipe()?.as_raw_fd();
    let (reports, report) = io::pipe()?;
    let host = std::process::id();
    let before_exec = move || {
        // SAFETY: async-signal-safe calls only; the descriptors are open until `exec` closes them, and each write is
        // of a number that lives on the stack.
        unsafe {
            // Leads its own group, and has no terminal that it could type answers into.
            if libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(io::Error::last_os_error());
            }
            // The host may have died before the line above took effect.
            if u32::try_from(libc::getppid()) != Ok(host) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            let pid = libc::getpid();
            let bytes = (&raw const pid).cast::<c_void>();
            // If the guard was killed, `SIGPIPE` must not kill the child.
            let before = libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::write(guard, bytes, size_of::<pid_t>());
            libc::write(report.as_raw_fd(), bytes, size_of::<pid_t>());
            libc::signal(libc::SIGPIPE, before);
        }
        Ok(())
    };
    // SAFETY: the closure keeps to what is allowed between `fork` and `exec`, as said above.
    unsafe { command.pre_exec(before_exec) };
    Ok(GuardRegistration { report_reader: reports })
}

/// Reports to the guard that the group is empty.
pub(crate) fn unregister(group: u32) {
    if let Ok(group) = pid_t::try_from(group) {
        send_to_guard(-group);
    }
}

fn send_to_guard(message: pid_t) {
    if let Some(Ok(writer)) = GUARD.get() {
        // Fails only if the guard was killed, and then its list of groups no longer matters.
        let _ = (&*writer).write(&message.to_ne_bytes());
    }
}

/// Sends `signal` to every process of the group. Does nothing if the group no longer exists.
pub(crate) fn signal(group: u32, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    kill(group, number);
}

/// Returns whether no process of the group remains, zombies included.
pub(crate) fn is_group_empty(group: u32) -> bool {
    !kill(group, 0)
}

fn kill(group: u32, number: c_int) -> bool {
    match pid_t::try_from(group) {
        // SAFETY: a plain system call; numbers up to 1 would mean other processes than the group's.
        Ok(group) if group > 1 => unsafe { libc::kill(-group, number) == 0 },
        _ => false,
    }
}
