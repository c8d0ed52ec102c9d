//! The command that `docs/extend/command.md` shows.

mod depth;

use super::{counted, print_json};
