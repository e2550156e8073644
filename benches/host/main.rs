//! `cargo bench --bench host`: what kapell costs beside the least that the same work can cost on this machine.
//! Never runs for `cargo test`, and never leaves anything behind.

#[cfg(target_os = "linux")]
mod agent;
#[cfg(target_os = "linux")]
mod baseline;
#[cfg(target_os = "linux")]
mod comparison;
#[cfg(target_os = "linux")]
mod graph;
#[cfg(target_os = "linux")]
mod in_process;
#[cfg(target_os = "linux")]
mod instructions;
#[cfg(target_os = "linux")]
mod llm;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod servers;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod targets;
#[cfg(target_os = "linux")]
mod workload;

/// What can fail here ends the program with its reason.
type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    options::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("measuring a process without its children needs Linux");
}
