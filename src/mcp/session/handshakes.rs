//! Decides what follows a failed connection attempt: another handshake, the same one after a delay, or the failure.

use std::time::Duration;

use super::connect_error::ConnectErrorKind;
use super::server_cache::Era;
use crate::model::Protocol;

/// The delays before restarting a child that exited during its handshake. After the last one, the failure is final.
const RESTART_DELAYS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(1_000)];
/// The first and the longest delay before a server that is not ready is retried.
const INITIAL_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The same delays for a server that the host has just started. They are shorter, since it will soon listen.
const INITIAL_LOCAL_DELAY: Duration = Duration::from_millis(20);
const MAX_LOCAL_DELAY: Duration = Duration::from_millis(250);

/// A way to connect to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Probe for the modern era, then `initialize`.
    Detect,
    /// `initialize`.
    Initialize,
    /// `server/discover` only.
    Discover,
    /// `initialize` over HTTP+SSE of 2024-11-05.
    HttpSse,
}

/// The remaining handshakes to try, and the delays between attempts.
#[derive(Debug)]
pub(crate) struct HandshakeSequence {
    current: Handshake,
    /// The handshakes after `current`, in order.
    remaining: Vec<Handshake>,
    restarts: usize,
    /// The latest reason and its number of delays. A server that now listens starts with the shortest delay again.
    delays: (ConnectErrorKind, u32),
    is_local: bool,
}

impl HandshakeSequence {
    /// Returns the handshakes for an agent with the `protocol` setting `configured` and the cached era `known`.
    pub(crate) fn new(configured: Protocol, known: Option<Era>) -> Self {
        let (current, remaining) = match (configured, known) {
            // Both the hint and a failed legacy handshake can be misleading: a server that exits on the probe gets
            // `initialize` again.
            (Protocol::Auto, Some(Era::Legacy)) => {
                (Handshake::Initialize, vec![Handshake::Detect, Handshake::Initialize])
            }
            (Protocol::Auto, _) => (Handshake::Detect, vec![Handshake::Initialize]),
            (Protocol::Legacy, _) => (Handshake::Initialize, Vec::new()),
            (Protocol::Modern, _) => (Handshake::Discover, Vec::new()),
        };
        Self { current, remaining, restarts: 0, delays: (ConnectErrorKind::NotListening, 0), is_local: false }
    }

    /// Tries HTTP+SSE first, which has no modern era.
    pub(crate) fn with_http_sse_first(mut self) -> Self {
        if self.current != Handshake::Discover {
            self.remaining.insert(0, self.current);
            self.current = Handshake::HttpSse;
        }
        self
    }

    /// Sets whether the host itself starts the server.
    pub(crate) fn with_local_server(self, is_local: bool) -> Self {
        Self { is_local, ..self }
    }

    /// Returns the handshake to try now.
    pub(crate) fn current(&self) -> Handshake {
        self.current
    }

    /// Returns whether another handshake remains.
    pub(crate) fn has_alternative(&self) -> bool {
        !self.remaining.is_empty()
    }

    /// Advances after a failed attempt and returns the delay before the next one. `None` means that the failure is
    /// final.
    pub(crate) fn next_delay(&mut self, kind: ConnectErrorKind, retry_after: Option<Duration>) -> Option<Duration> {
        match kind {
            ConnectErrorKind::NotListening | ConnectErrorKind::NotReady => {
                let delay = self.backoff(kind);
                // The server's own delay takes precedence, unless it is too short.
                Some(retry_after.filter(|delay| *delay >= INITIAL_DELAY).unwrap_or(delay))
            }
            // The server has shown that it speaks HTTP+SSE, so nothing else can work.
            ConnectErrorKind::HttpSse => {
                self.current = Handshake::HttpSse;
                self.remaining.clear();
                Some(Duration::ZERO)
            }
            ConnectErrorKind::Exited | ConnectErrorKind::Handshake if self.has_alternative() => {
                self.current = self.remaining.remove(0);
                Some(Duration::ZERO)
            }
            ConnectErrorKind::Exited => {
                let delay = RESTART_DELAYS.get(self.restarts).copied();
                self.restarts += 1;
                delay
            }
            ConnectErrorKind::Handshake
            | ConnectErrorKind::SessionLost
            | ConnectErrorKind::LoginRequired
            | ConnectErrorKind::Final => None,
        }
    }

    fn backoff(&mut self, kind: ConnectErrorKind) -> Duration {
        let (first, maximum) = match self.is_local && kind == ConnectErrorKind::NotListening {
            true => (INITIAL_LOCAL_DELAY, MAX_LOCAL_DELAY),
            false => (INITIAL_DELAY, MAX_DELAY),
        };
        if self.delays.0 != kind {
            self.delays = (kind, 0);
        }
        let delay = first.saturating_mul(2_u32.saturating_pow(self.delays.1)).min(maximum);
        self.delays.1 += 1;
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay_millis(handshakes: &mut HandshakeSequence, kind: ConnectErrorKind) -> Option<u128> {
        handshakes.next_delay(kind, None).map(|delay| delay.as_millis())
    }

    #[test]
    fn failed_probe_falls_back_to_initialize_immediately() {
        let mut auto = HandshakeSequence::new(Protocol::Auto, None);
        assert_eq!((auto.current(), auto.has_alternative()), (Handshake::Detect, true));
        assert_eq!(delay_millis(&mut auto, ConnectErrorKind::Exited), Some(0));
        assert_eq!((auto.current(), auto.has_alternative()), (Handshake::Initialize, false));
        assert_eq!(delay_millis(&mut auto, ConnectErrorKind::Handshake), None);
    }

    #[test]
    fn cached_era_is_tried_first_and_may_be_wrong() {
        let mut hinted = HandshakeSequence::new(Protocol::Auto, Some(Era::Legacy));
        assert_eq!(hinted.current(), Handshake::Initialize);
        assert_eq!(delay_millis(&mut hinted, ConnectErrorKind::Handshake), Some(0));
        assert_eq!(hinted.current(), Handshake::Detect);
        assert_eq!(delay_millis(&mut hinted, ConnectErrorKind::Exited), Some(0));
        assert_eq!(
            (hinted.current(), delay_millis(&mut hinted, ConnectErrorKind::Handshake)),
            (Handshake::Initialize, None)
        );
        assert_eq!(HandshakeSequence::new(Protocol::Auto, Some(Era::Modern)).current(), Handshake::Detect);
        // The setting of the agents file is binding, unlike a cached era.
        let mut modern = HandshakeSequence::new(Protocol::Modern, Some(Era::Legacy));
        assert_eq!(
            (modern.current(), delay_millis(&mut modern, ConnectErrorKind::Handshake)),
            (Handshake::Discover, None)
        );
    }

    #[test]
    fn http_sse_is_tried_first_if_it_is_expected_and_used_once_it_is_detected() {
        let mut expected = HandshakeSequence::new(Protocol::Auto, Some(Era::Legacy)).with_http_sse_first();
        let tried = [(); 4].map(|()| {
            let current = expected.current();
            (current, delay_millis(&mut expected, ConnectErrorKind::Handshake))
        });
        assert_eq!(
            tried,
            [
                (Handshake::HttpSse, Some(0)),
                (Handshake::Initialize, Some(0)),
                (Handshake::Detect, Some(0)),
                (Handshake::Initialize, None),
            ]
        );
        let mut detected = HandshakeSequence::new(Protocol::Auto, None);
        assert_eq!(delay_millis(&mut detected, ConnectErrorKind::HttpSse), Some(0));
        assert_eq!((detected.current(), detected.has_alternative()), (Handshake::HttpSse, false));
        assert_eq!(delay_millis(&mut detected, ConnectErrorKind::Handshake), None);
        let modern = HandshakeSequence::new(Protocol::Modern, None).with_http_sse_first();
        assert_eq!(modern.current(), Handshake::Discover);
    }

    #[test]
    fn exited_children_restart_a_bounded_number_of_times() {
        let mut legacy = HandshakeSequence::new(Protocol::Legacy, None);
        let delays = [(); 4].map(|()| delay_millis(&mut legacy, ConnectErrorKind::Exited));
        assert_eq!(delays, [Some(250), Some(1_000), None, None]);
    }

    #[test]
    fn servers_that_are_not_ready_are_retried_with_backoff_and_retry_after() {
        let mut remote = HandshakeSequence::new(Protocol::Auto, None);
        let delays = [(); 7].map(|()| delay_millis(&mut remote, ConnectErrorKind::NotReady).unwrap());
        assert_eq!(delays, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(
            remote.next_delay(ConnectErrorKind::NotReady, Some(Duration::from_secs(9))),
            Some(Duration::from_secs(9))
        );
        assert_eq!(
            remote.next_delay(ConnectErrorKind::NotReady, Some(Duration::from_secs(1))),
            Some(Duration::from_secs(1))
        );
        assert_eq!(remote.next_delay(ConnectErrorKind::NotReady, Some(Duration::ZERO)), Some(Duration::from_secs(5)));
        assert_eq!(remote.current(), Handshake::Detect);
        let mut local = HandshakeSequence::new(Protocol::Auto, None).with_local_server(true);
        let delays = [(); 5].map(|()| delay_millis(&mut local, ConnectErrorKind::NotListening).unwrap());
        assert_eq!(delays, [20, 40, 80, 160, 250]);
        assert_eq!(delay_millis(&mut local, ConnectErrorKind::NotReady), Some(200));
        assert_eq!(delay_millis(&mut remote, ConnectErrorKind::Final), None);
        assert_eq!(delay_millis(&mut remote, ConnectErrorKind::SessionLost), None);
    }
}
