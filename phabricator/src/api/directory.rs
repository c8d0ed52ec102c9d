//! Calls about users, projects and repositories, and about our own user.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, json};

use crate::{Conduit, ConduitError};
use build::Phid;

#[derive(Deserialize)]
struct UserInfo {
    phid: Phid,
    fields: UserFields,
}

#[derive(Deserialize)]
struct UserFields {
    username: String,
}

#[derive(Deserialize)]
struct ProjectInfo {
    phid: Phid,
}

#[derive(Deserialize)]
struct RepositoryInfo {
    phid: Phid,
    fields: RepositoryFields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RepositoryFields {
    name: String,
    short_name: Option<String>,
}

impl Conduit {
    /// Checks that Phabricator responds and accepts the token (`conduit.ping` would ignore a bad one).
    pub async fn check(&self) -> Result<(), ConduitError> {
        self.call::<IgnoredAny>("user.whoami", Map::new())
            .await
            .map(|_| ())
    }

    /// The name of the user that the token belongs to.
    pub async fn whoami(&self) -> Result<String, ConduitError> {
        #[derive(Deserialize)]
        struct Ourselves {
            #[serde(rename = "userName")]
            name: String,
        }
        Ok(self
            .call::<Ourselves>("user.whoami", Map::new())
            .await?
            .name)
    }

    /// The PHIDs of these users, by the given names. Leaves out unknown names. Phabricator ignores the case of letters.
    pub async fn users(
        &self,
        usernames: &[String],
    ) -> Result<BTreeMap<String, Phid>, ConduitError> {
        let users: Vec<UserInfo> = self
            .search("user.search", "usernames", usernames, json!({}))
            .await?;
        let phid_of = |name: &str| {
            users
                .iter()
                .find(|user| user.fields.username.eq_ignore_ascii_case(name))
                .map(|user| user.phid.clone())
        };
        Ok(usernames
            .iter()
            .filter_map(|name| Some((name.clone(), phid_of(name)?)))
            .collect())
    }

    /// The PHIDs of the repositories with these short names, or else these names. Leaves out unknown names.
    pub async fn repositories(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, Phid>, ConduitError> {
        // The search has no constraint for names, so load every page.
        let all: Vec<RepositoryInfo> = self
            .pages("diffusion.repository.search", Map::new(), |_| true)
            .await?;
        let phid_of = |name: &str| {
            let short = all
                .iter()
                .find(|repository| repository.fields.short_name.as_deref() == Some(name));
            let found =
                short.or_else(|| all.iter().find(|repository| repository.fields.name == name))?;
            Some(found.phid.clone())
        };
        Ok(names
            .iter()
            .filter_map(|name| Some((name.clone(), phid_of(name)?)))
            .collect())
    }

    /// The short name, or else the name, of a repository. `None` when our user does not see it, or the name could harm the
    /// sentence that quotes it.
    pub(crate) async fn repository_name(
        &self,
        repository: &Phid,
    ) -> Result<Option<String>, ConduitError> {
        let asked = std::slice::from_ref(repository);
        let found: Vec<RepositoryInfo> = self
            .search("diffusion.repository.search", "phids", asked, json!({}))
            .await?;
        let plain = |name: &String| {
            name.chars()
                .all(|c| c.is_alphanumeric() || "-_./ ".contains(c))
        };
        let fields = found.into_iter().next().map(|repository| repository.fields);
        Ok(fields
            .map(|fields| fields.short_name.unwrap_or(fields.name))
            .filter(plain))
    }

    /// The project with this slug (a hashtag without its `#`). A project keeps the slugs of its former names.
    pub(crate) async fn project(&self, slug: &str) -> Result<Option<Phid>, ConduitError> {
        let found: Vec<ProjectInfo> = self
            .search("project.search", "slugs", &[slug], json!({}))
            .await?;
        Ok(found.into_iter().next().map(|project| project.phid))
    }
}
