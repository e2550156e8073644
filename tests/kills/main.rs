//! Kills the host at random moments of a plan of fifty tasks, resumes it until it ends by itself, and holds what the
//! agents say that they did against what the journal says.
#![allow(missing_docs)]

mod audit;
mod case;
mod dice;
mod journal;
mod life;
mod servers;
mod standstill;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod support;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use case::{Case, EXPECTED};
use dice::Dice;

/// As many kills as the suite must survive unless [`KILLS`] says otherwise.
const USUAL_KILLS: usize = 200;
/// The variable that asks for another number of kills.
const KILLS: &str = "KAPELL_KILLS";
/// Cases at the same time; each has a host and three servers.
const ABREAST: usize = 3;
/// The variable that names the seed to begin with, as a failed test printed it.
const SEED: &str = "KAPELL_KILL_SEED";

#[test]
fn nothing_is_lost_and_nothing_is_doubled_however_often_the_host_is_killed() {
    let next = AtomicU64::new(first_seed());
    let killed = AtomicUsize::new(0);
    let wanted = std::env::var(KILLS).map_or(USUAL_KILLS, |kills| kills.parse().expect("a whole number"));
    std::thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                while killed.load(Ordering::Relaxed) < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let mut case = Case::new(&format!("{SEED}={seed}"));
                    let kills = case.survive(Dice::new(seed));
                    case.audit(&EXPECTED);
                    eprintln!("{kills} kills, {}", case.summary());
                    killed.fetch_add(kills, Ordering::Relaxed);
                }
            });
        }
    });
    eprintln!("{} kills", killed.into_inner());
}

/// A seed that no suite before had, unless one is asked for.
fn first_seed() -> u64 {
    match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("a whole number"),
        Err(_) => {
            let since_epoch = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
            since_epoch.as_secs()
        }
    }
}
