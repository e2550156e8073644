//! Establishes connections: handshakes of both eras, the catalog of each agent's tools, and what else it offers.

pub(crate) mod agent_connections;
pub(crate) mod catalog;
pub(crate) mod connect;
pub(crate) mod connect_error;
pub(crate) mod connection;
pub(crate) mod handshakes;
pub(crate) mod offers;
pub(crate) mod server_cache;
pub(crate) mod subscription;
pub(crate) mod validation;
