//! Decides what follows when a try to connect has failed: another handshake, the same one after a pause, or the failure.
//! Never connects.

use std::time::Duration;

use super::era::Era;
use crate::model::Protocol;

/// The pauses before a child that ended during its handshake is started again; after the last one, the failure counts.
const RESTART_PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(1_000)];
/// The first and the longest pause before a server that is not ready is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The same for a server that the host has just started: it is asked more often, since it will soon listen.
const FIRST_LOCAL_PAUSE: Duration = Duration::from_millis(20);
const MAX_LOCAL_PAUSE: Duration = Duration::from_millis(250);

/// What to make of a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No server listens at the address, which may change while a server comes up.
    NotListening,
    /// The server cannot answer at the moment: HTTP 5xx, 429, or a connection that broke.
    NotReady,
    /// The child ended, or closed its output.
    Ended,
    /// The handshake failed in a way for which its era may be to blame.
    Handshake,
    /// The session of an earlier process is gone.
    SessionLost,
    /// Another try would end in the same way.
    Final,
}

/// The handshakes that are left to try, and the pauses between tries.
#[derive(Debug)]
pub(super) struct Handshakes {
    current: Protocol,
    /// What comes after `current`, in order.
    others: Vec<Protocol>,
    restarts: usize,
    /// The pauses so far for the latest reason: a server that listens by now starts with the shortest pause.
    pauses: (Reason, u32),
    is_local: bool,
}

impl Handshakes {
    /// Returns the handshakes for an agent whose section says `configured` and whose era was `known` from before.
    pub(super) fn new(configured: Protocol, known: Option<Era>) -> Self {
        let (current, others) = match (configured, known) {
            // The hint can be wrong, and so can the doubt about it: a server that ends on the probe gets its handshake.
            (Protocol::Auto, Some(Era::Legacy)) => (Protocol::Legacy, vec![Protocol::Auto, Protocol::Legacy]),
            (Protocol::Auto, _) => (Protocol::Auto, vec![Protocol::Legacy]),
            (configured, _) => (configured, Vec::new()),
        };
        Self { current, others, restarts: 0, pauses: (Reason::NotListening, 0), is_local: false }
    }

    /// Returns the same for a server that the host itself starts.
    pub(super) fn with_local_server(self, is_local: bool) -> Self {
        Self { is_local, ..self }
    }

    /// Returns the handshake to try now.
    pub(super) fn current(&self) -> Protocol {
        self.current
    }

    /// Says whether another handshake is left.
    pub(super) fn has_other(&self) -> bool {
        !self.others.is_empty()
    }

    /// Moves on after a failed try, and returns the pause before the next one. None: the failure counts.
    pub(super) fn next(&mut self, reason: Reason, retry_after: Option<Duration>) -> Option<Duration> {
        match reason {
            Reason::NotListening | Reason::NotReady => {
                let pause = self.pause(reason);
                // The server knows best, but must not be asked without a pause.
                Some(retry_after.filter(|wanted| *wanted >= FIRST_PAUSE).unwrap_or(pause))
            }
            Reason::Ended | Reason::Handshake if self.has_other() => {
                self.current = self.others.remove(0);
                Some(Duration::ZERO)
            }
            Reason::Ended => {
                let pause = RESTART_PAUSES.get(self.restarts).copied();
                self.restarts += 1;
                pause
            }
            Reason::Handshake | Reason::SessionLost | Reason::Final => None,
        }
    }

    fn pause(&mut self, reason: Reason) -> Duration {
        let (first, longest) = match self.is_local && reason == Reason::NotListening {
            true => (FIRST_LOCAL_PAUSE, MAX_LOCAL_PAUSE),
            false => (FIRST_PAUSE, MAX_PAUSE),
        };
        if self.pauses.0 != reason {
            self.pauses = (reason, 0);
        }
        let pause = first.saturating_mul(2_u32.saturating_pow(self.pauses.1)).min(longest);
        self.pauses.1 += 1;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(handshakes: &mut Handshakes, reason: Reason) -> Option<u128> {
        handshakes.next(reason, None).map(|pause| pause.as_millis())
    }

    #[test]
    fn a_failed_probe_is_followed_by_initialize_at_once() {
        let mut auto = Handshakes::new(Protocol::Auto, None);
        assert_eq!((auto.current(), auto.has_other()), (Protocol::Auto, true));
        assert_eq!(millis(&mut auto, Reason::Ended), Some(0));
        assert_eq!((auto.current(), auto.has_other()), (Protocol::Legacy, false));
        assert_eq!(millis(&mut auto, Reason::Handshake), None);
    }

    #[test]
    fn a_wrong_hint_costs_a_handshake_and_a_right_one_saves_the_probe() {
        let mut hinted = Handshakes::new(Protocol::Auto, Some(Era::Legacy));
        assert_eq!(hinted.current(), Protocol::Legacy);
        assert_eq!(millis(&mut hinted, Reason::Handshake), Some(0));
        assert_eq!(hinted.current(), Protocol::Auto);
        assert_eq!(millis(&mut hinted, Reason::Ended), Some(0));
        assert_eq!((hinted.current(), millis(&mut hinted, Reason::Handshake)), (Protocol::Legacy, None));
        assert_eq!(Handshakes::new(Protocol::Auto, Some(Era::Modern)).current(), Protocol::Auto);
        // What the agents file says is no hint.
        let mut modern = Handshakes::new(Protocol::Modern, Some(Era::Legacy));
        assert_eq!((modern.current(), millis(&mut modern, Reason::Handshake)), (Protocol::Modern, None));
    }

    #[test]
    fn a_child_that_ends_is_started_a_bounded_number_of_times() {
        let mut legacy = Handshakes::new(Protocol::Legacy, None);
        let pauses = [(); 4].map(|()| millis(&mut legacy, Reason::Ended));
        assert_eq!(pauses, [Some(250), Some(1_000), None, None]);
    }

    #[test]
    fn a_server_that_is_not_ready_is_asked_more_and_more_rarely_and_not_before_it_wants_to_be() {
        let mut far = Handshakes::new(Protocol::Auto, None);
        let pauses = [(); 7].map(|()| millis(&mut far, Reason::NotReady).unwrap());
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(far.next(Reason::NotReady, Some(Duration::from_secs(9))), Some(Duration::from_secs(9)));
        assert_eq!(far.next(Reason::NotReady, Some(Duration::from_secs(1))), Some(Duration::from_secs(1)));
        assert_eq!(far.next(Reason::NotReady, Some(Duration::ZERO)), Some(Duration::from_secs(5)));
        assert_eq!(far.current(), Protocol::Auto);
        let mut local = Handshakes::new(Protocol::Auto, None).with_local_server(true);
        let pauses = [(); 5].map(|()| millis(&mut local, Reason::NotListening).unwrap());
        assert_eq!(pauses, [20, 40, 80, 160, 250]);
        assert_eq!(millis(&mut local, Reason::NotReady), Some(200));
        assert_eq!(millis(&mut far, Reason::Final), None);
        assert_eq!(millis(&mut far, Reason::SessionLost), None);
    }
}
