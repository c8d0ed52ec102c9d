//! A source and its Try with Mercurial.

use anyhow::Context;
use async_trait::async_trait;
use serde_json::{Value, json};
use testkit::repositories::Repositories;

use super::{Content, SourceAndTry, run_hg};
use crate::pipeline::verify::{Head, Try};

pub(super) struct Hg {
    repositories: Repositories,
}

impl Hg {
    pub(super) fn new(repositories: Repositories) -> Self {
        Self { repositories }
    }

    async fn heads(&self) -> anyhow::Result<Vec<Head>> {
        let template = "--template={node} {sub('(?s).*Differential Diff: ', '', desc)}\n";
        let heads = run_hg(
            &self.repositories.try_repository,
            &["log", "--rev=head() and not public()", template],
        )
        .await?;
        let head = |line: &str| {
            let (node, diff) = line.split_once(' ')?;
            Some(Head {
                link: format!("revision={node}"),
                node: node.to_owned(),
                diff: diff.to_owned(),
                target: None,
                replaced: false,
            })
        };
        heads
            .lines()
            .map(|line| head(line).with_context(|| format!("Try shows a head as {line:?}")))
            .collect()
    }
}

#[async_trait]
impl SourceAndTry for Hg {
    fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    fn keys(&self, try_url: String) -> Value {
        json!({ "try_url": try_url })
    }

    async fn history(&self) -> anyhow::Result<Vec<String>> {
        let history = run_hg(&self.repositories.source, &["log", "--template={node}\n"]).await?;
        Ok(history.lines().map(str::to_owned).collect())
    }

    async fn commit(&self) -> anyhow::Result<()> {
        let arguments = [
            "commit",
            "--quiet",
            "--user=Ada",
            "--date=1700000000 0",
            "--message=Go on",
        ];
        run_hg(&self.repositories.source, &arguments).await?;
        Ok(())
    }

    async fn recover_try(&self) -> anyhow::Result<()> {
        match run_hg(&self.repositories.try_repository, &["recover"]).await {
            Err(error) if !error.to_string().contains("no interrupted transaction") => Err(error),
            _ => Ok(()),
        }
    }

    async fn pushed(&self, _: &[&Content]) -> anyhow::Result<Try> {
        Ok(Try {
            heads: self.heads().await?,
            changesets: self.repositories.try_changesets().await?,
            own_commits: 1,
            ..Try::default()
        })
    }
}
