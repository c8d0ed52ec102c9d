//! What is said on a build target.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::json;

use super::params;
use crate::{Conduit, ConduitError};
use build::Phid;

/// What a message does to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessageType {
    /// Nothing: the work goes on.
    Work,
    /// Ends it well.
    Pass,
    /// Ends it badly.
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

/// A unit test result, Harbormaster's form for anything that is to be read on a build.
///
/// The server refuses explicit nulls, and a text over 255 characters as `namespace` is a crash there, so that is a
/// constant.
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

/// How a unit ended. The server does not check it, so a wrong word would be shown as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnitResult {
    /// All is well.
    Pass,
    /// It failed, by the patch's fault.
    Fail,
    /// It was not run, and that is all right.
    Skip,
    /// It could not be run.
    Broken,
    /// It means less than it seems to.
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
    /// Units are appended each time they are sent, in one step with the message: with units it is called once only.
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

    /// The keys of what is shown on a build target. What it says, such as the address of a link, is in no answer.
    pub(crate) async fn artifact_keys(&self, target: &Phid) -> Result<Vec<String>, ConduitError> {
        let found = self.artifacts(std::slice::from_ref(target)).await?;
        Ok(found.into_iter().map(|artifact| artifact.key).collect())
    }

    /// What is shown on these build targets.
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

    /// Shows a link on a build target; done when the target has one with this `key` already. `false` when there is no
    /// such target, or it is not visible.
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

/// What is read of something that is shown on a build target.
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

/// `false` for the refusal that begins with `unknown`; the code is the same for most refusals.
fn known(answer: Result<IgnoredAny, ConduitError>, unknown: &str) -> Result<bool, ConduitError> {
    match answer {
        Ok(_) => Ok(true),
        Err(ConduitError::Refused { info, .. }) if info.starts_with(unknown) => Ok(false),
        Err(error) => Err(error),
    }
}
