//! Calls that publish on a build target: messages, units and links.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::json;

use super::params;
use crate::{Conduit, ConduitError};
use build::Phid;

/// The effect of a message on its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessageType {
    /// None: the work goes on.
    Work,
    /// The target passes.
    Pass,
    /// The target fails.
    Fail,
}

impl MessageType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// A unit test result, Harbormaster's form for any text on a build.
///
/// The server refuses explicit nulls. A `namespace` over 255 characters crashes it, so ours is a constant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Unit {
    pub(crate) namespace: &'static str,
    /// A test's label, or one of ours.
    pub(crate) name: Cow<'static, str>,
    pub(crate) result: UnitResult,
    pub(crate) format: &'static str,
    /// In seconds, finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<f64>,
    pub(crate) details: String,
}

/// The result of a unit. The server does not check it, and shows any word as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnitResult {
    /// No fault was found.
    Pass,
    /// It failed, through a fault of the patch.
    Fail,
    /// It was not run, without a fault.
    Skip,
    /// It could not be run, through a failure of ours.
    Broken,
    /// Its result is less reliable than it seems.
    Unsound,
}

impl UnitResult {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Broken => "broken",
            Self::Unsound => "unsound",
        }
    }
}

impl Conduit {
    /// Sends a message to a build target. `false` when there is no such target, or it is not visible. Messages to a
    /// target that has ended are accepted and without effect.
    ///
    /// The server appends units each time they arrive, in one step with the message. So a call with units is not repeated.
    pub(crate) async fn send_message(
        &self,
        target: &Phid,
        kind: MessageType,
        units: &[Unit],
    ) -> Result<bool, ConduitError> {
        let mut request = params(json!({ "receiver": target, "type": kind }));
        let method = "harbormaster.sendmessage";
        let sent = if units.is_empty() {
            self.call(method, request).await
        } else {
            request.insert("unit".to_owned(), json!(units));
            self.call_once(method, request).await
        };
        known(sent, "Unable to load object")
    }

    /// The keys of the artifacts of a build target. No call returns their contents, such as the address of a link.
    pub(crate) async fn artifact_keys(&self, target: &Phid) -> Result<Vec<String>, ConduitError> {
        let found = self.artifacts(std::slice::from_ref(target)).await?;
        Ok(found.into_iter().map(|artifact| artifact.key).collect())
    }

    /// The artifacts of these build targets.
    pub(crate) async fn artifacts(
        &self,
        targets: &[Phid],
    ) -> Result<Vec<ArtifactInfo>, ConduitError> {
        let found: Vec<Listed> = self
            .search(
                "harbormaster.artifact.search",
                "buildTargetPHIDs",
                targets,
                json!({}),
            )
            .await?;
        Ok(found.into_iter().map(|listed| listed.fields).collect())
    }

    /// Creates a link on a build target. An existing link with this `key` stays as it is, and counts as success. `false` when
    /// there is no such target, or it is not visible.
    pub(crate) async fn create_link(
        &self,
        target: &Phid,
        key: &str,
        name: &str,
        uri: &str,
    ) -> Result<bool, ConduitError> {
        let request = json!({
            "buildTargetPHID": target,
            "artifactKey": key,
            "artifactType": "uri",
            "artifactData": { "uri": uri, "name": name, "ui.external": true },
        });
        match self
            .call("harbormaster.createartifact", params(request))
            .await
        {
            Err(ConduitError::Refused { info, .. })
                if info.starts_with("#1062: Duplicate entry") =>
            {
                Ok(true)
            }
            created => known(created, "No such build target"),
        }
    }
}

/// The fields of an artifact that we read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ArtifactInfo {
    #[serde(rename = "buildTargetPHID")]
    pub(crate) target: Phid,
    #[serde(rename = "artifactKey")]
    pub(crate) key: String,
}

#[derive(Deserialize)]
struct Listed {
    fields: ArtifactInfo,
}

/// `false` for a refusal whose text begins with `unknown`: most refusals share one code.
fn known(answer: Result<IgnoredAny, ConduitError>, unknown: &str) -> Result<bool, ConduitError> {
    match answer {
        Ok(_) => Ok(true),
        Err(ConduitError::Refused { info, .. }) if info.starts_with(unknown) => Ok(false),
        Err(error) => Err(error),
    }
}
