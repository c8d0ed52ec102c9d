//! What the environment says.

use secrecy::SecretString;

/// A variable that is set to something.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where Redis is, if there is one.
pub fn redis_url() -> Option<SecretString> {
    variable("REDIS_TLS_URL").or_else(|| variable("REDIS_URL")).map(SecretString::from)
}
