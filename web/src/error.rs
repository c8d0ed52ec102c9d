//! Errors at the start of the web server.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

/// The cause for which the web server cannot start.
#[derive(Debug, Error)]
pub enum WebError {
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen on {address}; choose another port or address")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// `VERSION_PATH` names a file that cannot be used.
    #[error("cannot use {}, named by VERSION_PATH: {reason}", path.display())]
    Version {
        /// The file that VERSION_PATH names.
        path: PathBuf,
        /// The fault of the file, as a clause.
        reason: String,
    },
}
