//! Who and what there is: users, projects, repositories, and ourselves.

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
    /// Checks that Phabricator answers and accepts the token (`conduit.ping` would ignore a bad one).
    pub async fn check(&self) -> Result<(), ConduitError> {
        self.call::<IgnoredAny>("user.whoami", Map::new())
            .await
            .map(|_| ())
    }

    /// The name of the user that the token is of.
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

    /// The users of these names; a name that is not a key of the answer is unknown. The case of letters does not
    /// matter to Phabricator, and the answer has the names as they were asked for.
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

    /// The repositories with these short names or, where there is no such short name, names. A name that is not a key
    /// of the answer is unknown.
    pub async fn repositories(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, Phid>, ConduitError> {
        // There is no constraint for names, so every page is looked through.
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

    /// The name of a repository. `None` when our user does not see it.
    pub(crate) async fn repository_name(
        &self,
        repository: &Phid,
    ) -> Result<Option<String>, ConduitError> {
        let asked = std::slice::from_ref(repository);
        let found: Vec<RepositoryInfo> = self
            .search("diffusion.repository.search", "phids", asked, json!({}))
            .await?;
        // It becomes a part of our sentence.
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
