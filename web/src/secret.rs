//! Verifies secrets that clients send.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whether `offered` is `secret`. The time of the comparison depends on neither.
pub(crate) fn verify(secret: &SecretString, offered: &[u8]) -> bool {
    // Digests have one length, so that not even the secret's length can be timed.
    Sha256::digest(secret.expose_secret().as_bytes())
        .ct_eq(&Sha256::digest(offered))
        .into()
}
