//! Who calls.

use secrecy::SecretString;

/// Taskcluster credentials.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The client's id.
    pub client_id: String,
    /// Its access token.
    pub access_token: SecretString,
    /// The certificate of temporary credentials, a JSON object as text; permanent credentials have none.
    pub certificate: Option<SecretString>,
}
