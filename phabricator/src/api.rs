//! Typed calls of the Conduit methods that this crate uses.

mod builds;
mod directory;
mod harbormaster;
mod listing;
mod plans;
mod review;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{Conduit, ConduitError};

pub use builds::BuildOfTarget;
pub(crate) use builds::{TargetEnd, TargetStatus};
pub(crate) use harbormaster::{MessageType, Unit, UnitResult};
pub(crate) use listing::{Listed, ListedFields, Object};
pub use plans::{BuildPlan, NewestBuilds};
pub(crate) use review::{DiffInfo, RevisionInfo};

/// The most objects that one search returns, and the most that one search names.
pub(crate) const PAGE: usize = 100;

/// One page of a `*.search` method.
#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    cursor: Cursor,
}

#[derive(Deserialize)]
struct Cursor {
    after: Option<String>,
}

/// The parameters of a call, from a JSON object.
fn params(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Conduit {
    /// Searches for the objects whose `key` is one of `values`, with one call for each [`PAGE`] of them. Unknown and
    /// invisible objects are left out.
    async fn search<T: DeserializeOwned>(
        &self,
        method: &'static str,
        key: &str,
        values: &[impl AsRef<str>],
        attachments: Value,
    ) -> Result<Vec<T>, ConduitError> {
        let mut found = Vec::new();
        // The server refuses an empty list, and `chunks` gives none.
        for chunk in values.chunks(PAGE) {
            let values: Vec<&str> = chunk.iter().map(AsRef::as_ref).collect();
            let request =
                params(json!({ "constraints": { key: values }, "attachments": attachments }));
            found.extend(self.pages(method, request, |_| true).await?);
        }
        Ok(found)
    }

    /// The results of a search. Loads the next page as long as `goes_on` accepts the last one.
    async fn pages<T: DeserializeOwned>(
        &self,
        method: &'static str,
        mut request: Map<String, Value>,
        goes_on: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, ConduitError> {
        let mut found = Vec::new();
        loop {
            let page: Page<T> = self.call(method, request.clone()).await?;
            let goes_on = goes_on(&page.data);
            found.extend(page.data);
            let after = page.cursor.after.map(Value::String);
            // A cursor that stands still would never end.
            match after.filter(|after| goes_on && request.get("after") != Some(after)) {
                Some(after) => request.insert("after".to_owned(), after),
                None => return Ok(found),
            };
        }
    }
}
