//! What the fake's Harbormaster shows: buildables, builds, targets and artifacts.

use serde_json::{Map, Value, json};

use super::{
    TargetStatus, plans,
    search::{Known, Refusal, Search, numbered},
    state::{Build, State, Stop},
};

pub(super) fn buildables(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "HarbormasterBuildableQuery",
        integers: &["ids"],
        strings: &["phids", "objectPHIDs", "containerPHIDs"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    let shown = state.builds.iter().filter_map(|build| {
        let diff = state.visible_diff(build.diff_id)?;
        let wanted = search.wants("ids", build.id)
            && search.wants("phids", build.buildable.as_str())
            && search.wants("objectPHIDs", diff.phid.as_str())
            && search.wants("containerPHIDs", diff.revision.as_ref().map(|revision| revision.as_str()));
        // There is a buildable for each build here, as when somebody starts it by hand.
        let status = match build_status(state, build).0 {
            "passed" => "passed",
            "failed" | "aborted" => "failed",
            _ => "building",
        };
        let fields = json!({
            "objectPHID": diff.phid,
            "containerPHID": diff.revision,
            "buildableStatus": { "value": status },
            "isManual": true,
            "uri": format!("{}/B{}", state.url, build.id),
            "dateCreated": build.created_at.as_second(),
            "dateModified": build.modified_at.as_second(),
            "policy": { "view": "users", "edit": "users" },
        });
        let object =
            json!({ "id": build.id, "type": "HMBB", "phid": build.buildable, "fields": fields, "attachments": {} });
        wanted.then_some((build.id, object))
    });
    search.page(shown.collect(), numbered(state.builds.len()))
}

pub(super) fn builds(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "HarbormasterBuildQuery",
        integers: &["ids"],
        strings: &["phids", "plans", "buildables"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    let found = state.builds.iter().filter(|build| {
        state.visible_diff(build.diff_id).is_some()
            && search.wants("ids", build.id)
            && search.wants("phids", build.phid.as_str())
            && search.wants("plans", build.plan.as_str())
            && search.wants("buildables", build.buildable.as_str())
    });
    let shown = found.map(|build| {
        let (value, name, color) = build_status(state, build);
        let fields = json!({
            "buildablePHID": build.buildable,
            "buildPlanPHID": build.plan,
            "buildStatus": { "value": value, "name": name, "color.ansi": color },
            "initiatorPHID": plans::initiator(state, &build.plan),
            "name": "code review",
            "dateCreated": build.created_at.as_second(),
            "dateModified": build.modified_at.as_second(),
            "policy": { "view": "users", "edit": "users" },
        });
        (build.id, json!({ "id": build.id, "type": "HMBD", "phid": build.phid, "fields": fields, "attachments": {} }))
    });
    search.page(shown.collect(), numbered(state.builds.len()))
}

/// Value, name and colour.
fn build_status(state: &State, build: &Build) -> (&'static str, &'static str, &'static str) {
    match (
        build.stopped,
        state.newest_target(build).map(|target| target.status),
    ) {
        (Some(Stop::Aborted), _) | (_, Some(TargetStatus::Aborted)) => {
            ("aborted", "Aborted", "red")
        }
        (Some(Stop::Paused), _) => ("paused", "Paused", "yellow"),
        (None, Some(TargetStatus::Passed)) => ("passed", "Passed", "green"),
        (None, Some(TargetStatus::Failed)) => ("failed", "Failed", "red"),
        (None, Some(TargetStatus::Building | TargetStatus::Waiting) | None) => {
            ("building", "Building", "yellow")
        }
    }
}

pub(super) fn targets(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "HarbormasterBuildTargetQuery",
        integers: &["ids"],
        strings: &["phids", "buildPHIDs"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    let found = state.targets.iter().filter(|target| {
        state.visible_diff(target.diff_id).is_some()
            && search.wants("ids", target.id)
            && search.wants("phids", target.phid.as_str())
            && search.wants("buildPHIDs", target.build.as_str())
    });
    let shown = found.map(|target| {
        let (value, name) = match target.status {
            TargetStatus::Building => ("target/building", "Building"),
            TargetStatus::Waiting => ("target/waiting", "Waiting for Message"),
            TargetStatus::Passed => ("target/passed", "Passed"),
            TargetStatus::Failed => ("target/failed", "Failed"),
            TargetStatus::Aborted => ("target/aborted", "Aborted"),
        };
        let started = target.started_at.as_second();
        let completed = target.completed_at.map(|at| at.as_second());
        let fields = json!({
            "name": "Notify code review",
            "buildPHID": target.build,
            "buildStepPHID": "PHID-HMCS-00000000000000000000",
            "status": { "value": value, "name": name },
            "epochStarted": started,
            "epochCompleted": completed,
            "buildGeneration": target.generation,
            "dateCreated": started,
            "dateModified": completed.unwrap_or(started),
            "policy": { "view": "users" },
        });
        (
            target.id,
            json!({ "id": target.id, "type": "HMBT", "phid": target.phid, "fields": fields, "attachments": {} }),
        )
    });
    search.page(shown.collect(), numbered(state.targets.len()))
}

/// Artifacts are listed without what they say, as the real one does.
pub(super) fn artifacts(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "HarbormasterBuildArtifactQuery",
        integers: &["ids"],
        strings: &["phids", "buildTargetPHIDs"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    let shown = (1..).zip(&state.artifacts).filter_map(|(id, artifact)| {
        let target = state.targets.iter().find(|target| target.phid == artifact.target)?;
        state.visible_diff(target.diff_id)?;
        let wanted = search.wants("ids", id)
            && search.wants("phids", artifact.phid.as_str())
            && search.wants("buildTargetPHIDs", artifact.target.as_str());
        let created = artifact.created_at.as_second();
        let fields = json!({
            "buildTargetPHID": artifact.target,
            "artifactType": "uri",
            "artifactKey": artifact.key,
            // Nothing else needs it, so Harbormaster releases it as soon as it reads the build again.
            "isReleased": target.status != TargetStatus::Building,
            "dateCreated": created,
            "dateModified": created,
            "policy": { "view": "users" },
        });
        let object = json!({ "id": id, "type": "HMBA", "phid": artifact.phid, "fields": fields, "attachments": {} });
        wanted.then_some((id, object))
    });
    search.page(shown.collect(), numbered(state.artifacts.len()))
}
