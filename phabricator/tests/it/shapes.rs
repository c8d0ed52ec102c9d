//! The fake Phabricator answers in the shapes of the real one: recorded requests are sent to it, with the objects of
//! its own world in the place of the recorded ones.

use std::collections::{BTreeSet, HashMap};

use phabricator::testing::{FakePhabricator, NewDiff, NewRevision, RevisionStatus};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    recorded::{REDACTED, Recorded},
    world::{fake, http},
};

/// The fake, and which of its objects stand for the recorded ones.
struct Stage {
    fake: FakePhabricator,
    stands_for: Vec<(&'static str, String)>,
}

impl Stage {
    async fn set() -> Self {
        let fake = fake().await;
        let alice = fake.add_user("alice", "Alice Example");
        let bob = fake.add_user("bob", "Bob Example");
        let secure = fake.add_project("secure-revision");
        let group = fake.add_project("reviewers");
        let repository = fake.add_repository("mozilla-central");
        let new = |title: &str| NewRevision::new(title, &alice, &repository, NewDiff::new("patch").base("f7f4"));
        let simple = fake.create_revision(new("simple").reviewer(&bob).reviewer(&group));
        let newest = fake.update_revision(simple.id, NewDiff::new("patch").base("f7f4"));
        let stack1 = fake.create_revision(new("stack1"));
        let stack2 = fake.create_revision(new("stack2").parent(&stack1.phid));
        let stack3 = fake.create_revision(new("stack3").parent(&stack2.phid));
        assert_eq!(fake.create_revision(new("secure").project(&secure)).id, 5);
        let diamond = fake.create_revision(new("diamond").parent(&stack2.phid).parent(&simple.phid));
        let invisible = fake.create_revision(new("invisible"));
        let child = fake.create_revision(new("child of invisible").parent(&invisible.phid));
        let published = fake.create_revision(new("published"));
        fake.set_status(published.id, RevisionStatus::Published);
        let target = || {
            let target = fake.start_build(newest.id).target;
            fake.answered(&target, 200);
            target.to_string()
        };
        let (first, second, third) = (target(), target(), target());
        let hidden = fake.start_build(invisible.diff.id).target;
        fake.set_visible(invisible.id, false);
        let stands_for = vec![
            ("PHID-REPO-gheyr7w2d2ab3qg236ha", repository.to_string()),
            ("PHID-DREV-jx63ehwrdpfyocl3sdff", simple.phid.to_string()),
            ("PHID-DIFF-7oxxlizx4z7visjevdpy", newest.phid.to_string()),
            ("PHID-DREV-vqx4xjka6vbudlhk5mat", stack1.phid.to_string()),
            ("PHID-DREV-ejcr37nmak6araba6eic", stack2.phid.to_string()),
            ("PHID-DREV-wpaejknbuaaye3pxzxm2", stack3.phid.to_string()),
            ("PHID-DREV-ci7gjjthyplqgj4vg5hv", diamond.phid.to_string()),
            ("PHID-DREV-2wvbr7ta3tnijjcsk354", child.phid.to_string()),
            ("PHID-DREV-lsqhatgtmntyo2dtskuw", invisible.phid.to_string()),
            ("PHID-DIFF-x6ye6o3yegzp5ugvq2pj", invisible.diff.phid.to_string()),
            ("PHID-HMBT-ckft465ecsjqq7ortwj3", first),
            ("PHID-HMBT-cevsbga6ulko4b373b7d", second),
            ("PHID-HMBT-iefnn5l5w6gdjfm65it2", third),
            ("PHID-HMBT-udhba7yqp56sbaywk3bb", hidden.to_string()),
        ];
        Self { fake, stands_for }
    }

    fn ours(&self, text: &str) -> String {
        self.stands_for.iter().fold(text.to_owned(), |text, (recorded, ours)| text.replace(recorded, ours))
    }

    /// Sends the recorded request, with `token` for the redacted one and `id` for the recorded number, and compares.
    async fn replay_as(&self, name: &str, id: Option<u64>, token: &str) {
        let recorded = Recorded::read(name);
        let mut form: HashMap<String, String> = recorded.form();
        if let Some(params) = form.get_mut("params") {
            *params = self.ours(params).replace(REDACTED, token);
            if let Ok(mut object) = serde_json::from_str::<Value>(params) {
                if let Some(id) = id {
                    match recorded.method.as_str() {
                        "differential.getrawdiff" => object["diffID"] = json!(id),
                        _ => object["constraints"]["ids"] = json!([id]),
                    }
                }
                without_subscribers(&mut object);
                *params = object.to_string();
            }
        }
        let url = format!("{}api/{}", self.fake.url(), recorded.method);
        let answer = http().post(url).form(&form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), recorded.http_status, "{name}");
        assert_eq!(answer.headers()["content-type"], "application/json", "{name}");
        let answer: Value = answer.json().await.unwrap();
        let mut expected = recorded.response;
        without_subscribers(&mut expected);
        assert_eq!(shape(&answer), shape(&expected), "{name}");
        assert_eq!(answer["error_code"], expected["error_code"], "{name}");
        let info = expected["error_info"].as_str().map(|info| self.ours(info).replace(REDACTED, token));
        assert_eq!(answer["error_info"], json!(info), "{name}");
    }

    async fn replay(&self, names: &[&str]) {
        for name in names {
            self.replay_as(name, None, self.fake.token().expose_secret()).await;
        }
    }

    async fn replay_id(&self, name: &str, id: u64) {
        self.replay_as(name, Some(id), self.fake.token().expose_secret()).await;
    }
}

/// The fake does not have this attachment: nobody asks for it.
fn without_subscribers(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("subscribers");
            map.values_mut().for_each(without_subscribers);
        }
        Value::Array(list) => list.iter_mut().for_each(without_subscribers),
        _ => {}
    }
}

/// Every path in a value, with the type of what is there. The entries of a list share a path.
fn shape(value: &Value) -> BTreeSet<String> {
    fn walk(path: &str, value: &Value, into: &mut BTreeSet<String>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(list) => {
                list.iter().for_each(|entry| walk(&format!("{path}[]"), entry, into));
                "list"
            }
            Value::Object(map) => {
                map.iter().for_each(|(key, entry)| walk(&format!("{path}.{key}"), entry, into));
                "map"
            }
        };
        into.insert(format!("{path}: {kind}"));
    }
    let mut paths = BTreeSet::new();
    walk("", value, &mut paths);
    paths
}

#[tokio::test]
async fn searches() {
    let stage = Stage::set().await;
    stage
        .replay(&[
            "conduit.ping",
            "user.whoami",
            "user.search.usernames",
            "user.search.username-case",
            "user.search.unknown-username",
            "user.search.phids-empty",
            "user.search.unknown-constraint",
            "user.search.unknown-param",
            "project.search.slug",
            "project.search.slug-hash",
            "project.search.slug-unknown",
            "project.search.slug-partly-unknown",
            "diffusion.repository.search.all",
            "diffusion.repository.search.shortname",
            "diffusion.repository.search.unknown",
            "differential.revision.search.phid-attachments",
            "differential.revision.search.no-reviewers",
            "differential.revision.search.secure",
            "differential.revision.search.invisible-phid",
            "differential.revision.search.unknown-phid",
            "differential.revision.search.unknown",
            "differential.revision.search.ids-empty",
            "differential.revision.search.attachment-unknown",
            "differential.diff.search.phid-commits",
            "differential.diff.search.revisionPHID",
            "differential.diff.search.revisionPHID-newest-limit1",
            "differential.diff.search.invisible-phid",
            "differential.diff.search.unknown-phid",
            "differential.diff.search.limit0",
            "differential.diff.search.limit101",
            "differential.diff.search.id-garbage",
        ])
        .await;
    stage.replay_id("differential.revision.search.id", 1).await;
    stage.replay_id("differential.revision.search.published", 9).await;
    stage.replay_id("differential.revision.search.invisible", 7).await;
    stage.replay_id("differential.diff.search.id", 2).await;
    stage.replay_id("differential.diff.search.invisible", 8).await;
}

#[tokio::test]
async fn patches_and_edges() {
    let stage = Stage::set().await;
    stage.replay_id("differential.getrawdiff.simple.1", 2).await;
    stage.replay_id("differential.getrawdiff.invisible", 8).await;
    stage
        .replay(&[
            "differential.getrawdiff.unknown",
            "edge.search.parent.diamond",
            "edge.search.parent.childinv",
            "edge.search.parent.simple",
            "edge.search.many",
            "edge.search.page1",
            "edge.search.invisible",
            "edge.search.unknown-phid",
            "edge.search.empty-sources",
            "edge.search.missing-types",
            "edge.search.bad-type",
        ])
        .await;
}

#[tokio::test]
async fn build_targets() {
    let stage = Stage::set().await;
    stage
        .replay(&[
            "harbormaster.target.search.phid-waiting",
            "harbormaster.target.search.invisible",
            "harbormaster.target.search.unknown",
            "harbormaster.sendmessage.fail-with-units",
            "harbormaster.target.search.phid-failed",
            "harbormaster.sendmessage.unit-no-name",
            "harbormaster.sendmessage.unit-no-result",
            "harbormaster.sendmessage.unit-name-null",
            "harbormaster.sendmessage.unit-name-int",
            "harbormaster.sendmessage.unit-details-null",
            "harbormaster.sendmessage.unit-duration-string",
            "harbormaster.sendmessage.unit-duration-null",
            "harbormaster.sendmessage.unit-second-bad",
            "harbormaster.sendmessage.unknown-param",
            "harbormaster.sendmessage.unknown-target",
            "harbormaster.sendmessage.invisible-target",
            "harbormaster.sendmessage.missing-type",
            "harbormaster.sendmessage.missing-receiver",
            "harbormaster.sendmessage.finished-pass",
            "harbormaster.createartifact.uri",
            "harbormaster.createartifact.same-key",
            "harbormaster.createartifact.same-key-other-target",
            "harbormaster.createartifact.finished-target",
            "harbormaster.createartifact.unknown-target",
            "harbormaster.createartifact.invisible-target",
            "harbormaster.createartifact.no-uri",
            "harbormaster.createartifact.bad-type",
            "harbormaster.createartifact.external-string",
            "harbormaster.createartifact.uri-javascript",
        ])
        .await;
}

#[tokio::test]
async fn calls_that_are_refused_as_such() {
    let stage = Stage::set().await;
    stage
        .replay(&[
            "error.no-token",
            "error.bad-token.null",
            "error.bad-token.short",
            "error.bad-token.malformed",
            "error.bad-token.empty-conduit",
            "error.malformed-json",
            "error.unknown-method",
            "error.unknown-method-app",
        ])
        .await;
    // The real one echoes the token, so this one does.
    stage.replay_as("error.bad-token.unknown", None, "api-0123456789012345678901234567").await;
}
