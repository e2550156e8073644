//! The errors of a server and of a report.

use std::io;
use std::net::SocketAddr;

use crate::journal::JournalError;

/// A server that cannot serve, or a run that cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be used.
    #[error("cannot listen at {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The socket failed.
    #[error("the server failed")]
    Failed(#[source] io::Error),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
