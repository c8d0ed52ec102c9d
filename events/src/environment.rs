//! What the environment says.

use anyhow::Context as _;
use bus::RedisOptions;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::SecretString;

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

/// This process, as it is named in the records of builds: its dyno, or its machine and number.
pub fn process() -> String {
    variable("DYNO").unwrap_or_else(|| {
        let machine = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        format!("{}:{}", machine.unwrap_or_else(|| "unknown".to_owned()), std::process::id())
    })
}

/// Where Redis is and whom it must prove to be, if there is one.
pub fn redis(namespace: String, waiters: usize) -> anyhow::Result<Option<RedisOptions>> {
    let Some(url) = variable("REDIS_TLS_URL").or_else(|| variable("REDIS_URL")) else { return Ok(None) };
    let ca = variable(REDIS_CA_FILE).map(|file| certificates(&file)).transpose()?;
    Ok(Some(RedisOptions { url: SecretString::from(url), namespace, ca, waiters }))
}

/// The contents of a file with certificates that can be trusted.
fn certificates(file: &str) -> anyhow::Result<Vec<u8>> {
    let about = |what: &str| format!("{REDIS_CA_FILE} is {file}, which {what}");
    let pem = std::fs::read(file).with_context(|| about("cannot be read"))?;
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| about("is no PEM file"))?;
        trusted.add(certificate).with_context(|| about("holds a certificate that cannot be used"))?;
    }
    anyhow::ensure!(!trusted.is_empty(), about("holds no certificate: expected a PEM file with that of the authority"));
    Ok(pem)
}
