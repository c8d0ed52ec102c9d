//! `events completions` and `events man`: made of the definition of the command line.

use std::{io, path::Path};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::{self, Cli, Completions};

/// Runs `events completions`.
pub fn completions(Completions { shell }: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut Cli::command(), "events", &mut script);
    crate::write(&script).map(drop)
}

/// Runs `events man`.
pub fn man(cli::Man { directory }: &cli::Man) -> anyhow::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let source = format!("events {}", command.get_version().unwrap_or_default());
    pages(command, &source, directory).with_context(|| {
        format!(
            "cannot write the manual pages to {}; name an existing directory",
            directory.display()
        )
    })
}

/// Writes the page of a built command, and those of its subcommands. A synopsis is the usage that `--help` prints.
fn pages(mut command: Command, source: &str, directory: &Path) -> io::Result<()> {
    for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        pages(one.clone(), source, directory)?;
    }
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    Man::new(command.override_usage(usage))
        .source(source)
        .generate_to(directory)?;
    Ok(())
}
