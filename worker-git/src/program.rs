//! The program `git`, and its settings.
//!
//! No setting comes from the machine: the environment is cleared, and `git` reads no configuration file but the clone's
//! own, which this crate writes. All settings are in the environment of the child (`GIT_CONFIG_COUNT`), and so is the
//! token for an https address: other users of the machine can read the arguments of a process, and not its environment.
//! So no address with a password is an argument either: `git` gets the names [`SOURCE`] and [`DESTINATION`].

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Command;
use url::Url;
use worker::{
    RepositorySettings, WorkerError,
    address::{Address, Login},
    process::{self, ChildLimits, CommandOutput},
    ssh::Ssh,
};

/// The name of the source in Git's configuration.
pub(crate) const SOURCE: &str = "source";

/// The name of the destination in Git's configuration.
pub(crate) const DESTINATION: &str = "destination";

/// The name of the staging area in Git's configuration.
pub(crate) const STAGING: &str = "staging";

/// The oldest version of Git with all that this crate uses: `GIT_CONFIG_COUNT` came with 2.31, `git repack --geometric`
/// with 2.32.
const OLDEST: (u32, u32) = (2, 32);

/// The time for `git version`.
const VERSION_TIME: Duration = Duration::from_secs(60);

/// The user for a token, where the address names none. GitHub and GitLab take any name.
const TOKEN_USER: &str = "x-access-token";

/// The settings of each `git`.
const CONFIG: [(&str, &str); 26] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.logAllRefUpdates", "false"),
    ("credential.helper", ""),
    ("transfer.fsckObjects", "true"),
    // Old histories have these, and they do no harm.
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
    // Each fetch makes one pack, however few objects it brings: see `GitClone::maintain`.
    ("transfer.unpackLimit", "1"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.version", "2"),
    ("protocol.ext.allow", "never"),
    // Another host would get the token.
    ("http.followRedirects", "false"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "120"),
    ("push.recurseSubmodules", "no"),
    ("push.gpgSign", "false"),
    ("push.followTags", "false"),
    ("submodule.recurse", "false"),
    ("remote.source.tagOpt", "--no-tags"),
    ("remote.source.followRemoteHEAD", "never"),
    ("advice.pushUpdateRejected", "false"),
    ("color.ui", "false"),
];

/// The `git` of one clone slot.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// The working directory, in which the command of ssh finds its sockets.
    home: PathBuf,
    ssh: String,
    /// The protocols of the addresses.
    protocols: String,
    /// The settings of the repository.
    settings: Vec<(String, SecretString)>,
}

impl Program {
    /// A `git` whose ssh connections are kept.
    pub(crate) fn new(
        path: &Path,
        ssh: &Ssh,
        repository: &RepositorySettings,
    ) -> Result<Self, WorkerError> {
        let mut protocols = Vec::new();
        let mut settings = Vec::new();
        let staging = repository.vcs.git().and_then(|git| git.staging.as_ref());
        let remotes = [
            (SOURCE, &repository.url),
            (DESTINATION, &repository.try_url),
        ];
        for (name, url) in remotes.into_iter().chain(staging.map(|url| (STAGING, url))) {
            let protocol = protocol(url).ok_or_else(|| WorkerError::Settings {
                reason: format!(
                    "the address of the {name} of {} has no protocol that is allowed: use https, ssh, git, http, or a \
                     path",
                    repository.name
                ),
            })?;
            protocols.push(protocol);
            let address = Address::parse(url);
            if let Some(header) = authorization(&address, protocol, repository)? {
                settings.push((format!("http.{}.extraHeader", address.plain), header));
            }
            settings.push((format!("remote.{name}.url"), address.plain.into()));
        }
        protocols.dedup();
        Ok(Self {
            path: path.to_owned(),
            home: ssh.home().to_owned(),
            ssh: ssh.command(),
            protocols: protocols.join(":"),
            settings,
        })
    }

    /// The same `git`, whose ssh connections end with it.
    pub(crate) fn with_one_off(self, ssh: &Ssh) -> Self {
        Self {
            ssh: ssh.one_off_command(),
            ..self
        }
    }

    /// A `git` for the repository in `git_dir`, with a cleared environment and our settings, in a process group of its
    /// own. Its children know the repository too: see [`crate::locks::kill_orphans`].
    pub(crate) fn command(&self, git_dir: &Path) -> Command {
        let mut command = process::bare(&self.path);
        command
            .current_dir(&self.home)
            .env("LC_ALL", "C")
            .env("GIT_DIR", git_dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_ALLOW_PROTOCOL", &self.protocols)
            .env("GIT_SSH_COMMAND", &self.ssh)
            .env("GIT_SSH_VARIANT", "ssh");
        let common = CONFIG.iter().map(|&(key, value)| (key, value));
        let own = self
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose_secret()));
        let mut count = 0_usize;
        for (key, value) in common.chain(own) {
            command
                .env(format!("GIT_CONFIG_KEY_{count}"), key)
                .env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }

    /// Runs a command on the repository in `git_dir` to its end.
    pub(crate) async fn run(
        &self,
        git_dir: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        name: &str,
        deadline: Duration,
    ) -> Result<CommandOutput, WorkerError> {
        process::run(self.command(git_dir), arguments, name, deadline).await
    }

    /// As [`Self::run`], with limits for what is foreign.
    pub(crate) async fn run_limited(
        &self,
        git_dir: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        name: &str,
        deadline: Duration,
        limits: ChildLimits,
    ) -> Result<CommandOutput, WorkerError> {
        process::run_limited(
            self.command(git_dir),
            arguments,
            name,
            deadline,
            Some(limits),
        )
        .await
    }

    /// Refuses a program that is too old.
    pub(crate) async fn check_version(&self) -> Result<(), WorkerError> {
        let output = self
            .run(
                Path::new("/dev/null"),
                ["version"],
                "git version",
                VERSION_TIME,
            )
            .await?;
        let found = output.text();
        match version(&found) {
            Some(version) if version >= OLDEST => Ok(()),
            Some(_) => Err(WorkerError::Settings {
                reason: format!(
                    "`{}` is {found}, which is too old: install Git {}.{} or later",
                    self.path.display(),
                    OLDEST.0,
                    OLDEST.1
                ),
            }),
            None => Err(WorkerError::Settings {
                reason: format!(
                    "`{} version` printed no version of Git: {}",
                    self.path.display(),
                    output.words()
                ),
            }),
        }
    }
}

/// The version in the output of `git version`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// The protocol of an address, as `GIT_ALLOW_PROTOCOL` names it. `None` for those that are never allowed: a helper such
/// as `ext::` runs any command.
fn protocol(url: &str) -> Option<&'static str> {
    if url.starts_with('-') {
        return None;
    }
    if let Some((scheme, _)) = url.split_once("://") {
        return match scheme {
            "https" => Some("https"),
            "ssh" | "git+ssh" | "ssh+git" => Some("ssh"),
            "file" => Some("file"),
            "http" => Some("http"),
            "git" => Some("git"),
            _ => None,
        };
    }
    let before_slash = url.split('/').next().unwrap_or_default();
    match before_slash.split_once(':') {
        Some((_, rest)) if rest.starts_with(':') => None,
        Some(_) => Some("ssh"),
        None => Some("file"),
    }
}

/// The header with the credentials for an address: those in it, or the token of the repository. The token is that of the
/// destination; a source on the same server gets it too.
fn authorization(
    address: &Address,
    protocol: &str,
    repository: &RepositorySettings,
) -> Result<Option<SecretString>, WorkerError> {
    let token = repository
        .vcs
        .git()
        .and_then(|git| git.https_token.as_ref());
    let (user, password) = match (&address.login, token) {
        (Some(Login { user, password }), _) => (user.clone(), password),
        (None, Some(token))
            if protocol == "https" && have_same_server(&address.plain, &repository.try_url) =>
        {
            let user = Url::parse(&address.plain)
                .map(|url| url.username().to_owned())
                .unwrap_or_default();
            let user = if user.is_empty() {
                TOKEN_USER.to_owned()
            } else {
                user
            };
            (user, token)
        }
        _ => return Ok(None),
    };
    let password = password.expose_secret();
    if [user.as_str(), password]
        .iter()
        .any(|value| value.contains(char::is_control))
    {
        return Err(WorkerError::Settings {
            reason: format!(
                "the credentials for an address of {} have a control character",
                repository.name
            ),
        });
    }
    let login = SecretString::from(BASE64_STANDARD.encode(format!("{user}:{password}")));
    Ok(Some(
        format!("Authorization: Basic {}", login.expose_secret()).into(),
    ))
}

fn have_same_server(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one.origin() == other.origin(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use build::Phid;
    use worker::{GitSettings, Settings, VcsSettings};

    use super::*;

    fn repository(url: &str, try_url: &str, token: Option<&str>) -> RepositorySettings {
        let phid = Phid::parse("PHID-REPO-1").expect("a PHID");
        let mut repository = RepositorySettings::new(phid, "nss", url, try_url);
        repository.vcs = VcsSettings::Git(GitSettings {
            https_token: token.map(SecretString::from),
            ..GitSettings::default()
        });
        repository
    }

    fn program(repository: &RepositorySettings) -> Result<Program, WorkerError> {
        let home = tempfile::tempdir().expect("a directory");
        let settings = Settings::new(vec![repository.clone()], home.path().to_owned());
        let ssh = Ssh::new(&settings, repository, "nss").expect("prepared");
        Program::new(Path::new("git"), &ssh, repository)
    }

    #[test]
    fn protocols_are_those_of_the_addresses() {
        let table = [
            ("https://git.example.org/nss", Some("https")),
            ("ssh://git@git.example.org/nss", Some("ssh")),
            ("git@git.example.org:nss.git", Some("ssh")),
            ("git.example.org:/nss.git", Some("ssh")),
            ("/repos/a:b", Some("file")),
            ("./a:b", Some("file")),
            ("file:///repos/nss", Some("file")),
            ("git://git.example.org/nss", Some("git")),
            ("http://git.example.org/nss", Some("http")),
            ("ext::sh -c touch% /tmp/x", None),
            ("fd::17", None),
            ("ftp://git.example.org/nss", None),
            ("--upload-pack=touch /tmp/x", None),
        ];
        for (url, expected) in table {
            assert_eq!(protocol(url), expected, "{url}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let table = [
            ("git version 2.47.3", Some((2, 47))),
            ("git version 2.9.1", Some((2, 9))),
            ("git version 2.39.3 (Apple Git-145)", Some((2, 39))),
            ("hub version 2", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn credentials_are_in_headers_for_their_server_alone() {
        let headers = |repository: &RepositorySettings| -> Vec<(String, String)> {
            let program = program(repository).expect("a program");
            let shown = |(key, value): &(String, SecretString)| {
                (key.clone(), value.expose_secret().to_owned())
            };
            program
                .settings
                .iter()
                .map(shown)
                .filter(|(key, _)| key.starts_with("http."))
                .collect()
        };
        let header = |text: &str| format!("Authorization: Basic {}", BASE64_STANDARD.encode(text));
        let other_server = repository(
            "https://mirror.example.org/nss",
            "https://git.example.org/try",
            Some("token"),
        );
        let key = |url: &str| format!("http.{url}.extraHeader");
        assert_eq!(
            headers(&other_server),
            [(
                key("https://git.example.org/try"),
                header("x-access-token:token")
            )]
        );
        let same_server = repository(
            "https://git.example.org/nss",
            "https://bot@git.example.org/try",
            Some("token"),
        );
        assert_eq!(
            headers(&same_server),
            [
                (
                    key("https://git.example.org/nss"),
                    header("x-access-token:token")
                ),
                (key("https://bot@git.example.org/try"), header("bot:token"))
            ]
        );
        let in_address = repository(
            "https://ada:s%40cret@git.example.org/nss",
            "ssh://git@git.example.org/try",
            Some("token"),
        );
        assert_eq!(
            headers(&in_address),
            [(key("https://git.example.org/nss"), header("ada:s@cret"))]
        );
        let plain_http = repository("/nss", "http://git.example.org/try", Some("token"));
        assert_eq!(headers(&plain_http), []);
        assert!(matches!(
            program(&repository(
                "/nss",
                "https://git.example.org/try",
                Some("a\nb")
            )),
            Err(WorkerError::Settings { .. })
        ));
    }

    #[test]
    fn addresses_and_secrets_are_no_arguments() {
        let repository = repository(
            "https://ada:secret@git.example.org/nss",
            "https://git.example.org/try",
            Some("token"),
        );
        let program = program(&repository).expect("a program");
        let command = program.command(Path::new("/clone/.git"));
        assert_eq!(command.as_std().get_args().count(), 0);
        let shown = format!("{program:?}");
        assert!(
            !shown.contains("secret@") && !shown.contains("token"),
            "{shown}"
        );
        let allowed = command
            .as_std()
            .get_envs()
            .find(|(name, _)| *name == "GIT_ALLOW_PROTOCOL")
            .and_then(|(_, value)| value);
        assert_eq!(allowed, Some(OsStr::new("https")));
    }
}
