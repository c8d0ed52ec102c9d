//! Certificates, made by the `openssl` command.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// A certificate authority of its own.
#[derive(Debug)]
pub struct Authority {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// Makes an authority whose files are in `directory`.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let authority = Self {
            certificate: directory.join("ca.pem"),
            key: directory.join("ca-key.pem"),
        };
        // Two authorities of one name would be taken for each other.
        let name = directory.file_name().unwrap_or_default().display();
        request(
            &authority.certificate,
            &authority.key,
            &["-subj", &format!("/CN=authority {name}")],
        )?;
        Ok(authority)
    }

    /// The file with its certificate (PEM).
    pub fn file(&self) -> &Path {
        &self.certificate
    }

    /// Its certificate (PEM).
    pub fn certificate(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.certificate)
    }

    /// Makes a certificate for a server that is called `name`, in `directory`; returns its file and the key's.
    pub fn certify(&self, directory: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        fs::create_dir_all(directory)?;
        let (certificate, key) = (
            directory.join("server.pem"),
            directory.join("server-key.pem"),
        );
        let alternative = match name.parse::<std::net::IpAddr>() {
            Ok(_) => format!("subjectAltName=IP:{name}"),
            Err(_) => format!("subjectAltName=DNS:{name}"),
        };
        let (ca, ca_key) = (
            self.certificate.display().to_string(),
            self.key.display().to_string(),
        );
        let server = [
            "-subj",
            "/CN=server",
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-addext",
            &alternative,
        ];
        request(
            &certificate,
            &key,
            &[
                &server[..],
                &["-addext", "basicConstraints=critical,CA:FALSE"],
            ]
            .concat(),
        )?;
        Ok((certificate, key))
    }
}

fn request(certificate: &Path, key: &Path, arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-days",
            "2",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .arg("-out")
        .arg(certificate)
        .arg("-keyout")
        .arg(key)
        .args(arguments)
        .output()
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot run openssl (is it installed?): {error}"),
            )
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "openssl made no certificate: {}",
        String::from_utf8_lossy(&output.stderr)
    )))
}
