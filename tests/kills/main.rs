//! Kills the host at random moments of a plan of more than fifty tasks, resumes it until it ends by itself, and compares the
//! agents' record with the journal.
#![allow(missing_docs)]

mod audit;
mod case;
mod journal;
mod process;
mod rng;
mod schedules;
mod servers;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is shared with `tests/it`, which uses all of it")]
mod support;
mod suspended_host;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use case::{CrashCase, EXPECTED};
use rng::Rng;

/// The number of kills that the suite must survive unless [`MIN_TOTAL_KILLS`] sets another.
const USUAL_KILLS: usize = 200;
/// The variable that sets another number of kills.
const MIN_TOTAL_KILLS: &str = "KAPELL_KILLS";
/// The number of parallel cases; each has a host and three servers.
const PARALLEL_CASES: usize = 3;
/// The variable with the first seed, as a failed test printed it.
const SEED_VARIABLE: &str = "KAPELL_KILL_SEED";

#[test]
fn crashes_lose_nothing_and_double_nothing() {
    let next = AtomicU64::new(first_seed());
    let killed = AtomicUsize::new(0);
    let wanted = wanted_kills();
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL_CASES {
            scope.spawn(|| {
                while killed.load(Ordering::Relaxed) < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let mut case = CrashCase::new(&format!("{SEED_VARIABLE}={seed}"));
                    let kills = case.run_with_kills(Rng::new(seed));
                    case.audit(&EXPECTED);
                    eprintln!("{kills} kills, {}", case.summary());
                    killed.fetch_add(kills, Ordering::Relaxed);
                }
            });
        }
    });
    eprintln!("{} kills", killed.into_inner());
}

/// Returns the number of kills that the suite must survive.
fn wanted_kills() -> usize {
    std::env::var(MIN_TOTAL_KILLS).map_or(USUAL_KILLS, |kills| kills.parse().expect("a whole number"))
}

/// Returns a new seed, unless the variable sets one.
fn first_seed() -> u64 {
    match std::env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse().expect("a whole number"),
        Err(_) => {
            let since_epoch = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
            since_epoch.as_secs()
        }
    }
}
