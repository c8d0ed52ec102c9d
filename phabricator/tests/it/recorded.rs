//! Exchanges with a real Phorge (07c1a513; six of them 2026.27), as they were recorded. The token is redacted in them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

/// What stands for the token.
pub(crate) const REDACTED: &str = "api-REDACTED";

#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) request_body: String,
    pub(crate) http_status: u16,
    pub(crate) http_headers: HashMap<String, String>,
    pub(crate) response: Value,
}

impl Recorded {
    /// The names of all of them.
    pub(crate) fn names() -> Vec<String> {
        let files = std::fs::read_dir(folder())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap());
        files
            .filter_map(|file| Some(file.strip_suffix(".json")?.to_owned()))
            .collect()
    }

    pub(crate) fn read(name: &str) -> Self {
        let path = folder().join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// The fields of the form that was sent.
    pub(crate) fn form(&self) -> HashMap<String, String> {
        form_fields(self.request_body.as_bytes())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/phorge")
}

pub(crate) fn form_fields(body: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(body).into_owned().collect()
}
