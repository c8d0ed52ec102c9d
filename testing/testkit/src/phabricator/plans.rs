//! Build plans and their steps, as people set them up.

use serde_json::{Map, Value, json};

use super::{
    FakePhabricator,
    search::{Known, Refusal, Search, numbered},
    state::State,
};
use build::Phid;

/// When plans and steps were made.
const CREATED: i64 = 1_795_228_500;

/// A build plan. It begins as one that is right.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) phid: Phid,
    /// Whether it runs.
    pub is_enabled: bool,
    /// Whether our user sees it.
    pub is_visible: bool,
    /// What "Hold Drafts" says.
    pub hold_drafts: &'static str,
    /// What "Restartable" says: `always`, `failed` or `never`.
    pub restartable: &'static str,
    /// The names of its steps.
    pub steps: Vec<String>,
    /// Whether a rule of Herald starts its builds.
    pub has_rule: bool,
}

impl Plan {
    pub(super) fn new(phid: Phid) -> Self {
        let steps = vec!["Notify code review".to_owned()];
        Self {
            phid,
            is_enabled: true,
            is_visible: true,
            hold_drafts: "never",
            restartable: "always",
            steps,
            has_rule: true,
        }
    }
}

impl FakePhabricator {
    /// Changes a build plan.
    pub fn edit_build_plan(&self, plan: &Phid, edit: impl FnOnce(&mut Plan)) {
        if let Some(plan) = self
            .state()
            .plans
            .iter_mut()
            .find(|known| known.phid == *plan)
        {
            edit(plan);
        }
    }
}

/// Who started a build of `plan`.
pub(super) fn initiator(state: &State, plan: &Phid) -> &'static str {
    match state
        .plans
        .iter()
        .any(|known| known.phid == *plan && known.has_rule)
    {
        true => "PHID-HRUL-00000000000000000000",
        false => "PHID-APPS-PhabricatorHarbormasterApplication",
    }
}

pub(super) fn plans(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "HarbormasterBuildPlanQuery",
        integers: &["ids"],
        strings: &["phids"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    let found = state.plans.iter().zip(1..).filter(|(plan, id)| {
        plan.is_visible && search.wants("ids", *id) && search.wants("phids", plan.phid.as_str())
    });
    let shown = found.map(|(plan, id)| {
        let fields = json!({
            "name": "code review",
            "status": { "value": if plan.is_enabled { "active" } else { "disabled" } },
            "behaviors": {
                "hold-drafts": { "value": plan.hold_drafts },
                "arc-land": { "value": "always" },
                "buildable": { "value": "always" },
                "restartable": { "value": plan.restartable },
                "runnable": { "value": "edit" },
            },
            "dateCreated": CREATED,
            "dateModified": CREATED,
            "policy": { "view": "users", "edit": "admin" },
        });
        (id, json!({ "id": id, "type": "HMCP", "phid": plan.phid, "fields": fields, "attachments": {} }))
    });
    search.page(shown.collect(), numbered(state.plans.len()))
}

pub(super) fn steps(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "HarbormasterBuildStepQuery",
        integers: &["ids"],
        strings: &["phids"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    let all = state
        .plans
        .iter()
        .flat_map(|plan| plan.steps.iter().map(move |step| (plan, step)))
        .zip(1..);
    let shown = all.filter(|((plan, _), id)| plan.is_visible && search.wants("ids", *id)).map(|((plan, step), id)| {
        let fields = json!({
            "name": step,
            "description": { "raw": "" },
            "buildPlanPHID": plan.phid,
            "dateCreated": CREATED,
            "dateModified": CREATED,
            "policy": { "view": "users", "edit": "admin" },
        });
        let phid = format!("PHID-HMCS-{id:020}");
        (id, json!({ "id": id, "type": "HMCS", "phid": phid, "fields": fields, "attachments": {} }))
    });
    let count = state.plans.iter().map(|plan| plan.steps.len()).sum();
    search.page(shown.collect(), numbered(count))
}
