//! The agents of other hosts: reads their files, and names those that are not in use.

pub(super) mod import_sources;
pub(super) mod known_servers;
