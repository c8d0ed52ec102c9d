//! The fake's users, projects and repositories, and who the token is.

use serde_json::{Map, Value, json};

use super::{
    search::{Known, Refusal, Search, numbered},
    state::State,
};

pub(super) fn whoami(state: &State) -> Value {
    json!({
        "phid": "PHID-USER-00000000000000000000",
        "userName": "bot",
        "realName": "Bot",
        "image": format!("{}/file/data/bot.png", state.url),
        "uri": format!("{}/p/bot/", state.url),
        "roles": ["verified", "approved", "activated"],
        "primaryEmail": "bot@example.com",
    })
}

pub(super) fn users(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "PhabricatorPeopleQuery",
        integers: &["ids"],
        strings: &["phids", "usernames"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    // Usernames are compared without regard to case.
    let names: Option<Vec<String>> = search
        .strings("usernames")
        .map(|names| names.iter().map(|name| name.to_lowercase()).collect());
    let found = state.users.iter().filter(|user| {
        search.wants("ids", user.id)
            && search.wants("phids", user.phid.as_str())
            && names
                .as_ref()
                .is_none_or(|names| names.contains(&user.username))
    });
    let shown = found.map(|user| {
        let fields = json!({
            "username": user.username,
            "realName": user.real_name,
            "roles": ["verified", "approved", "activated"],
            "dateCreated": user.created_at.as_second(),
            "dateModified": user.created_at.as_second(),
            "policy": { "view": "public", "edit": "no-one" },
        });
        (user.id, json!({ "id": user.id, "type": "USER", "phid": user.phid, "fields": fields, "attachments": {} }))
    });
    search.page(shown.collect(), numbered(state.users.len()))
}

pub(super) fn projects(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "PhabricatorProjectQuery",
        integers: &["ids"],
        strings: &["phids", "slugs"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    // A slug may be given as a hashtag.
    let slugs = search.strings("slugs");
    let named = |slug: &str, asked: &str| asked.strip_prefix('#').unwrap_or(asked) == slug;
    let found = state.projects.iter().filter(|project| {
        search.wants("ids", project.id)
            && search.wants("phids", project.phid.as_str())
            && slugs
                .as_ref()
                .is_none_or(|slugs| slugs.iter().any(|asked| named(&project.slug, asked)))
    });
    let shown = found.map(|project| {
        let fields = json!({
            "name": project.slug,
            "slug": project.slug,
            "subtype": "default",
            "milestone": null,
            "depth": 0,
            "parent": null,
            "icon": { "key": "project", "name": "Project", "icon": "fa-briefcase" },
            "color": { "key": "blue", "name": "Blue" },
            "status": "active",
            "spacePHID": null,
            "dateCreated": project.created_at.as_second(),
            "dateModified": project.created_at.as_second(),
            "policy": { "view": "users", "edit": "users", "join": "users" },
            "description": null,
        });
        let object =
            json!({ "id": project.id, "type": "PROJ", "phid": project.phid, "fields": fields, "attachments": {} });
        (project.id, object)
    });
    let mut page = search.page(shown.collect(), numbered(state.projects.len()))?;
    if let Some(slugs) = slugs {
        let phid_of = |asked: &str| {
            state
                .projects
                .iter()
                .find(|project| named(&project.slug, asked))
        };
        let map: Map<String, Value> = slugs
            .iter()
            .filter_map(|asked| {
                let project = phid_of(asked)?;
                Some((
                    asked.clone(),
                    json!({ "slug": project.slug, "projectPHID": project.phid }),
                ))
            })
            .collect();
        page["maps"] = json!({ "slugMap": map });
    }
    Ok(page)
}

pub(super) fn repositories(state: &State, params: &Map<String, Value>) -> Result<Value, Refusal> {
    const KNOWN: Known = Known {
        query: "PhabricatorRepositoryQuery",
        integers: &["ids"],
        strings: &["phids", "shortNames"],
        attachments: &[],
    };
    let search = Search::read(params, &KNOWN)?;
    let found = state.repositories.iter().filter(|repository| {
        search.wants("ids", repository.id)
            && search.wants("phids", repository.phid.as_str())
            && search.wants("shortNames", repository.short_name.as_str())
    });
    let shown = found.map(|repository| {
        let fields = json!({
            "name": repository.short_name,
            "vcs": "hg",
            "callsign": repository.short_name.to_uppercase().replace(|c: char| !c.is_ascii_alphabetic(), ""),
            "shortName": repository.short_name,
            "status": "active",
            "isHosted": true,
            "isImporting": false,
            "encoding": "UTF-8",
            "staging": { "supported": false, "prefix": "phabricator", "uri": null },
            "browseUri": format!("{}/source/{}/", state.url, repository.short_name),
            "almanacServicePHID": null,
            "refRules": { "fetchRules": [], "trackRules": [], "permanentRefRules": [] },
            "defaultBranch": "default",
            "description": { "raw": "" },
            "spacePHID": null,
            "dateCreated": repository.created_at.as_second(),
            "dateModified": repository.created_at.as_second(),
            "policy": { "view": "users", "edit": "admin", "diffusion.push": "users" },
        });
        let object = json!({
            "id": repository.id, "type": "REPO", "phid": repository.phid, "fields": fields, "attachments": {},
        });
        (repository.id, object)
    });
    search.page(shown.collect(), numbered(state.repositories.len()))
}
