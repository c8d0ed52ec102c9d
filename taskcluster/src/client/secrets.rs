//! The secrets service.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Call, Taskcluster, TaskclusterError};

#[derive(Deserialize)]
struct Stored {
    secret: Value,
}

impl Taskcluster {
    /// What is kept under `name` (`secrets.get`), such as `project/relman/code-review/events`: an object, secret
    /// throughout.
    pub async fn secret(&self, name: &str) -> Result<Value, TaskclusterError> {
        let call = Call {
            name: "secrets.get",
            method: Method::GET,
            service: "secrets",
            path: &["secret", name],
            query: &[],
            body: None,
        };
        Ok(self.call(&call).await?.json::<Stored>()?.secret)
    }
}
