//! What can go wrong before the first request is served.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

/// Why the web server cannot start.
#[derive(Debug, Error)]
pub enum WebError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: choose another port or address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// `VERSION_PATH` names a file that cannot be used.
    #[error("cannot use {}, named by VERSION_PATH: {reason}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
