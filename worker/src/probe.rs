//! The checks of all that builds of a repository need, for `events config check --online`: see [`crate::vcs::Vcs::probe`].

use std::{fs, path::Path, time::Duration};

use crate::{Integrity, RepositorySettings, Settings, Size, WorkerError, disk, process, ssh::Ssh};

/// The time for one program.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The check of one thing that builds of a repository need.
#[derive(Debug)]
pub struct Probe {
    /// The thing that was checked, such as `the source of nss`.
    pub what: String,
    /// The method of the check.
    pub how: String,
    /// The result, as text for operators.
    pub result: Result<String, WorkerError>,
    /// A fault that should be mended although builds work.
    pub warning: Option<String>,
}

/// The checks that need no version control: the directory of the clones, the settings, the ssh key, and the known host
/// keys. Also returns the ssh for the other checks; `None` if these would be in vain.
pub async fn begin(
    settings: &Settings,
    repository: &RepositorySettings,
) -> (Vec<Probe>, Option<Ssh>) {
    let mut found = vec![directory(settings).await];
    if let Err(error) = settings.check() {
        found.push(Probe::of("the settings", "as a start does", Err(error)));
        return (found, None);
    }
    // No clone slot has this name, and no other process that runs these checks.
    let slot = format!("{}@check-{}", repository.name, std::process::id());
    let ssh = match Ssh::new(settings, repository, &slot) {
        Ok(ssh) => ssh,
        Err(error) => {
            found.push(files_of_ssh(error));
            return (found, None);
        }
    };
    found.extend(key(repository, &ssh).await);
    found.extend(settings.known_hosts.as_deref().map(known_hosts));
    (found, Some(ssh))
}

/// What the check of a destination is called.
pub fn destination(repository: &RepositorySettings) -> String {
    let RepositorySettings { name, try_name, .. } = repository;
    if try_name == name {
        format!("the destination of {name}")
    } else {
        format!("{try_name}, to which {name} is pushed")
    }
}

/// The failed check of the files beside the ssh key.
pub fn files_of_ssh(error: WorkerError) -> Probe {
    Probe::of(
        "the files of ssh",
        "they were written below `clones_dir`",
        Err(error),
    )
}

impl Probe {
    /// The result of one check.
    pub fn of(
        what: impl Into<String>,
        how: impl Into<String>,
        result: Result<String, WorkerError>,
    ) -> Self {
        Self {
            what: what.into(),
            how: how.into(),
            result,
            warning: None,
        }
    }
}

async fn directory(settings: &Settings) -> Probe {
    let directory = settings.clones_dir.clone();
    let looking = move || {
        disk::create_private(&directory)?;
        let file = directory.join(format!(".check-{}", std::process::id()));
        let written = fs::write(&file, vec![0; 1 << 20]);
        let removed = fs::remove_file(&file);
        written.and(removed)?;
        disk::free(&directory)
    };
    let path = settings.clones_dir.display();
    let free = disk::blocking(looking)
        .await
        .map_err(WorkerError::io(format!("use the clones directory {path}")));
    Probe::of(
        format!("the clones directory {path}"),
        "a file of 1 MiB was written and removed",
        free.map(|free| format!("it can be written, {} are free", Size(free))),
    )
}

/// Checks that ssh can use the configured key without a passphrase.
async fn key(repository: &RepositorySettings, ssh: &Ssh) -> Option<Probe> {
    let path = ssh.key()?;
    let name = &repository.name;
    let mut command = process::bare(Path::new("ssh-keygen"));
    command.args(["-y", "-P", "", "-f"]).arg(path);
    let doing = format!("use the ssh key of {name}");
    let result = match process::run(command, NOTHING, "ssh-keygen", TIMEOUT).await {
        Ok(output) if output.code == 0 => Ok(output
            .text()
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned()),
        Ok(output) => Err(WorkerError::Command {
            doing,
            words: output.words(),
            integrity: Integrity::Unknown,
        }),
        Err(error) => Err(error),
    };
    Some(Probe::of(
        format!("the ssh key of {name}"),
        "`ssh-keygen -y` derived its public key",
        result,
    ))
}

fn known_hosts(path: &Path) -> Probe {
    let shown = path.display();
    let read = fs::read_to_string(path).map_err(WorkerError::io(format!(
        "read the known host keys in {shown}"
    )));
    let lines = read.map(|text| {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .count();
        format!("it has {lines} lines")
    });
    Probe::of(
        format!("the known host keys {shown}"),
        "the file was read",
        lines,
    )
}

const NOTHING: [&str; 0] = [];
