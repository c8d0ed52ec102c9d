//! How Mercurial reaches other repositories: addresses with their credentials, and ssh.

pub(crate) mod address;
pub(crate) mod ssh_prewarm;
