//! The program `hg`, and how it is called.

use std::path::Path;

use tokio::process::Command;
use worker::process;

/// The system's certificates, where Debian and its kin keep them. Mercurial would find them by itself in most places;
/// an explicit file also makes it verify where it would not.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Settings that every `hg` gets, as `--config` in front of the command. They are ours alone: the environment is
/// cleared and no configuration file but the clone's own and [`crate::transport::address::configuration`] is read.
const CONFIG: [&str; 6] = [
    "extensions.strip=",
    "ui.interactive=false",
    "ui.merge=internal:fail",
    // The lock of an `hg` that was killed is known as stale; one of an `hg` that is about to end is waited for.
    "ui.timeout=20",
    "phases.new-commit=draft",
    "progress.disable=true",
];

/// An `hg` with a cleared environment and our configuration, in a process group of its own. The file `hgrc` is the only
/// one that it reads beside the clone's own.
pub fn hg(program: &Path, hgrc: Option<&Path>) -> Command {
    let mut command = process::bare(program);
    command
        .env("HGRCPATH", hgrc.unwrap_or(Path::new("")))
        .env("HGPLAIN", "+strictflags")
        .env("HGENCODING", "UTF-8")
        .env("HGEDITOR", "false");
    for setting in CONFIG {
        command.arg(format!("--config={setting}"));
    }
    if Path::new(CERTIFICATES).exists() {
        command.arg(format!("--config=web.cacerts={CERTIFICATES}"));
    }
    command
}
