//! Assigns the calls of one agent to its processes, so that each request of the agent belongs to one call.
//!
//! Over stdio, a request of an agent does not name its call. Most agents never send requests, so calls share one
//! process until the agent sends one. From then on, each process executes one call at a time. A request that arrives
//! while several calls share the process is answered, but attributed to none of them. Waiting until one call remains
//! would block an agent that needs the answer, and the attribution would still be a guess. The probe window makes this
//! rare: the first call runs alone briefly, and most interactive agents send their requests early.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The time for which the first call of an agent runs alone. Long enough for agents that send requests early, and short
/// compared to calls that are worth running in parallel.
const PROBE_WINDOW: Duration = Duration::from_millis(600);

/// The scheduler of one agent's calls.
#[derive(Debug)]
pub(super) struct ProcessScheduler {
    /// Cancelled when the agent sends a request without naming its call. It stays so for the rest of the run and for all
    /// processes of the agent.
    pub(super) is_interactive: CancellationToken,
    /// Held by the next call to get a permit; others queue in FIFO order. The run limits the length of the queue.
    queue: tokio::sync::Mutex<()>,
    /// Notifies the next call that a process may be free.
    released: Notify,
    /// Locked only to read and update the state.
    state: Mutex<SchedulerState>,
}

#[derive(Debug)]
struct SchedulerState {
    /// The numbers of the processes without calls.
    idle: BTreeSet<usize>,
    /// The number of calls that share process 0.
    shared_calls: usize,
    probe: ProbeWindow,
}

/// The window in which the first call runs alone.
#[derive(Debug, Clone, Copy)]
enum ProbeWindow {
    NotStarted,
    OpenUntil(Instant),
    Closed,
}

/// The permit to make one call on one process, released on drop.
#[derive(Debug)]
pub(super) struct ProcessPermit<'a> {
    scheduler: &'a ProcessScheduler,
    /// The number of the process.
    pub(super) process: usize,
    /// Whether other calls may use the same process.
    pub(super) sharing: Sharing,
}

/// The way in which a call uses its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Together with other calls.
    Shared,
    /// Alone.
    Exclusive,
}

impl ProcessScheduler {
    /// Creates a scheduler for up to `processes` processes, and at least one.
    pub(super) fn new(processes: usize) -> Self {
        let state =
            SchedulerState { idle: (0..processes.max(1)).collect(), shared_calls: 0, probe: ProbeWindow::NotStarted };
        Self {
            is_interactive: CancellationToken::new(),
            queue: tokio::sync::Mutex::default(),
            released: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Waits for a permit. Dropping the future gives up the place in the queue.
    pub(super) async fn acquire(&self) -> ProcessPermit<'_> {
        let _front = self.queue.lock().await;
        loop {
            // Only the front of the queue waits here, so one stored notification is enough.
            let freed = self.released.notified();
            match self.try_acquire() {
                Ok(permit) => return permit,
                Err(None) => freed.await,
                Err(Some(probe_end)) => tokio::select! {
                    () = freed => {}
                    () = self.is_interactive.cancelled() => {}
                    () = tokio::time::sleep_until(probe_end) => {}
                },
            }
        }
    }

    /// Returns a permit, or the end of the probe window if it has to be waited for.
    fn try_acquire(&self) -> Result<ProcessPermit<'_>, Option<Instant>> {
        let mut state = self.state.lock();
        if self.is_interactive.is_cancelled() {
            let process = state.idle.pop_first().ok_or(None)?;
            return Ok(ProcessPermit { scheduler: self, process, sharing: Sharing::Exclusive });
        }
        let now = Instant::now();
        state.probe = match state.probe {
            ProbeWindow::NotStarted => ProbeWindow::OpenUntil(now + PROBE_WINDOW),
            ProbeWindow::OpenUntil(end) if now < end => return Err(Some(end)),
            ProbeWindow::OpenUntil(_) | ProbeWindow::Closed => ProbeWindow::Closed,
        };
        state.idle.remove(&0);
        state.shared_calls += 1;
        Ok(ProcessPermit { scheduler: self, process: 0, sharing: Sharing::Shared })
    }
}

impl ProcessPermit<'_> {
    /// Releases the permit and disables its process for all later calls. Process 0 must stay enabled, because it
    /// executes the remaining calls.
    pub(super) fn disable_process(self) {
        // Dropping the permit would return the process to the idle set.
        std::mem::forget(self);
    }
}

impl Drop for ProcessPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.scheduler.state.lock();
        if self.sharing == Sharing::Shared {
            state.shared_calls -= 1;
            // If the probe window is still open, this was the first call.
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
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    /// Returns the permit if it is available immediately.
    async fn try_now<'a>(
        permit: &mut std::pin::Pin<&mut impl Future<Output = ProcessPermit<'a>>>,
    ) -> Option<ProcessPermit<'a>> {
        futures::future::poll_fn(|context| match permit.as_mut().poll(context) {
            Poll::Ready(permit) => Poll::Ready(Some(permit)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn assignment(permit: &ProcessPermit<'_>) -> (usize, Sharing) {
        (permit.process, permit.sharing)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_share_a_process_after_the_probe_window() {
        let scheduler = ProcessScheduler::new(4);
        let first = scheduler.acquire().await;
        let start = Instant::now();
        let second = scheduler.acquire().await;
        assert_eq!(start.elapsed(), PROBE_WINDOW);
        let third = scheduler.acquire().await;
        assert_eq!(start.elapsed(), PROBE_WINDOW);
        assert_eq!([assignment(&first), assignment(&second), assignment(&third)], [(0, Sharing::Shared); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn probe_window_closes_with_the_first_call() {
        let scheduler = ProcessScheduler::new(1);
        let first = scheduler.acquire().await;
        let start = Instant::now();
        let mut second = pin!(scheduler.acquire());
        assert!(try_now(&mut second).await.is_none());
        drop(first);
        let (second, third) = (second.await, scheduler.acquire().await);
        assert_eq!([assignment(&second), assignment(&third)], [(0, Sharing::Shared); 2]);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn interactive_agents_get_one_call_per_process_in_order() {
        let scheduler = ProcessScheduler::new(2);
        let first = scheduler.acquire().await;
        let (mut second, mut third, mut fourth) =
            (pin!(scheduler.acquire()), pin!(scheduler.acquire()), pin!(scheduler.acquire()));
        assert!(try_now(&mut second).await.is_none());
        scheduler.is_interactive.cancel();
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
        let scheduler = ProcessScheduler::new(1);
        let sharing = [scheduler.acquire().await, scheduler.acquire().await, scheduler.acquire().await];
        scheduler.is_interactive.cancel();
        let mut next = pin!(scheduler.acquire());
        for permit in sharing {
            assert!(try_now(&mut next).await.is_none());
            drop(permit);
        }
        assert_eq!(assignment(&next.await), (0, Sharing::Exclusive));
    }

    #[tokio::test(start_paused = true)]
    async fn disabled_processes_get_no_calls() {
        let scheduler = ProcessScheduler::new(2);
        scheduler.is_interactive.cancel();
        let first = scheduler.acquire().await;
        scheduler.acquire().await.disable_process();
        let mut next = pin!(scheduler.acquire());
        assert!(try_now(&mut next).await.is_none());
        drop(first);
        assert_eq!(assignment(&next.await), (0, Sharing::Exclusive));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_waiters_do_not_block_others() {
        let scheduler = ProcessScheduler::new(1);
        scheduler.is_interactive.cancel();
        let busy = scheduler.acquire().await;
        let mut waiting = Box::pin(scheduler.acquire());
        let mut impatient = Box::pin(scheduler.acquire());
        let mut last = Box::pin(scheduler.acquire());
        assert!(try_now(&mut impatient.as_mut()).await.is_none());
        assert!(try_now(&mut waiting.as_mut()).await.is_none());
        assert!(try_now(&mut last.as_mut()).await.is_none());
        drop(impatient);
        drop(busy);
        let permit = waiting.await;
        assert!(try_now(&mut last.as_mut()).await.is_none());
        drop(permit);
        assert_eq!(assignment(&last.await), (0, Sharing::Exclusive));
    }
}
