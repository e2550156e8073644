//! `cargo bench --bench host`: the cost of kapell compared with the least possible cost of the same work on this
//! machine. It runs only for `cargo bench`, and removes its files.

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

/// A result whose error ends the program.
type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    options::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("measuring a process without its children needs Linux");
}
