//! The version control of a repository, and where its heads go.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;
use worker::{DEFAULT_REF, GitSettings, LandoSettings, VcsSettings, check_ref_template};

use super::{
    repository::{RepositoryKeys, clean},
    schema::At,
    secrets,
    values::{Flag, List, Secret, Text, Written},
};

/// A destination that was read.
pub(super) struct Destination {
    /// Its address.
    pub(super) url: String,
    pub(super) vcs: VcsSettings,
    /// Lando, if stacks are submitted there.
    pub(super) lando: Option<LandoSettings>,
}

/// The version control that a repository names.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum VcsKey {
    Hg,
    Git,
}

/// The keys of a destination: one of them is set.
#[derive(Deserialize, JsonSchema)]
pub(super) struct DestinationKeys {
    /// A repository of Git.
    git: Option<GitKeys>,
    /// A repository of Mercurial.
    hg: Option<HgKeys>,
    /// [Lando](../use/lando.md), which pushes stacks for us.
    lando: Option<LandoKeys>,
}

/// The keys of a Lando that stacks are submitted to.
#[derive(Deserialize, JsonSchema)]
struct LandoKeys {
    /// Its address, such as `https://lando.example.com`.
    #[schemars(required)]
    url: Option<Written<Url>>,
    /// The token of the user who submits. No other program may submit with it, and no other deployment.
    #[schemars(required)]
    token: Option<Secret>,
    /// The mail address of that user, as Lando shows it in jobs.
    #[schemars(required)]
    user: Option<Text>,
    /// The name of the repository at Lando.
    #[schemars(extend("default" = "try"))]
    repository: Option<Text>,
    /// The format of the patches. With `hgexport`, Lando fails.
    #[schemars(extend("default" = "git-format-patch"))]
    #[expect(dead_code, reason = "it has one value")]
    patch_format: Option<PatchFormatKey>,
}

/// The formats of patches.
#[derive(Deserialize, JsonSchema)]
enum PatchFormatKey {
    #[serde(rename = "git-format-patch")]
    GitFormatPatch,
}

/// The keys of a repository of Git that heads are pushed to.
#[derive(Deserialize, JsonSchema)]
struct GitKeys {
    /// Its address.
    #[schemars(required)]
    url: Option<Text>,
    /// [The ref](../use/git.md#the-ref) that gets the head of a build. It begins with `refs/` and has `{revision}` or
    /// `{diff}`, which stand for their numbers.
    #[serde(rename = "ref")]
    #[schemars(extend("default" = DEFAULT_REF))]
    reference: Option<Text>,
    /// The options of each push (`git push -o`), such as `ci.variable=NAME=value` for GitLab.
    push_options: Option<List<Text>>,
    /// The time since the last push to a ref after which [it is deleted](../use/git.md#old-refs).
    #[schemars(extend("default" = "336h"))]
    ref_retention: Option<Written<Duration>>,
    /// Whether a hook that declines a push is about the patches: the build then fails, and its author reads what the hook
    /// printed. Otherwise the push is retried, and operators read it.
    #[schemars(extend("default" = false))]
    hook_rejects_patches: Option<Flag>,
}

/// The keys of a repository of Mercurial that heads are pushed to.
#[derive(Deserialize, JsonSchema)]
struct HgKeys {
    /// Its address, as `try_url` names it otherwise.
    #[schemars(required)]
    url: Option<Text>,
}

/// The destination of a repository. `None` when a key is faulty.
pub(super) fn read(keys: &mut RepositoryKeys, at: &At<'_>) -> Option<Destination> {
    let (try_url, destination) = (keys.try_url.take(), keys.destination.take());
    if try_url.is_some() && destination.is_some() {
        at.reject("destination", "expected either try_url or destination");
    }
    match keys.vcs.unwrap_or(VcsKey::Hg) {
        VcsKey::Hg => mercurial(try_url, destination, at),
        VcsKey::Git => git(keys, destination, at),
    }
}

/// Reads the keys of Lando. `at` is the destination.
fn lando(keys: LandoKeys, at: &At<'_>) -> Option<(String, LandoSettings)> {
    for key in ["git", "hg"] {
        if at.has(key) {
            at.reject(key, "expected one of git, hg and lando");
        }
    }
    let at = at.child("lando");
    let url = keys.url.map(|url| url.0);
    secrets::advise_plain_http(&at, "url", url.as_ref(), "its token");
    if url.as_ref().is_some_and(|url| !url.username().is_empty()) {
        at.reject("url", "expected an address without a user");
    }
    let repository = clean(&at, "repository", keys.repository);
    let (url, token, user) = (url?, keys.token?.0, keys.user?.0);
    let repository = repository.as_deref().unwrap_or("try");
    let address = url.to_string();
    Some((address, LandoSettings::new(url, token, &user, repository)))
}

fn mercurial(
    try_url: Option<Text>,
    mut destination: Option<DestinationKeys>,
    at: &At<'_>,
) -> Option<Destination> {
    for key in ["partial", "submodules", "https_token", "staging"] {
        if at.has(key) {
            at.reject(key, "is for Git, and vcs is hg");
        }
    }
    let below = at.child("destination");
    if let Some(keys) = destination.as_mut().and_then(|keys| keys.lando.take()) {
        let (url, lando) = lando(keys, &below)?;
        return Some(Destination {
            url,
            vcs: VcsSettings::Mercurial,
            lando: Some(lando),
        });
    }
    let url = match (try_url, destination) {
        (Some(url), _) => clean(at, "try_url", Some(url)),
        (None, Some(destination)) => {
            if destination.git.is_some() {
                below.reject("git", "is for Git, and vcs is hg");
            } else if !below.has("hg") && !below.has("lando") {
                below.reject("hg", "a map, since vcs is hg");
            }
            clean(&below.child("hg"), "url", destination.hg?.url)
        }
        // A value that is faulty was reported.
        (None, None) if at.has("try_url") || at.has("destination") => None,
        (None, None) => {
            at.reject("try_url", "a text that is not empty");
            None
        }
    };
    Some(Destination {
        url: url?,
        vcs: VcsSettings::Mercurial,
        lando: None,
    })
}

fn git(
    keys: &mut RepositoryKeys,
    mut destination: Option<DestinationKeys>,
    at: &At<'_>,
) -> Option<Destination> {
    for key in ["try_url", "try_mode", "try_syntax"] {
        if at.has(key) {
            at.reject(key, "is for Mercurial, and vcs is git");
        }
    }
    let below = at.child("destination");
    let source = keys.url().map(str::to_owned);
    let staging = keys.staging.take();
    let staging = staging.and_then(|staging| staging.read(at, source.as_deref()));
    let usual = GitSettings {
        https_token: keys.https_token.as_ref().map(|token| token.0.clone()),
        partial: keys.partial.is_some_and(|flag| flag.0),
        submodules: keys.submodules.is_some_and(|flag| flag.0),
        staging,
        ..GitSettings::default()
    };
    if let Some(keys) = destination.as_mut().and_then(|keys| keys.lando.take()) {
        let (url, lando) = lando(keys, &below)?;
        return Some(Destination {
            url,
            vcs: VcsSettings::Git(usual),
            lando: Some(lando),
        });
    }
    if !at.has("destination") {
        at.reject("destination", "a map with the key git, since vcs is git");
    } else if below.has("hg") {
        below.reject("hg", "is for Mercurial, and vcs is git");
    } else if !below.has("git") && !below.has("lando") {
        below.reject("git", "a map, since vcs is git");
    }
    let below = below.child("git");
    let destination = destination?.git?;
    let url = clean(&below, "url", destination.url);
    let ref_template = destination
        .reference
        .map_or_else(|| DEFAULT_REF.to_owned(), |text| text.0);
    if let Err(fault) = check_ref_template(&ref_template) {
        below.reject("ref", fault);
    }
    let push_options = destination
        .push_options
        .map(List::values)
        .unwrap_or_default();
    if push_options
        .iter()
        .any(|option| option.contains(char::is_control))
    {
        below.reject("push_options", "expected texts without control characters");
    }
    let settings = GitSettings {
        ref_template,
        push_options,
        ref_retention: destination
            .ref_retention
            .map_or(usual.ref_retention, |value| value.0),
        hook_rejects_patches: destination.hook_rejects_patches.is_some_and(|flag| flag.0),
        ..usual
    };
    Some(Destination {
        url: url?,
        vcs: VcsSettings::Git(settings),
        lando: None,
    })
}
