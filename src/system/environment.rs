//! Saves the initial environment of the process, and removes potential secrets from the process.
//!
//! Other processes of the same user can read `/proc/PID/environ` and the environment of every child. Therefore, the
//! variables that neither the host nor its libraries need are copied to the heap, removed, and overwritten in their
//! original memory.
#![allow(unsafe_code)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::OnceLock;

/// Marks the environment of every agent process, so that its descendants can be recognized.
pub const AGENT_VARIABLE: &str = "KAPELL_AGENT";

/// The variables that stay in the process. The host, its libraries, and browsers read them, and none is a secret.
const KEPT_VARIABLES: [&str; 41] = [
    AGENT_VARIABLE,
    "BROWSER",
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DESKTOP_SESSION",
    "DISPLAY",
    "FORCE_COLOR",
    "HOME",
    "KAPELL_DEMO_DIR",
    "KAPELL_DEMO_EFFECTS",
    "KAPELL_LOG",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LINES",
    "LLVM_PROFILE_FILE",
    "LOGNAME",
    "MALLOC_ARENA_MAX",
    "NO_COLOR",
    "NO_PROXY",
    "PATH",
    "PWD",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "RUST_MIN_STACK",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TERM_PROGRAM",
    "TMPDIR",
    "TZ",
    "TZDIR",
    "USER",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "no_proxy",
];

/// The proxy variables of the HTTP client, whose URLs can contain a password. They stay in the process, but their
/// original memory is overwritten.
pub const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy", "https_proxy"];

/// The initial environment of the process.
static INITIAL_VARIABLES: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();

/// Removes secrets from the environment of the process. Must be called before a second thread starts; later calls do
/// nothing.
pub fn seal() {
    if INITIAL_VARIABLES.set(env::vars_os().collect()).is_err() {
        return;
    }
    let initial = initial_strings();
    for (name, value) in variables() {
        // SAFETY: this is the only thread, so no other one can read the environment meanwhile.
        unsafe {
            if is_one_of(&PROXY_VARIABLES, &name) {
                env::set_var(&name, &value);
            } else if !is_kept(&name) {
                env::remove_var(&name);
            }
        }
    }
    for (start, length) in initial {
        // SAFETY: the string was just found here, it is this process's to write, and nothing refers to it now.
        unsafe { std::ptr::write_bytes(start, 0, length) };
    }
}

/// Returns the initial value of the variable.
pub fn variable(name: &str) -> Option<OsString> {
    match INITIAL_VARIABLES.get() {
        Some(variables) => variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        None => env::var_os(name),
    }
}

/// Returns whether terminals show UTF-8, by the variables of the locale. It is assumed if none is set.
pub fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| variable(name)).find(|value| !value.is_empty());
    set.is_none_or(|value| {
        let value = value.to_string_lossy().to_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// Returns the initial environment, for a process that replaces this one.
pub fn variables() -> Vec<(OsString, OsString)> {
    INITIAL_VARIABLES.get().cloned().unwrap_or_else(|| env::vars_os().collect())
}

fn is_kept(name: &OsStr) -> bool {
    let is_family = [&b"LC_"[..], b"XDG_"].iter().any(|prefix| name.as_bytes().starts_with(prefix));
    // The headers of an exporter contain its key.
    let of_exporter = name.as_bytes().starts_with(b"OTEL_") && !name.as_bytes().ends_with(b"_HEADERS");
    is_family || of_exporter || is_one_of(&KEPT_VARIABLES, name)
}

fn is_one_of(names: &[&str], name: &OsStr) -> bool {
    names.iter().any(|known| name == *known)
}

/// Returns the addresses and lengths of the original strings of the variables that must be overwritten.
#[cfg(target_os = "linux")]
fn initial_strings() -> Vec<(*mut u8, usize)> {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let mut strings = Vec::new();
    // SAFETY: the C library keeps a list of strings here that ends with a null pointer, and nothing changes it now.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = std::ffi::CStr::from_ptr(*entry).to_bytes();
            let name = text.split(|byte| *byte == b'=').next().unwrap_or_default();
            if !is_kept(OsStr::from_bytes(name)) {
                strings.push(((*entry).cast::<u8>(), text.len()));
            }
            entry = entry.add(1);
        }
    }
    strings
}

#[cfg(not(target_os = "linux"))]
fn initial_strings() -> Vec<(*mut u8, usize)> {
    Vec::new()
}
