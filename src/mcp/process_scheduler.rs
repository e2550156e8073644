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
const PROBE_WINDOW: Duration = Duration::from_millis(600);

/// Whether an agent was seen to ask back in a way that does not say for which call. Once it was, that holds for the
/// rest of the run, over all its processes.
#[derive(Debug, Default)]
pub(super) struct InteractiveFlag(watch::Sender<bool>);

impl InteractiveFlag {
    /// It was seen to.
    pub(super) fn set(&self) {
        self.0.send_if_modified(|known| !std::mem::replace(known, true));
    }

    fn is_interactive(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is known.
    async fn wait_until_set(&self) {
        // An error would mean that the sender is gone, which is borrowed here.
        let _ = self.0.subscribe().wait_for(|known| *known).await;
    }
}

/// The turns of one agent's calls.
#[derive(Debug)]
pub(super) struct ProcessScheduler {
    pub(super) interactive: InteractiveFlag,
    /// Held by the call whose turn is next; the others queue behind it, first come, first served. As long as the calls
    /// that are under way on the agent, which the run bounds.
    queue: tokio::sync::Mutex<()>,
    /// Tells the call whose turn is next that a process may be free.
    released: Notify,
    /// Held for a look and a change.
    state: Mutex<SchedulerState>,
}

#[derive(Debug)]
struct SchedulerState {
    /// The processes that no call is on, by number.
    idle: BTreeSet<usize>,
    /// The calls that share process 0.
    shared_calls: usize,
    probe: ProbeWindow,
}

/// The first call, which goes alone for a moment.
#[derive(Debug, Clone, Copy)]
enum ProbeWindow {
    NotStarted,
    OpenUntil(Instant),
    Closed,
}

/// The right to make one call on one process, until it is dropped.
#[derive(Debug)]
pub(super) struct ProcessPermit<'t> {
    scheduler: &'t ProcessScheduler,
    /// The number of the process, below the number that the turns were made for.
    pub(super) process: usize,
    /// Whether other calls may be on that process.
    pub(super) sharing: Sharing,
}

/// How a call is on its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// With others.
    Shared,
    /// By itself.
    Exclusive,
}

/// Why there is no turn yet.
struct PermitWait {
    /// The end of the trial, if that is what is waited for.
    probe_ends: Option<Instant>,
}

impl ProcessScheduler {
    /// Turns on up to `processes` processes; at least one.
    pub(super) fn new(processes: usize) -> Self {
        let state =
            SchedulerState { idle: (0..processes.max(1)).collect(), shared_calls: 0, probe: ProbeWindow::NotStarted };
        Self {
            interactive: InteractiveFlag::default(),
            queue: tokio::sync::Mutex::default(),
            released: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Waits for a turn. Dropping the future gives up the place in the line.
    pub(super) async fn acquire(&self) -> ProcessPermit<'_> {
        let _front = self.queue.lock().await;
        loop {
            // Only the front waits for it, so that one stored notice is enough.
            let freed = self.released.notified();
            match self.try_acquire() {
                Ok(turn) => return turn,
                Err(PermitWait { probe_ends: None }) => freed.await,
                Err(PermitWait { probe_ends: Some(ends) }) => tokio::select! {
                    () = freed => {}
                    () = self.interactive.wait_until_set() => {}
                    () = tokio::time::sleep_until(ends) => {}
                },
            }
        }
    }

    fn try_acquire(&self) -> Result<ProcessPermit<'_>, PermitWait> {
        let mut state = lock(&self.state);
        if self.interactive.is_interactive() {
            let process = state.idle.pop_first().ok_or(PermitWait { probe_ends: None })?;
            return Ok(ProcessPermit { scheduler: self, process, sharing: Sharing::Exclusive });
        }
        let now = Instant::now();
        state.probe = match state.probe {
            ProbeWindow::NotStarted => ProbeWindow::OpenUntil(now + PROBE_WINDOW),
            ProbeWindow::OpenUntil(ends) if now < ends => return Err(PermitWait { probe_ends: Some(ends) }),
            ProbeWindow::OpenUntil(_) | ProbeWindow::Closed => ProbeWindow::Closed,
        };
        state.idle.remove(&0);
        state.shared_calls += 1;
        Ok(ProcessPermit { scheduler: self, process: 0, sharing: Sharing::Shared })
    }
}

impl ProcessPermit<'_> {
    /// Ends the turn, and with it the use of its process: no call gets it any more. Process 0 is not to be retired, as
    /// somebody has to take the calls.
    pub(super) fn disable_process(self) {
        // What would make the process idle again is left out.
        std::mem::forget(self);
    }
}

impl Drop for ProcessPermit<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.scheduler.state);
        if self.sharing == Sharing::Shared {
            state.shared_calls -= 1;
            // If the trial is still on, this was the first call.
            state.probe = ProbeWindow::Closed;
            if state.shared_calls > 0 {
                return;
            }
        }
        state.idle.insert(self.process);
        drop(state);
        self.scheduler.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use super::*;

    /// The turn, if it can be had at once.
    async fn try_now<'t>(
        turn: &mut std::pin::Pin<&mut impl Future<Output = ProcessPermit<'t>>>,
    ) -> Option<ProcessPermit<'t>> {
        futures::future::poll_fn(|context| match turn.as_mut().poll(context) {
            Poll::Ready(turn) => Poll::Ready(Some(turn)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn assignment(turn: &ProcessPermit<'_>) -> (usize, Sharing) {
        (turn.process, turn.sharing)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_share_a_process_after_the_probe_window() {
        let turns = ProcessScheduler::new(4);
        let first = turns.acquire().await;
        let start = Instant::now();
        let second = turns.acquire().await;
        assert_eq!(start.elapsed(), PROBE_WINDOW);
        let third = turns.acquire().await;
        assert_eq!(start.elapsed(), PROBE_WINDOW);
        assert_eq!([assignment(&first), assignment(&second), assignment(&third)], [(0, Sharing::Shared); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn probe_window_closes_with_the_first_call() {
        let turns = ProcessScheduler::new(1);
        let first = turns.acquire().await;
        let start = Instant::now();
        let mut second = pin!(turns.acquire());
        assert!(try_now(&mut second).await.is_none());
        drop(first);
        let (second, third) = (second.await, turns.acquire().await);
        assert_eq!([assignment(&second), assignment(&third)], [(0, Sharing::Shared); 2]);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn interactive_agents_get_one_call_per_process_in_order() {
        let turns = ProcessScheduler::new(2);
        let first = turns.acquire().await;
        let (mut second, mut third, mut fourth) = (pin!(turns.acquire()), pin!(turns.acquire()), pin!(turns.acquire()));
        assert!(try_now(&mut second).await.is_none());
        turns.interactive.set();
        let second = try_now(&mut second).await.unwrap();
        assert_eq!(assignment(&second), (1, Sharing::Exclusive));
        assert!(try_now(&mut third).await.is_none() && try_now(&mut fourth).await.is_none());
        drop(first);
        assert!(try_now(&mut fourth).await.is_none());
        let third = try_now(&mut third).await.unwrap();
        assert_eq!(assignment(&third), (0, Sharing::Exclusive));
        drop((second, third));
        assert_eq!(assignment(&fourth.await), (0, Sharing::Exclusive));
    }

    #[tokio::test(start_paused = true)]
    async fn shared_processes_become_exclusive_when_idle() {
        let turns = ProcessScheduler::new(1);
        let sharing = [turns.acquire().await, turns.acquire().await, turns.acquire().await];
        turns.interactive.set();
        let mut next = pin!(turns.acquire());
        for turn in sharing {
            assert!(try_now(&mut next).await.is_none());
            drop(turn);
        }
        assert_eq!(assignment(&next.await), (0, Sharing::Exclusive));
    }

    #[tokio::test(start_paused = true)]
    async fn disabled_processes_get_no_calls() {
        let turns = ProcessScheduler::new(2);
        turns.interactive.set();
        let first = turns.acquire().await;
        turns.acquire().await.disable_process();
        let mut next = pin!(turns.acquire());
        assert!(try_now(&mut next).await.is_none());
        drop(first);
        assert_eq!(assignment(&next.await), (0, Sharing::Exclusive));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_waiters_do_not_block_others() {
        let turns = ProcessScheduler::new(1);
        turns.interactive.set();
        let busy = turns.acquire().await;
        let mut patient = Box::pin(turns.acquire());
        let mut impatient = Box::pin(turns.acquire());
        let mut last = Box::pin(turns.acquire());
        assert!(try_now(&mut impatient.as_mut()).await.is_none());
        assert!(try_now(&mut patient.as_mut()).await.is_none());
        assert!(try_now(&mut last.as_mut()).await.is_none());
        drop(impatient);
        drop(busy);
        let turn = patient.await;
        assert!(try_now(&mut last.as_mut()).await.is_none());
        drop(turn);
        assert_eq!(assignment(&last.await), (0, Sharing::Exclusive));
    }
}
