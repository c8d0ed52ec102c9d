//! `events completions` and `events man`: made of the definition of the command line.

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{Cli, Completions, Man};

/// Runs `events completions`.
pub fn completions(Completions { shell }: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut Cli::command(), "events", &mut script);
    crate::write(&script)
}

/// Runs `events man`.
pub fn man(Man { directory }: &Man) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory).with_context(|| {
        format!(
            "cannot write the manual pages to {}; name an existing directory",
            directory.display()
        )
    })
}
