//! Phabricator (or Phorge): its Conduit API, the workflow of a build, and the answers on a build target.

pub mod model;
