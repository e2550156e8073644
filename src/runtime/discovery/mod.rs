//! Finds out what agents offer, without calling a tool: by connecting to them, or from an earlier connection.

mod discover;
mod offers_cache;

pub use discover::{AgentProbe, Discovery, Freshness, complete};
pub use offers_cache::OffersCache;
