//! The program `hg`, and its settings.

use std::path::Path;

use tokio::process::Command;
use worker::process;

/// The system's certificates, at the path of Debian and its derivatives. Mercurial would find them by itself on most
/// systems; with an explicit file it verifies on all of them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Settings that every `hg` gets, as `--config` in front of the command. No others come from the machine: the
/// environment is cleared, and `hg` reads no configuration file but the clone's own and
/// [`crate::transport::address::write_hgrc`].
const CONFIG: [&str; 6] = [
    "extensions.strip=",
    "ui.interactive=false",
    "ui.merge=internal:fail",
    // Mercurial recognizes the lock of a killed `hg` as stale, and waits for that of an `hg` that is about to end.
    "ui.timeout=20",
    "phases.new-commit=draft",
    "progress.disable=true",
];

/// An `hg` with a cleared environment and our configuration, in a process group of its own. It reads `hgrc` and the
/// clone's own configuration file, and no other.
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
