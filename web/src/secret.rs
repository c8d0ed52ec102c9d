//! Whether a client knows a secret.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whether `offered` is `secret`, in a time that says nothing of either.
pub(crate) fn is(secret: &SecretString, offered: &[u8]) -> bool {
    // Digests have one length, so that not even the secret's length can be timed.
    Sha256::digest(secret.expose_secret().as_bytes())
        .ct_eq(&Sha256::digest(offered))
        .into()
}
