//! Certificates of temporary credentials, as Taskcluster issues and verifies them (version 1, without a name).

use aws_lc_rs::hmac;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What says that a client gave some of its scopes away, for a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Certificate {
    version: u8,
    pub(super) scopes: Vec<String>,
    /// In milliseconds since 1970.
    start: i64,
    /// In milliseconds since 1970.
    expiry: i64,
    seed: String,
    signature: String,
}

impl Certificate {
    /// A certificate of the client with this token, for an hour from `now` on.
    pub(super) fn issue(token: &str, scopes: Vec<String>, now: Timestamp) -> Self {
        let (start, expiry) = (
            now,
            now.saturating_add(SignedDuration::from_hours(1))
                .unwrap_or(Timestamp::MAX),
        );
        let (start, expiry) = (start.as_millisecond(), expiry.as_millisecond());
        let (version, seed, signature) = (1, format!("seed-{start}"), String::new());
        let certificate = Self {
            version,
            scopes,
            start,
            expiry,
            seed,
            signature,
        };
        Self {
            signature: certificate.signed(token),
            ..certificate
        }
    }

    /// The token that goes with it.
    pub(super) fn access_token(&self, token: &str) -> String {
        URL_SAFE_NO_PAD.encode(mac(token, &self.seed))
    }

    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<(), &'static str> {
        match now.as_millisecond() {
            now if now < self.start => Err("ext.certificate.start > now"),
            now if now > self.expiry => Err("ext.certificate.expiry < now"),
            _ if self.signature != self.signed(token) => {
                Err("ext.certificate.signature is not valid")
            }
            _ => Ok(()),
        }
    }

    fn signed(&self, token: &str) -> String {
        let Self {
            version,
            scopes,
            start,
            expiry,
            seed,
            ..
        } = self;
        let scopes = scopes.join("\n");
        let text = format!(
            "version:{version}\nseed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:\n{scopes}"
        );
        STANDARD.encode(mac(token, &text))
    }
}

fn mac(key: &str, text: &str) -> impl AsRef<[u8]> + use<> {
    hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
        text.as_bytes(),
    )
}
