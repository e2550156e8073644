//! Builds links for the tests of the room.
//! Never reaches an agent or a host.

use std::sync::{Arc, atomic::AtomicBool};

use super::{
    Nobody, Sampling,
    allowance::Allowance,
    link::{Common, Link},
    session::Session,
    turns::Turns,
};
use crate::model::SamplingPolicy;

/// A link to agent `a`, whose next request has the number 0.
pub(super) fn link() -> Arc<Link> {
    let common = Common {
        sampling: Sampling::Off,
        allowance: Allowance::new(SamplingPolicy::default()),
        turns: Turns::new(1),
        left: AtomicBool::new(false),
    };
    Link::new(Session::none("a".into(), Arc::new(Nobody)), Arc::new(common))
}
