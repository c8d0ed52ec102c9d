//! The secrets service.

use serde::Deserialize;
use serde_json::Value;

use super::{Taskcluster, TaskclusterError, call::Call};

#[derive(Deserialize)]
struct Stored {
    secret: Value,
}

impl Taskcluster {
    /// What is kept under `name` (`secrets.get`), such as `project/relman/code-review/events`: an object, secret
    /// throughout.
    pub async fn secret(&self, name: &str) -> Result<Value, TaskclusterError> {
        let answer = self
            .call(&Call::get("secrets.get", &["secret", name]))
            .await?;
        Ok(answer.json::<Stored>()?.secret)
    }
}
