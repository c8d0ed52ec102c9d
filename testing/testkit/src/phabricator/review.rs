//! The fake's revisions, diffs and edges.

use serde_json::{Map, Value, json};

use super::{
    RevisionStatus,
    search::{Known, Refusal, Search, not_numeric, numeric},
    state::{Diff, Revision, State},
};

pub(super) fn revisions(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "DifferentialRevisionQuery",
        integers: &["ids"],
        strings: &["phids"],
        attachments: &["projects", "reviewers"],
    };
    let search = Search::read(params, &KNOWN)?;
    let found = state.revisions.iter().filter(|revision| {
        revision.visible
            && search.wants("ids", revision.id)
            && search.wants("phids", revision.phid.as_str())
    });
    let shown = found.map(|revision| (revision.id, revision_json(state, revision, &search)));
    let is_shown = |id| {
        state
            .revisions
            .iter()
            .any(|revision| revision.id == id && revision.visible)
    };
    search.page(shown.collect(), is_shown)
}

fn revision_json(state: &State, revision: &Revision, search: &Search) -> Value {
    let (value, name, closed, color) = match revision.status {
        RevisionStatus::Draft => ("draft", "Draft", false, None),
        RevisionStatus::NeedsReview => ("needs-review", "Needs Review", false, Some("magenta")),
        RevisionStatus::NeedsRevision => ("needs-revision", "Needs Revision", false, Some("red")),
        RevisionStatus::ChangesPlanned => {
            ("changes-planned", "Changes Planned", false, Some("red"))
        }
        RevisionStatus::Accepted => ("accepted", "Accepted", false, Some("green")),
        RevisionStatus::Published => ("published", "Closed", true, Some("cyan")),
        RevisionStatus::Abandoned => ("abandoned", "Abandoned", true, None),
    };
    let mut attachments = Map::new();
    if search.attaches("projects") {
        attachments.insert(
            "projects".to_owned(),
            json!({ "projectPHIDs": revision.projects }),
        );
    }
    if search.attaches("reviewers") {
        // Whoever reviews it is of one mind here.
        let verdict = match revision.status {
            RevisionStatus::Accepted => Some("accepted"),
            RevisionStatus::NeedsRevision => Some("rejected"),
            _ => None,
        };
        let reviewers = revision.reviewers.iter().map(|reviewer| {
            let (status, actor) = (verdict.unwrap_or("added"), verdict.map(|_| reviewer));
            json!({ "reviewerPHID": reviewer, "status": status, "isBlocking": false, "actorPHID": actor })
        });
        attachments.insert(
            "reviewers".to_owned(),
            json!({ "reviewers": reviewers.collect::<Vec<_>>() }),
        );
    }
    json!({
        "id": revision.id,
        "type": "DREV",
        "phid": revision.phid,
        "fields": {
            "title": revision.title,
            "uri": format!("{}/D{}", state.url, revision.id),
            "authorPHID": revision.author,
            "status": { "value": value, "name": name, "closed": closed, "color.ansi": color },
            "repositoryPHID": revision.repository,
            "diffPHID": revision.newest_diff,
            "summary": "",
            "testPlan": "",
            "isDraft": matches!(revision.status, RevisionStatus::Draft | RevisionStatus::ChangesPlanned),
            "holdAsDraft": false,
            "dateCreated": revision.created_at.as_second(),
            "dateModified": revision.modified_at.as_second(),
            "policy": { "view": revision.view_policy, "edit": "users" },
        },
        "attachments": attachments,
    })
}

pub(super) fn diffs(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "DifferentialDiffQuery",
        integers: &["ids"],
        strings: &["phids", "revisionPHIDs"],
        attachments: &["commits"],
    };
    let search = Search::read(params, &KNOWN)?;
    let found = state.diffs.iter().filter(|diff| {
        state.sees_diff(diff)
            && search.wants("ids", diff.id)
            && search.wants("phids", diff.phid.as_str())
            && search.wants(
                "revisionPHIDs",
                diff.revision.as_ref().map(|revision| revision.as_str()),
            )
    });
    let shown = found.map(|diff| (diff.id, diff_json(diff, &search)));
    search.page(shown.collect(), |id| state.visible_diff(id).is_some())
}

fn diff_json(diff: &Diff, search: &Search) -> Value {
    // What was pasted has neither repository nor branch.
    let mut refs = Vec::new();
    refs.extend(
        diff.repository
            .as_ref()
            .map(|_| json!({ "type": "branch", "name": "default" })),
    );
    refs.extend(
        diff.base
            .as_ref()
            .map(|base| json!({ "type": "base", "identifier": base })),
    );
    let mut attachments = Map::new();
    if search.attaches("commits") {
        let commit = diff.commit.as_ref().map(|(raw, message)| {
            let (name, mail) = raw.split_once('<').unwrap_or((raw, ""));
            json!({
                "identifier": format!("{:040x}", diff.id),
                "tree": null,
                "parents": diff.base.iter().collect::<Vec<_>>(),
                "author": {
                    "name": name.trim().trim_matches('"'),
                    "email": mail.trim_end_matches('>'),
                    "raw": raw,
                    "epoch": diff.created_at.as_second(),
                },
                "message": message,
            })
        });
        attachments.insert(
            "commits".to_owned(),
            json!({ "commits": commit.into_iter().collect::<Vec<_>>() }),
        );
    }
    json!({
        "id": diff.id,
        "type": diff.kind,
        "phid": diff.phid,
        "fields": {
            "revisionPHID": diff.revision,
            "authorPHID": diff.author,
            "repositoryPHID": diff.repository,
            "refs": refs,
            "dateCreated": diff.created_at.as_second(),
            "dateModified": diff.created_at.as_second(),
            "policy": { "view": "users" },
        },
        "attachments": attachments,
    })
}

pub(super) fn raw_diff(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    let id = match params.get("diffID") {
        None | Some(Value::Null) => None,
        Some(id) => Some(numeric(id).ok_or_else(not_numeric)?),
    };
    let id = id.and_then(|id| u64::try_from(id).ok());
    let diff = id.and_then(|id| state.visible_diff(id));
    let diff = diff.ok_or_else(|| Refusal::new("ERR_NOT_FOUND", "Diff not found."))?;
    Ok(json!(diff.patch))
}

/// Edges are named whether or not their far end is visible; a near end that is not fails the call.
///
/// A page begins after the second of the last edge before it, so edges of that same second are lost.
pub(super) fn edges(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    let list = |key: &str| -> Vec<&str> {
        let list = params.get(key).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let (sources, types) = (list("sourcePHIDs"), list("types"));
    if sources.is_empty() {
        let info = "Must pass an array of PHIDs for parameter \"sourcePHIDs\".";
        return Err(Refusal::new("ERR-ARRAY-SOURCEPHIDS", info));
    }
    if types.is_empty() {
        let info = "Must pass an array of edge types for parameter \"types\".";
        return Err(Refusal::new("ERR-ARRAY-TYPES", info));
    }
    if types
        .iter()
        .any(|kind| !["revision.parent", "revision.child"].contains(kind))
    {
        return Err(Refusal::new(
            "ERR-BAD-TYPES",
            "Invalid edge type(s) included for parameter \"types\".",
        ));
    }
    let visible = |phid: &str| {
        state
            .revisions
            .iter()
            .any(|revision| revision.phid.as_str() == phid && revision.visible)
            || state
                .diffs
                .iter()
                .any(|diff| diff.phid.as_str() == phid && state.sees_diff(diff))
    };
    if !sources.iter().all(|source| visible(source)) {
        let info = "Invalid PHID(s) included for parameter \"sourcePHIDs\".";
        return Err(Refusal::new("ERR-BAD-SOURCEPHIDS", info));
    }
    let after = params
        .get("after")
        .and_then(Value::as_str)
        .and_then(|after| after.split('_').next()?.parse().ok());
    let mut found: Vec<(i64, Value)> = Vec::new();
    for edge in state.edges.iter().rev() {
        let at = edge.created_at.as_second();
        let ends = [
            ("revision.child", &edge.parent, &edge.child),
            ("revision.parent", &edge.child, &edge.parent),
        ];
        for (kind, source, destination) in ends {
            let wanted = types.contains(&kind) && sources.contains(&source.as_str());
            if wanted && after.is_none_or(|after: i64| at < after) {
                found.push((at, json!({ "sourcePHID": source, "edgeType": kind, "destinationPHID": destination })));
            }
        }
    }
    let limit = params.get("limit").and_then(Value::as_u64).unwrap_or(100);
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let cursor = |edge: Option<&(i64, Value)>| edge.map(|(at, _)| format!("{at}_0"));
    let next = cursor(found.last()).filter(|_| more);
    let before = cursor(found.first()).filter(|_| after.is_some());
    let data: Vec<Value> = found.into_iter().map(|(_, edge)| edge).collect();
    Ok(json!({ "data": data, "cursor": { "limit": limit, "after": next, "before": before } }))
}
