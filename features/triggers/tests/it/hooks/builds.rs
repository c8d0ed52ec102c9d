//! Builds and new diffs that trigger hooks.

use build::{Build, BuildRequest, Diff, NewDiff, Phid, Revision, VersionControl};
use bus::Queue;
use runtime::Clock;
use serde_json::json;
use triggers::{DiffAnalysis, HookName, RiskAnalysis, Trigger};

use super::world::{HOOKS, POLICY, World, bot};
use crate::docs::assert_documented;

const DIFFS: Queue<NewDiff> = Queue::new("diffs", POLICY);
const BUGBUG: Queue<Build> = Queue::new("bugbug", POLICY);

fn phid(text: &str) -> Phid {
    Phid::parse(text).unwrap()
}

#[tokio::test]
async fn new_diff_is_analysed_once() {
    let world = World::new().await;
    let diff = |number: u64| NewDiff {
        phid: phid(&format!("PHID-DIFF-{number:020}")),
        id: number,
        revision: phid("PHID-DREV-00000000000000000001"),
        repository: phid("PHID-REPO-00000000000000000001"),
    };
    for number in [1, 2, 1] {
        world
            .handle(DIFFS, DiffAnalysis::new(bot(), HOOKS), &diff(number))
            .await;
    }
    let expected = [1, 2].map(|number| {
        let phid = diff(number).phid;
        Trigger::new(
            bot(),
            json!({ "ANALYSIS_SOURCE": "phabricator", "ANALYSIS_ID": phid.as_str() }),
            phid.as_str(),
        )
    });
    assert_eq!(world.take(&HOOKS).await, expected);
    assert_documented("static-analysis-phabricator", &expected[0]);
    // The key of another hook for the same diff differs.
    let other = HookName::new("project-releng", "other/bot");
    world
        .handle(DIFFS, DiffAnalysis::new(other, HOOKS), &diff(1))
        .await;
    assert_eq!(world.depth(&HOOKS).await.ready, 1);
}

const ALICE: &str = "PHID-USER-00000000000000000001";
const BOB: &str = "PHID-USER-00000000000000000002";
const CAROL: &str = "PHID-USER-00000000000000000003";

fn build(world: &World, diff_id: u64, author: &str, reviewers: &[&str]) -> Build {
    let diff = Diff {
        id: diff_id,
        phid: phid(&format!("PHID-DIFF-{diff_id:020}")),
        created_at: world.clock.now(),
        base: None,
    };
    Build {
        request: BuildRequest {
            target: phid(&format!("PHID-HMBT-{diff_id:020}")),
            diff_id,
            repository: phid("PHID-REPO-00000000000000000001"),
            revision_id: 5,
            accepted_at: world.clock.now(),
            staged: None,
        },
        vcs: VersionControl::Mercurial,
        revision: Revision {
            id: 5,
            phid: phid("PHID-DREV-00000000000000000005"),
            url: "https://phabricator.example.com/D5".to_owned(),
            author: phid(author),
            reviewers: reviewers.iter().map(|reviewer| phid(reviewer)).collect(),
        },
        diff,
        stack: Vec::new(),
        landed: Vec::new(),
    }
}

#[tokio::test]
async fn risk_is_analysed_for_configured_authors_and_reviewers() {
    let world = World::new().await;
    let analysis = || RiskAnalysis::new("dev".to_owned(), [phid(ALICE)].into(), HOOKS);
    let builds: [(u64, &str, &[&str]); 4] = [
        (1, BOB, &[CAROL]),
        (2, ALICE, &[]),
        (3, BOB, &[CAROL, ALICE]),
        (2, ALICE, &[BOB]),
    ];
    for (diff, author, reviewers) in builds {
        world
            .handle(BUGBUG, analysis(), &build(&world, diff, author, reviewers))
            .await;
    }
    let hook = HookName::new("project-bugbug", "bugbug-classify-patch");
    let expected = [2, 3].map(|diff| {
        Trigger::new(
            hook.clone(),
            json!({ "PHABRICATOR_DEPLOYMENT": "dev", "DIFF_ID": diff }),
            &format!("diff {diff}"),
        )
    });
    assert_eq!(world.take(&HOOKS).await, expected);
    assert_documented("risk_analysis_users", &expected[0]);
}
