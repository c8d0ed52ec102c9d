//! Mercurial.
