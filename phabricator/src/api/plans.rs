//! Calls about build plans.

use std::collections::HashMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

use super::{Page, params};
use crate::{Conduit, ConduitError};
use build::Phid;

/// The number of newest builds that are read.
const NEWEST: usize = 20;

/// A build plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildPlan {
    /// The name that people see.
    pub name: String,
    /// Whether Harbormaster runs it.
    pub is_enabled: bool,
    /// The value of "Hold Drafts": `always`, `building` or `never`. `None` where the server does not show it.
    pub hold_drafts: Option<String>,
}

/// Counts of the newest builds of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewestBuilds {
    /// The number of builds, at most 20.
    pub builds: usize,
    /// The number of those that a rule of Herald started.
    pub by_herald: usize,
    /// The number of targets of the newest build that our user sees.
    pub targets: usize,
}

impl NewestBuilds {
    /// Whether the plan has no visible build.
    pub fn is_empty(&self) -> bool {
        self.builds == 0
    }
}

#[derive(Deserialize)]
struct Wire<F> {
    phid: Phid,
    fields: F,
}

#[derive(Deserialize)]
struct PlanFields {
    name: String,
    status: ValueField,
    #[serde(default)]
    behaviors: Behaviors,
}

/// PHP writes an empty map as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Behaviors {
    Known(HashMap<String, ValueField>),
    None(IgnoredAny),
}

impl Default for Behaviors {
    fn default() -> Self {
        Self::None(IgnoredAny)
    }
}

#[derive(Deserialize)]
struct ValueField {
    value: String,
}

#[derive(Deserialize)]
struct StepFields {
    name: String,
    #[serde(rename = "buildPlanPHID")]
    plan: Phid,
}

#[derive(Deserialize)]
struct BuildFields {
    #[serde(rename = "initiatorPHID")]
    initiator: Option<Phid>,
}

impl Conduit {
    /// The build plan; `None` when our user does not see it.
    pub async fn build_plan(&self, plan: &Phid) -> Result<Option<BuildPlan>, ConduitError> {
        let found: Vec<Wire<PlanFields>> = self
            .search("harbormaster.buildplan.search", "phids", &[plan], json!({}))
            .await?;
        Ok(found
            .into_iter()
            .next()
            .map(|Wire { fields, .. }| BuildPlan {
                name: fields.name,
                is_enabled: fields.status.value == "active",
                hold_drafts: match fields.behaviors {
                    Behaviors::Known(mut behaviors) => {
                        behaviors.remove("hold-drafts").map(|field| field.value)
                    }
                    Behaviors::None(_) => None,
                },
            }))
    }

    /// The names of the plan's steps.
    pub async fn build_steps(&self, plan: &Phid) -> Result<Vec<String>, ConduitError> {
        // The search has no constraint for plans, so load every page.
        let all: Vec<Wire<StepFields>> = self
            .pages(
                "harbormaster.step.search",
                params(json!({ "constraints": {} })),
                |_| true,
            )
            .await?;
        Ok(all
            .into_iter()
            .filter(|step| step.fields.plan == *plan)
            .map(|step| step.fields.name)
            .collect())
    }

    /// The newest builds of the plan that our user sees.
    pub async fn newest_builds(&self, plan: &Phid) -> Result<NewestBuilds, ConduitError> {
        let request = params(json!({ "constraints": { "plans": [plan] }, "limit": NEWEST }));
        let builds: Page<Wire<BuildFields>> =
            self.call("harbormaster.build.search", request).await?;
        let Some(newest) = builds.data.first() else {
            return Ok(NewestBuilds::default());
        };
        let targets: Vec<IgnoredAny> = self
            .search(
                "harbormaster.target.search",
                "buildPHIDs",
                &[&newest.phid],
                json!({}),
            )
            .await?;
        let is_rule = |build: &&Wire<BuildFields>| {
            build
                .fields
                .initiator
                .as_ref()
                .is_some_and(|initiator| initiator.kind() == "HRUL")
        };
        Ok(NewestBuilds {
            builds: builds.data.len(),
            by_herald: builds.data.iter().filter(is_rule).count(),
            targets: targets.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_build_of_herald_has_a_rule_as_initiator() {
        #[derive(Deserialize)]
        struct Recorded {
            response: Answer,
        }
        #[derive(Deserialize)]
        struct Answer {
            result: Page<Wire<BuildFields>>,
        }
        let recorded =
            include_str!("../../tests/fixtures/phorge/harbormaster.build.search.herald.json");
        let recorded: Recorded = serde_json::from_str(recorded).unwrap();
        let initiator = recorded.response.result.data[0]
            .fields
            .initiator
            .as_ref()
            .unwrap();
        assert_eq!(initiator.kind(), "HRUL");
    }

    #[test]
    fn behaviors_may_be_missing_or_an_empty_list() {
        for (fields, expected) in [
            (r#"{"name": "p", "status": {"value": "active"}}"#, None),
            (
                r#"{"name": "p", "status": {"value": "active"}, "behaviors": []}"#,
                None,
            ),
            (
                r#"{"name": "p", "status": {"value": "active"}, "behaviors": {"hold-drafts": {"value": "always"}}}"#,
                Some("always"),
            ),
        ] {
            let fields: PlanFields = serde_json::from_str(fields).unwrap();
            let found = match fields.behaviors {
                Behaviors::Known(behaviors) => behaviors
                    .get("hold-drafts")
                    .map(|field| field.value.clone()),
                Behaviors::None(_) => None,
            };
            assert_eq!(found.as_deref(), expected);
        }
    }
}
