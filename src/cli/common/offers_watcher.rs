//! Forgets the cached offers of agents that offer something else in a run.

use indexmap::IndexMap;

use crate::model::{AgentId, AgentSpec, Event, Record};
use crate::runtime::OffersCache;
use crate::ui::reporters::Reporter;
use crate::view::RunView;

/// A reporter that compares what agents offer in a run with the cache.
pub(crate) struct OffersWatcher {
    cache: OffersCache,
    agents: IndexMap<AgentId, AgentSpec>,
}

impl OffersWatcher {
    pub(crate) fn new(cache: OffersCache, agents: IndexMap<AgentId, AgentSpec>) -> Self {
        Self { cache, agents }
    }
}

impl Reporter for OffersWatcher {
    fn report(&mut self, _: &RunView, record: &Record) {
        if let Event::AgentConnected { agent, info } = &record.event
            && let Some(spec) = self.agents.get(agent)
        {
            self.cache.forget_changed(spec, info);
        }
    }
}
