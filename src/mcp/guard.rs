//! Owns process groups: puts each child into one, signals it, and sees to it that none outlives the host.
//! Never speaks with a child.
//!
//! `PR_SET_PDEATHSIG` reaches only the host's own children, and no code of the host runs after `SIGKILL`. So the host
//! forks a guard, which waits at the end of a pipe that only the host holds open, and kills every process group that
//! was reported to it when the pipe closes, however the host ended.
//!
//! The only module of the house with unsafe code: `fork`, `pre_exec` and `kill` have no safe form.
#![allow(unsafe_code)]

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::{AsRawFd as _, RawFd},
    sync::OnceLock,
};

use libc::{c_int, c_void, pid_t};
use tokio::process::Command;

use crate::system::process::OwnChild;

/// Most process groups that the guard can hold: far more than a run has agents. Beyond that a child is covered by
/// `PR_SET_PDEATHSIG` alone.
const MAX_GROUPS: usize = 4_096;

/// The write end of the guard's pipe, or the error number with which starting it failed.
static GUARD: OnceLock<Result<PipeWriter, i32>> = OnceLock::new();

/// What to tell a process group.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    /// Please end.
    Terminate,
    /// End now.
    Kill,
}

/// Makes this process the leader of a session without a terminal, so that the end of a terminal is not its own.
///
/// # Errors
/// When it leads a process group already, which a process that another program started does not.
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

/// Starts the guard, once for the process; later calls do nothing.
///
/// # Errors
/// When the system gives no pipe or no process.
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
    // A host that must never block writes into it.
    // SAFETY: the descriptor is open, it belongs to `writer`.
    if unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // Everything that the guard needs is allocated before the fork: after it, only async-signal-safe calls are allowed.
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
    // For good: nobody waits for the guard, and it ends after the host.
    std::mem::forget(OwnChild::new(guard));
    Ok(writer)
}

/// The guard's whole life. A positive number on the pipe is a new group, a negative one a group that is gone.
///
/// # Safety
/// Only in a freshly forked process: it closes every descriptor and never returns. It makes async-signal-safe calls
/// only, and allocates nothing.
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

/// A child that is about to be spawned: it reports itself to the guard before it becomes another program.
#[derive(Debug)]
pub(super) struct GuardRegistration {
    report_reader: PipeReader,
}

impl GuardRegistration {
    /// Takes back what a child reported whose `exec` failed, or the guard would hold a number that the system may give
    /// to a stranger. `command` is dropped first: it holds the other end of the pipe.
    pub(super) fn cancel(mut self, command: Command) {
        drop(command);
        let mut pid = [0; size_of::<pid_t>()];
        if self.report_reader.read_exact(&mut pid).is_ok() {
            send_to_guard(-pid_t::from_ne_bytes(pid));
        }
    }
}

/// Makes the child of `command` the leader of its own session and process group, known to the guard, killed with the host's thread
/// that spawns it. That thread must be the runtime's, never one of its blocking pool, which ends when idle.
///
/// # Errors
/// When the guard cannot be started or there is no pipe left.
pub(super) fn register(command: &mut Command) -> io::Result<GuardRegistration> {
    let guard = guard_pipe()?.as_raw_fd();
    let (reports, report) = io::pipe()?;
    let host = std::process::id();
    let before_exec = move || {
        // SAFETY: async-signal-safe calls only; the descriptors are open until `exec` closes them, and each write is
        // of a number that lives on the stack.
        unsafe {
            // Leads a group of its own, and has no terminal into which it could type answers.
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
            // A guard that somebody killed must not take the child with it.
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

/// Tells the guard that nothing of the group is left.
pub(super) fn unregister(group: u32) {
    if let Ok(group) = pid_t::try_from(group) {
        send_to_guard(-group);
    }
}

fn send_to_guard(message: pid_t) {
    if let Some(Ok(writer)) = GUARD.get() {
        // Fails only when the guard was killed, and then there is nobody to tell.
        let _ = (&*writer).write(&message.to_ne_bytes());
    }
}

/// Sends `signal` to every process of the group. Does nothing when the group is gone.
pub(super) fn signal(group: u32, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    kill(group, number);
}

/// Whether no process of the group is left, zombies included.
pub(super) fn is_group_empty(group: u32) -> bool {
    !kill(group, 0)
}

fn kill(group: u32, number: c_int) -> bool {
    match pid_t::try_from(group) {
        // SAFETY: a plain system call; numbers up to 1 would mean other processes than the group's.
        Ok(group) if group > 1 => unsafe { libc::kill(-group, number) == 0 },
        _ => false,
    }
}
