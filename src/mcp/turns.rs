//! Gives the calls of one agent their turns on its processes, so that a request of the agent belongs to one call.
//! Never starts a process, and never makes a call.
//!
//! Over pipes, nothing says which of several calls makes an agent ask back. Most agents never ask, so calls share one
//! process until the agent is seen to ask; from then on each process takes one call at a time. A request that comes
//! while several calls share the process is answered, but charged to none of them: waiting until one call is left
//! would hold up an agent that waits for the answer, and would be a guess where a call does not wait. That this is
//! rare is what the trial is for: the first call goes alone for a moment, and most agents that ask do so at once.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::lock;

/// How long the first call of an agent goes alone: long enough for an agent that asks early on, and short beside what
/// calls that are worth running in parallel take.
const TRIAL: Duration = Duration::from_millis(600);

/// Whether an agent was seen to ask back in a way that does not say for which call. Once it was, that holds for the
/// rest of the run, over all its processes.
#[derive(Debug, Default)]
pub(super) struct AsksBack(watch::Sender<bool>);

impl AsksBack {
    /// It was seen to.
    pub(super) fn noticed(&self) {
        self.0.send_if_modified(|known| !std::mem::replace(known, true));
    }

    fn is_known(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is known.
    async fn known(&self) {
        // An error would mean that the sender is gone, which is borrowed here.
        let _ = self.0.subscribe().wait_for(|known| *known).await;
    }
}

/// The turns of one agent's calls.
#[derive(Debug)]
pub(super) struct Turns {
    pub(super) asks_back: AsksBack,
    /// Held by the call whose turn is next; the others queue behind it, first come, first served. As long as the calls
    /// that are under way on the agent, which the run bounds.
    line: tokio::sync::Mutex<()>,
    /// Tells the call whose turn is next that a process may be free.
    freed: Notify,
    /// Held for a look and a change.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The processes that no call is on, by number.
    idle: BTreeSet<usize>,
    /// The calls that share process 0.
    sharing: usize,
    trial: Trial,
}

/// The first call, which goes alone for a moment.
#[derive(Debug, Clone, Copy)]
enum Trial {
    NotBegun,
    Until(Instant),
    Over,
}

/// The right to make one call on one process, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    /// The number of the process, below the number that the turns were made for.
    pub(super) process: usize,
    /// Whether other calls may be on that process.
    pub(super) manner: Manner,
}

/// How a call is on its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// With others.
    Shared,
    /// By itself.
    Alone,
}

/// Why there is no turn yet.
struct Wait {
    /// The end of the trial, if that is what is waited for.
    trial_ends: Option<Instant>,
}

impl Turns {
    /// Turns on up to `processes` processes; at least one.
    pub(super) fn new(processes: usize) -> Self {
        let state = State { idle: (0..processes.max(1)).collect(), sharing: 0, trial: Trial::NotBegun };
        Self {
            asks_back: AsksBack::default(),
            line: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Waits for a turn. Dropping the future gives up the place in the line.
    pub(super) async fn take(&self) -> Turn<'_> {
        let _front = self.line.lock().await;
        loop {
            // Only the front waits for it, so that one stored notice is enough.
            let freed = self.freed.notified();
            match self.next() {
                Ok(turn) => return turn,
                Err(Wait { trial_ends: None }) => freed.await,
                Err(Wait { trial_ends: Some(ends) }) => tokio::select! {
                    () = freed => {}
                    () = self.asks_back.known() => {}
                    () = tokio::time::sleep_until(ends) => {}
                },
            }
        }
    }

    fn next(&self) -> Result<Turn<'_>, Wait> {
        let mut state = lock(&self.state);
        if self.asks_back.is_known() {
            let process = state.idle.pop_first().ok_or(Wait { trial_ends: None })?;
            return Ok(Turn { turns: self, process, manner: Manner::Alone });
        }
        let now = Instant::now();
        state.trial = match state.trial {
            Trial::NotBegun => Trial::Until(now + TRIAL),
            Trial::Until(ends) if now < ends => return Err(Wait { trial_ends: Some(ends) }),
            Trial::Until(_) | Trial::Over => Trial::Over,
        };
        state.idle.remove(&0);
        state.sharing += 1;
        Ok(Turn { turns: self, process: 0, manner: Manner::Shared })
    }
}

impl Turn<'_> {
    /// Ends the turn, and with it the use of its process: no call gets it any more. Process 0 is not to be retired, as
    /// somebody has to take the calls.
    pub(super) fn retire_process(self) {
        // What would make the process idle again is left out.
        std::mem::forget(self);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.turns.state);
        if self.manner == Manner::Shared {
            state.sharing -= 1;
            // If the trial is still on, this was the first call.
            state.trial = Trial::Over;
            if state.sharing > 0 {
                return;
            }
        }
        state.idle.insert(self.process);
        drop(state);
        self.turns.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use super::*;

    /// The turn, if it can be had at once.
    async fn at_once<'t>(turn: &mut std::pin::Pin<&mut impl Future<Output = Turn<'t>>>) -> Option<Turn<'t>> {
        futures::future::poll_fn(|context| match turn.as_mut().poll(context) {
            Poll::Ready(turn) => Poll::Ready(Some(turn)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn place(turn: &Turn<'_>) -> (usize, Manner) {
        (turn.process, turn.manner)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_share_a_process_after_the_first_went_alone_for_a_moment() {
        let turns = Turns::new(4);
        let first = turns.take().await;
        let start = Instant::now();
        let second = turns.take().await;
        assert_eq!(start.elapsed(), TRIAL);
        let third = turns.take().await;
        assert_eq!(start.elapsed(), TRIAL);
        assert_eq!([place(&first), place(&second), place(&third)], [(0, Manner::Shared); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_trial_is_over_when_the_first_call_is() {
        let turns = Turns::new(1);
        let first = turns.take().await;
        let start = Instant::now();
        let mut second = pin!(turns.take());
        assert!(at_once(&mut second).await.is_none());
        drop(first);
        let (second, third) = (second.await, turns.take().await);
        assert_eq!([place(&second), place(&third)], [(0, Manner::Shared); 2]);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_asks_gets_one_call_a_process_in_the_order_of_the_calls() {
        let turns = Turns::new(2);
        let first = turns.take().await;
        let (mut second, mut third, mut fourth) = (pin!(turns.take()), pin!(turns.take()), pin!(turns.take()));
        assert!(at_once(&mut second).await.is_none());
        turns.asks_back.noticed();
        let second = at_once(&mut second).await.unwrap();
        assert_eq!(place(&second), (1, Manner::Alone));
        assert!(at_once(&mut third).await.is_none() && at_once(&mut fourth).await.is_none());
        drop(first);
        assert!(at_once(&mut fourth).await.is_none());
        let third = at_once(&mut third).await.unwrap();
        assert_eq!(place(&third), (0, Manner::Alone));
        drop((second, third));
        assert_eq!(place(&fourth.await), (0, Manner::Alone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_process_is_taken_alone_only_when_all_calls_have_left_it() {
        let turns = Turns::new(1);
        let sharing = [turns.take().await, turns.take().await, turns.take().await];
        turns.asks_back.noticed();
        let mut next = pin!(turns.take());
        for turn in sharing {
            assert!(at_once(&mut next).await.is_none());
            drop(turn);
        }
        assert_eq!(place(&next.await), (0, Manner::Alone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_retired_gets_no_calls() {
        let turns = Turns::new(2);
        turns.asks_back.noticed();
        let first = turns.take().await;
        turns.take().await.retire_process();
        let mut next = pin!(turns.take());
        assert!(at_once(&mut next).await.is_none());
        drop(first);
        assert_eq!(place(&next.await), (0, Manner::Alone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_gives_up_waiting_holds_up_nobody() {
        let turns = Turns::new(1);
        turns.asks_back.noticed();
        let busy = turns.take().await;
        let mut patient = Box::pin(turns.take());
        let mut impatient = Box::pin(turns.take());
        let mut last = Box::pin(turns.take());
        assert!(at_once(&mut impatient.as_mut()).await.is_none());
        assert!(at_once(&mut patient.as_mut()).await.is_none());
        assert!(at_once(&mut last.as_mut()).await.is_none());
        drop(impatient);
        drop(busy);
        let turn = patient.await;
        assert!(at_once(&mut last.as_mut()).await.is_none());
        drop(turn);
        assert_eq!(place(&last.await), (0, Manner::Alone));
    }
}
