//! A session with the server of Try that is opened while Mercurial still applies the stack.
//!
//! Two thirds of the time of a push over ssh pass before the other side has started its `hg`. So the worker starts ssh
//! early, and later hands it to the `hg` that pushes. The server has no outdated data by then: it begins to read the
//! repository at the first request.
//!
//! `hg` reaches a server only by a command that it runs (`ui.ssh`). Here that command is a small shell script that
//! copies bytes between `hg` and two named pipes. This module reads and writes the other ends of the pipes. Each side
//! must hold the right ends at the right time, or a process waits without end:
//!
//! * the script first opens each pipe for both directions, which never blocks, then for the direction that it needs,
//!   and closes the first descriptor. So it reads the end of its input and exits, even after our death;
//! * we hold the pipe from `hg` open for writing until its first bytes arrive. Otherwise we would read the end of the
//!   pipe before `hg` has opened it. From then on, the end of the pipe is the end of `hg`;
//! * we close the pipe to `hg` when ssh ends. The standard error of ssh and the server goes to us, not to `hg`.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::{ChildStderr, ChildStdin, ChildStdout},
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use worker::{
    WorkerError,
    process::{self, Group},
    ssh::{self, Ssh},
};

/// The script. Its name, `$0`, is the directory with the pipes. It needs none of the arguments that `hg` passes.
const RELAY: &str = r#"
exec 9<>"$0/down" 3<"$0/down" 9>&- 9<>"$0/up" 4>"$0/up" 9>&- 5<&0
cat <&5 >&4 3<&- &
exec 4>&- 5<&-
cat <&3
kill $! 2>/dev/null
"#;

/// The most bytes of the session's standard error that are kept.
const MAX_WORDS: u64 = 64 << 10;

/// The time that ssh has to exit by itself.
const EXIT_TIME: Duration = Duration::from_secs(1);

/// A session that waits for its `hg`.
pub(crate) struct PrewarmedSsh {
    ssh: String,
    group: Group,
    words: AbortOnDropHandle<Vec<u8>>,
    relay: AbortOnDropHandle<()>,
}

impl PrewarmedSsh {
    /// Opens a session with the server of `url`. `None` if `url` is not one of ssh, or if only `hg` can interpret it.
    pub(crate) fn open(ssh: &Ssh, url: &str) -> Result<Option<Self>, WorkerError> {
        let Some(address) = Address::parse(url) else {
            return Ok(None);
        };
        let pipes = Pipes::make(ssh.directory())
            .map_err(WorkerError::io("make the pipes of an ssh session"))?;
        let mut command = process::bare(Path::new("ssh"));
        command.current_dir(ssh.home()).args(ssh.arguments());
        if let Some(port) = address.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args([
            &address.destination,
            &format!("hg -R {} serve --stdio", address.path),
        ]);
        let (group, ends) = Group::spawn(command)?;
        Ok(Some(Self {
            ssh: format!(
                "sh -c {} {}",
                ssh::quoted(RELAY),
                ssh::quoted(&ssh.directory().display().to_string())
            ),
            group,
            words: AbortOnDropHandle::new(tokio::spawn(words(ends.stderr))),
            relay: AbortOnDropHandle::new(tokio::spawn(pipes.relay(ends.stdin, ends.stdout))),
        }))
    }

    /// The value of `ui.ssh` for the one command that uses this session.
    pub(crate) fn command(&self) -> &str {
        &self.ssh
    }

    /// Ends the session, and returns its standard error.
    pub(crate) async fn close(mut self) -> Vec<u8> {
        // Without further input the server exits, and then ssh does.
        self.relay.abort();
        let _ = tokio::time::timeout(EXIT_TIME, self.group.wait()).await;
        self.group.end().await;
        match tokio::time::timeout(EXIT_TIME, self.words).await {
            Ok(Ok(words)) => words,
            _ => Vec::new(),
        }
    }
}

/// The destination of a session, for the arguments of ssh.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    destination: String,
    port: Option<u16>,
    /// The path of the repository there, safe in a shell.
    path: String,
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok().filter(|url| url.scheme() == "ssh")?;
        let plain = |text: &str| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-/@+=,:".contains(c))
        };
        let host = url.host_str()?;
        let path = url.path().strip_prefix('/')?;
        let odd = url.password().is_some() || url.query().is_some() || url.fragment().is_some();
        if odd || host.starts_with('-') || path.is_empty() || path.starts_with('-') {
            return None;
        }
        let destination = if url.username().is_empty() {
            host.to_owned()
        } else {
            format!("{}@{host}", url.username())
        };
        let usable = plain(path) && plain(&destination) && !destination.starts_with('-');
        usable.then(|| Self {
            destination,
            port: url.port(),
            path: path.to_owned(),
        })
    }
}

/// Our ends of the named pipes.
struct Pipes {
    up: pipe::Receiver,
    /// Keeps `up` from reporting its end before `hg` has written.
    holder: pipe::Sender,
    down: pipe::Sender,
}

impl Pipes {
    fn make(directory: &Path) -> io::Result<Self> {
        let [up, down] = ["up", "down"].map(|name| directory.join(name));
        for path in [&up, &down] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            nix::unistd::mkfifo(
                path,
                nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
            )?;
        }
        let options = pipe::OpenOptions::new();
        Ok(Self {
            up: options.open_receiver(&up)?,
            holder: options.open_sender(&up)?,
            down: pipe::OpenOptions::new()
                .read_write(true)
                .open_sender(&down)?,
        })
    }

    async fn relay(self, mut stdin: ChildStdin, mut stdout: ChildStdout) {
        let Self {
            mut up,
            holder,
            mut down,
        } = self;
        let upwards = async move {
            let mut holder = Some(holder);
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = up.read(&mut buffer).await {
                drop(holder.take());
                if stdin.write_all(&buffer[..read]).await.is_err() {
                    break;
                }
            }
        };
        let downwards = async move { tokio::io::copy(&mut stdout, &mut down).await };
        // Each of them closes its pipes when it ends. Their errors are dropped: `hg` and ssh report them better.
        let _ = futures::join!(upwards, downwards);
    }
}

async fn words(stderr: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut stderr = stderr.take(MAX_WORDS);
    let _ = stderr.read_to_end(&mut kept).await;
    // A program that writes more must not block on a full pipe.
    let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_what_mercurial_would_make_of_the_url() {
        let address = |destination: &str, port, path: &str| {
            Some(Address {
                destination: destination.to_owned(),
                port,
                path: path.to_owned(),
            })
        };
        let table = [
            (
                "ssh://hg.example.org/try",
                address("hg.example.org", None, "try"),
            ),
            (
                "ssh://bot@hg.example.org:2222//repos/try",
                address("bot@hg.example.org", Some(2222), "/repos/try"),
            ),
            ("ssh://hg.example.org", None),
            ("ssh://hg.example.org/", None),
            ("ssh://bot:secret@hg.example.org/try", None),
            ("ssh://-oProxyCommand=x/try", None),
            ("ssh://hg.example.org/-x", None),
            ("ssh://hg.example.org/a;b", None),
            ("ssh://hg.example.org/a%20b", None),
            ("ssh://hg.example.org/try?x", None),
            ("ssh://[::1]/try", None),
            ("https://hg.example.org/try", None),
            ("/repos/try", None),
        ];
        for (url, expected) in table {
            assert_eq!(Address::parse(url), expected, "{url}");
        }
    }
}
