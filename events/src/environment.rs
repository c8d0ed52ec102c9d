//! What the environment says.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, bail};
use bus::RedisOptions;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};

/// The file of the certificates to trust in a Redis with TLS.
const REDIS_CA_FILE: &str = "REDIS_CA_FILE";

/// The variables from which the program takes secrets, or will.
pub const SECRETS: &[&str] = &[
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "INFLUXDB_PASSWORD",
    "IRC_PASS",
    "PULSE_PASSWORD",
    "REDIS_TLS_URL",
    "REDIS_URL",
    "SENTRY_DSN",
    "SMTP_PASSWD",
    "TASKCLUSTER_ACCESS_TOKEN",
    "TASKCLUSTER_CERTIFICATE",
];

/// A variable that is set to something.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where settings may stand that the environment does not have.
const DOTENV: &str = ".env";

/// The variables that are set to something, here or in the file `.env` of this directory. The environment wins.
pub fn with_dotenv() -> anyhow::Result<impl Fn(&str) -> Option<String>> {
    let file = dotenv(Path::new(DOTENV))?;
    let in_file = move |name: &str| file.get(name).map(|value| value.expose_secret().to_owned());
    Ok(move |name: &str| {
        variable(name)
            .or_else(|| in_file(name))
            .filter(|value| !value.is_empty())
    })
}

/// The variables of a file, if it is there. Lines are not repeated in errors: one may hold a secret.
fn dotenv(path: &Path) -> anyhow::Result<HashMap<String, SecretString>> {
    let mut variables = HashMap::new();
    let lines = match dotenvy::from_path_iter(path) {
        Err(error) if error.not_found() => return Ok(variables),
        lines => lines.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut before = "the beginning".to_owned();
    for line in lines {
        match line {
            Ok((name, value)) => {
                before.clone_from(&name);
                variables.insert(name, value.into());
            }
            Err(dotenvy::Error::Io(error)) => {
                return Err(error).context(format!("cannot read {}", path.display()));
            }
            Err(_) => bail!(
                "{}: the line after {before} is no NAME=value: put a value with spaces, quotes or $ in single quotes",
                path.display()
            ),
        }
    }
    Ok(variables)
}

/// This process, as it is named in the records of builds: its dyno, or its machine and number.
pub fn process() -> String {
    variable("DYNO").unwrap_or_else(|| {
        let machine = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok());
        format!(
            "{}:{}",
            machine.unwrap_or_else(|| "unknown".to_owned()),
            std::process::id()
        )
    })
}

/// The address of Redis and the authority that signs its certificate, if the environment names a server.
pub fn redis(namespace: String, waiters: usize) -> anyhow::Result<Option<RedisOptions>> {
    let Some(url) = variable("REDIS_TLS_URL").or_else(|| variable("REDIS_URL")) else {
        return Ok(None);
    };
    let ca = variable(REDIS_CA_FILE)
        .map(|file| certificates(&file))
        .transpose()?;
    Ok(Some(RedisOptions {
        url: SecretString::from(url),
        namespace,
        ca,
        waiters,
    }))
}

/// The contents of a file with certificates that can be trusted.
fn certificates(file: &str) -> anyhow::Result<Vec<u8>> {
    let about = |what: &str| format!("{REDIS_CA_FILE} is {file}, which {what}");
    let pem = std::fs::read(file).with_context(|| about("cannot be read"))?;
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| about("is no PEM file"))?;
        trusted
            .add(certificate)
            .with_context(|| about("holds a certificate that cannot be used"))?;
    }
    anyhow::ensure!(
        !trusted.is_empty(),
        about("holds no certificate: expected a PEM file with that of the authority")
    );
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_and_a_faulty_line_is_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DOTENV);
        assert!(dotenv(&path).unwrap().is_empty());
        std::fs::write(
            &path,
            "# a comment\nexport USER_NAME=us\nPASSWORD='a $ecret # \"'\n\nEMPTY=\n",
        )
        .unwrap();
        let variables = dotenv(&path).unwrap();
        let value = |name| variables[name].expose_secret();
        assert_eq!(
            [value("USER_NAME"), value("PASSWORD"), value("EMPTY")],
            ["us", "a $ecret # \"", ""]
        );
        std::fs::write(&path, "USER_NAME=us\nPASSWORD=hunter2 hunter2\n").unwrap();
        let error = format!("{:#}", dotenv(&path).unwrap_err());
        assert!(
            error.contains("the line after USER_NAME is no NAME=value"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        assert!(dotenv(directory.path()).is_err());
    }
}
