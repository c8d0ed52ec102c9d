//! The signature of a request (Hawk), over its method, host, port, path and query, and over its body.
//!
//! What is signed and how was compared with npm's `hawk`, the implementation that Taskcluster verifies with: see the
//! vectors in `tests/fixtures/npm-hawk.json`.

use std::{sync::Once, time::SystemTime};

use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use hawk::{
    DigestAlgorithm, Key, PayloadHasher, RequestBuilder, SHA256,
    crypto::{CryptoError, Cryptographer, Hasher, HmacKey, set_cryptographer},
};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use thiserror::Error;
use url::Url;

use super::{Credentials, JSON};

/// Why a request cannot be signed. What these quote holds no secret.
#[derive(Debug, Error)]
pub(super) enum SignError {
    #[error(
        "the certificate of the temporary credentials is no JSON object: take it whole, as it was issued"
    )]
    Certificate,
    #[error("{0}")]
    Hawk(#[from] hawk::Error),
}

/// The value of the header `Authorization`. The same `nonce` must not come twice in a minute.
pub(super) fn authorization(
    credentials: &Credentials,
    method: &str,
    url: &Url,
    body: Option<&[u8]>,
    now: Timestamp,
    nonce: &str,
) -> Result<String, SignError> {
    use_aws_lc();
    let ext = ext(credentials)?;
    let hash = body
        .map(|body| PayloadHasher::hash(JSON, SHA256, body))
        .transpose()?;
    let request = RequestBuilder::from_url(method, url)?
        .hash(hash.as_deref())
        .ext(ext.as_deref())
        .request();
    let key = Key::new(credentials.access_token.expose_secret(), SHA256)?;
    let signer = hawk::Credentials {
        id: credentials.client_id.clone(),
        key,
    };
    let header = request.make_header_full(&signer, SystemTime::from(now), nonce)?;
    Ok(format!("Hawk {header}"))
}

/// What goes along with the signature: the certificate of temporary credentials.
fn ext(credentials: &Credentials) -> Result<Option<String>, SignError> {
    let Some(certificate) = &credentials.certificate else {
        return Ok(None);
    };
    match serde_json::from_str(certificate.expose_secret()) {
        Ok(Value::Object(certificate)) => Ok(Some(
            STANDARD.encode(json!({ "certificate": certificate }).to_string()),
        )),
        _ => Err(SignError::Certificate),
    }
}

/// Has `hawk` compute with the library that TLS uses as well, before its first use.
fn use_aws_lc() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only where somebody else has chosen already, and then there is one.
        let _: Result<(), _> = set_cryptographer(&AwsLc);
    });
}

struct AwsLc;

struct Sha256(digest::Context);

struct HmacSha256(hmac::Key);

impl Cryptographer for AwsLc {
    fn rand_bytes(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        rand::fill(output).map_err(|error| CryptoError::Other(error.into()))
    }

    fn new_key(
        &self,
        algorithm: DigestAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn HmacKey>, CryptoError> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                Ok(Box::new(HmacSha256(hmac::Key::new(hmac::HMAC_SHA256, key))))
            }
            other => Err(CryptoError::UnsupportedDigest(other)),
        }
    }

    fn new_hasher(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn Hasher>, CryptoError> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Sha256(digest::Context::new(&digest::SHA256)))),
            other => Err(CryptoError::UnsupportedDigest(other)),
        }
    }

    fn constant_time_compare(&self, a: &[u8], b: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(a, b).is_ok()
    }
}

impl Hasher for Sha256 {
    fn update(&mut self, data: &[u8]) -> Result<(), CryptoError> {
        self.0.update(data);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<u8>, CryptoError> {
        Ok(self.0.clone().finish().as_ref().to_vec())
    }
}

impl HmacKey for HmacSha256 {
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Ok(hmac::sign(&self.0, data).as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde::Deserialize;

    use super::*;

    /// A request that npm's `hawk` has signed.
    #[derive(Deserialize)]
    struct Vector {
        method: String,
        url: Url,
        id: String,
        key: String,
        certificate: Option<String>,
        time: i64,
        nonce: String,
        body: Option<String>,
        authorization: String,
    }

    #[test]
    fn signatures_equal_those_of_npm_hawk() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/fixtures/npm-hawk.json")).unwrap();
        assert!(vectors.iter().any(|vector| vector.url.query().is_some()));
        for vector in vectors {
            let credentials = Credentials {
                client_id: vector.id,
                access_token: SecretString::from(vector.key),
                certificate: vector.certificate.map(SecretString::from),
            };
            let now = Timestamp::from_second(vector.time).unwrap();
            let body = vector.body.as_ref().map(String::as_bytes);
            let ours = authorization(
                &credentials,
                &vector.method,
                &vector.url,
                body,
                now,
                &vector.nonce,
            )
            .unwrap();
            assert_eq!(
                fields(&ours),
                fields(&vector.authorization),
                "{} {}",
                vector.method,
                vector.url
            );
        }
    }

    /// The fields of a header, in no order.
    fn fields(header: &str) -> std::collections::BTreeSet<&str> {
        header.strip_prefix("Hawk ").unwrap().split(", ").collect()
    }

    #[test]
    fn unreadable_certificate_is_not_shown() {
        let credentials = Credentials {
            client_id: "me".to_owned(),
            access_token: SecretString::from("t0ken"),
            certificate: Some(SecretString::from("{\"signature\": \"s3cret\"")),
        };
        let url = Url::parse("https://tc.example.com/").unwrap();
        let error =
            authorization(&credentials, "GET", &url, None, Timestamp::UNIX_EPOCH, "n").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
