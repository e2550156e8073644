//! Changes agents files. Comments and the order of the file stay.

pub(crate) mod agent_entry;
pub(crate) mod agents_document;
pub(crate) mod concealed_entry;
mod literal_secrets;
pub(crate) mod references;
mod secret_text;
