//! A client of one Mercurial command server, as the original has one.

use std::{
    io::{BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What a command printed, and its exit code.
#[derive(Debug, Default)]
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Client {
    pub fn start(repository: &Path, config: &[String]) -> Self {
        let mut child = hg()
            .args(config.iter().map(|setting| format!("--config={setting}")))
            .arg(format!("--repository={}", repository.display()))
            .args(["serve", "--cmdserver=pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hg starts");
        let (stdin, stdout) = (
            child.stdin.take().expect("a pipe"),
            child.stdout.take().expect("a pipe"),
        );
        let mut client = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        let (_, length) = client.header();
        client.data(length);
        client
    }

    /// Runs a command, which may read `input`.
    pub fn run(&mut self, arguments: &[&str], mut input: &[u8]) -> Output {
        self.stdin
            .write_all(b"runcommand\n")
            .expect("the server reads");
        self.send(arguments.join("\0").as_bytes());
        let mut output = Output::default();
        loop {
            let (channel, number) = self.header();
            match channel {
                b'o' => output.stdout.extend(self.data(number)),
                b'e' => output.stderr.extend(self.data(number)),
                b'r' => {
                    let code = self.data(number);
                    output.code = i32::from_be_bytes(code.try_into().expect("a number"));
                    return output;
                }
                b'I' | b'L' => {
                    let line = input
                        .iter()
                        .position(|byte| *byte == b'\n')
                        .map_or(input.len(), |end| end + 1);
                    let wanted = if channel == b'L' { line } else { input.len() };
                    let (chunk, rest) = input.split_at(wanted.min(number));
                    self.send(chunk);
                    input = rest;
                }
                other => panic!("the server uses channel {other}"),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len())
            .expect("a small number")
            .to_be_bytes();
        self.stdin
            .write_all(&[&length, bytes].concat())
            .expect("the server reads");
    }

    /// A channel, and how much comes or is wanted there.
    fn header(&mut self) -> (u8, usize) {
        let mut header = [0; 5];
        self.stdout
            .read_exact(&mut header)
            .expect("the server answers");
        let [channel, length @ ..] = header;
        (channel, u32::from_be_bytes(length) as usize)
    }

    fn data(&mut self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.stdout
            .read_exact(&mut data)
            .expect("the server answers");
        data
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same `hg` that the worker finds, untouched by what the user has configured.
pub fn hg() -> Command {
    let mut command = Command::new("hg");
    command
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HGRCPATH", "")
        .env("HGPLAIN", "1")
        .env("HGENCODING", "UTF-8");
    command
}
