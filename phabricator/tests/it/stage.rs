//! The world in which the exchanges were recorded, rebuilt in the fake: the same users, revisions and diffs under the
//! same numbers, and a stand-in for each object that a recorded request names.

use std::{sync::Arc, time::Duration};

use build::Phid;
use jiff::Timestamp;
use phabricator::Conduit;
use runtime::{Clock, ManualClock};
use serde_json::{Map, Value, json};
use testkit::phabricator::{
    CreatedRevision, FakePhabricator, NewDiff, NewRevision, Plan, RevisionStatus,
};

/// When the stacks were made, and when the later revisions were: pages of edges are cut at such times.
const STACK2: i64 = 1_795_228_632;
const STACK3: i64 = 1_795_228_635;
const LATER: i64 = 1_795_229_359;

/// The recorded page of revisions, the last changed first.
const BY_UPDATE: &str = "differential.revision.search.order-updated-page1";

pub(crate) struct Stage {
    pub(crate) fake: FakePhabricator,
    conduit: Conduit,
    clock: Arc<ManualClock>,
    alice: Phid,
    repository: Phid,
    revisions: Vec<CreatedRevision>,
    /// Recorded and ours.
    stands_for: Vec<(&'static str, Phid)>,
}

impl Stage {
    /// As it was when `name` was recorded.
    pub(crate) async fn of(name: &str, http: &reqwest::Client) -> Self {
        let mut stage = Self::new(http).await;
        stage.add_first_revisions();
        // Pages were recorded before there was more.
        let pages = name.starts_with("differential.diff.search") || name == BY_UPDATE;
        if !pages {
            stage.add_later_revisions(name);
            stage.add_builds().await;
        }
        stage.prepare(name).await;
        stage
    }

    async fn new(http: &reqwest::Client) -> Self {
        let clock = Arc::new(ManualClock::new(
            Timestamp::from_second(1_795_228_600).unwrap(),
        ));
        let fake = FakePhabricator::start(clock.clone()).await.unwrap();
        fake.add_user("bot", "Bot Example");
        let alice = fake.add_user("alice", "Alice Example");
        let bob = fake.add_user("bob", "Bob Example");
        fake.add_user("carol", "Carol Example");
        let secure = fake.add_project("secure-revision");
        let group = fake.add_project("sanitizers-reviewers");
        let repository = fake.add_repository("mozilla-central");
        let stands_for = vec![
            ("PHID-USER-fqbiaxdqdb6euodt4cfp", alice.clone()),
            ("PHID-USER-nw3glx4prrlm7gz2tilf", bob),
            ("PHID-PROJ-tqu3hlbr7eoh6nowuays", secure),
            ("PHID-PROJ-l7duo3s2hhvestdy3xt2", group),
            ("PHID-REPO-gheyr7w2d2ab3qg236ha", repository.clone()),
            ("PHID-HMCP-n3nisprxbb7ehv2lzdcb", fake.build_plan()),
            ("PHID-HMCP-kpn2jz7firkjlfqzdo46", fake.build_plan()),
        ];
        let conduit = Conduit::new(fake.url().clone(), fake.token(), http.clone());
        Self {
            fake,
            conduit,
            clock,
            alice,
            repository,
            revisions: Vec::new(),
            stands_for,
        }
    }

    /// D1 to D15, with the diffs 1 to 22.
    fn add_first_revisions(&mut self) {
        let (bob, group) = (
            self.ours("PHID-USER-nw3glx4prrlm7gz2tilf"),
            self.ours("PHID-PROJ-l7duo3s2hhvestdy3xt2"),
        );
        let secure = self.ours("PHID-PROJ-tqu3hlbr7eoh6nowuays");
        let diff = || NewDiff::new("patch").base("f7f4af8163abc93a4c96dac8c4f1321e99e02f67");
        self.fake
            .add_diff(&self.alice, Some(&self.repository), diff());
        let simple = self.add(self.revision("simple").reviewer(&bob).reviewer(&group));
        let newest = self.fake.update_revision(simple.id, diff());
        let stack1 = self.add(self.revision("stack1"));
        self.go_to(STACK2);
        let stack2 = self.add(self.revision("stack2").parent(&stack1.phid));
        self.go_to(STACK3);
        let stack3 = self.add(self.revision("stack3").parent(&stack2.phid));
        self.add(self.revision("secure").project(&secure));
        for number in 6..=8 {
            self.add(self.revision(&format!("D{number}")));
        }
        let abandoned = self.add(self.revision("abandoned"));
        self.fake
            .set_status(abandoned.id, RevisionStatus::Abandoned);
        let rejected = self.add(self.revision("rejected").reviewer(&bob));
        self.fake
            .set_status(rejected.id, RevisionStatus::NeedsRevision);
        self.add(self.revision("D11"));
        self.add(self.revision("D12"));
        let accepted = NewRevision::new(
            "accepted",
            &self.alice,
            &self.repository,
            diff().without_commit(),
        );
        let accepted = self.add(accepted.reviewer(&bob));
        self.fake.set_status(accepted.id, RevisionStatus::Accepted);
        self.add(self.revision("D14"));
        let invisible = self.add(self.revision("invisible"));
        for _ in 18..=22 {
            self.fake
                .add_diff(&self.alice, None, NewDiff::new("patch").without_commit());
        }
        self.stands_for.extend([
            ("PHID-DREV-jx63ehwrdpfyocl3sdff", simple.phid),
            ("PHID-DIFF-7oxxlizx4z7visjevdpy", newest.phid),
            ("PHID-DREV-vqx4xjka6vbudlhk5mat", stack1.phid),
            ("PHID-DREV-ejcr37nmak6araba6eic", stack2.phid),
            ("PHID-DREV-wpaejknbuaaye3pxzxm2", stack3.phid),
            ("PHID-DREV-lsqhatgtmntyo2dtskuw", invisible.phid),
            ("PHID-DIFF-x6ye6o3yegzp5ugvq2pj", invisible.diff.phid),
        ]);
        self.fake.set_visible(invisible.id, false);
    }

    /// D16 to D22.
    fn add_later_revisions(&mut self, name: &str) {
        self.go_to(LATER);
        let [simple, stack1, stack2, stack3] =
            [0, 1, 2, 3].map(|index| self.revisions[index].phid.clone());
        let draft = self.add(self.revision("herald draft"));
        if name.ends_with("draft-building") {
            self.fake.set_status(draft.id, RevisionStatus::Draft);
        }
        let diamond = match name {
            "edge.search.many" | "edge.search.child.simple" | "edge.search.child.stack2" => {
                self.revision("diamond")
            }
            "edge.search.two-parents.stack1-stack3" => {
                self.revision("diamond").parent(&stack1).parent(&stack3)
            }
            "edge.search.two-parents.stack3-stack1" => {
                self.revision("diamond").parent(&stack3).parent(&stack1)
            }
            _ => self.revision("diamond").parent(&stack2).parent(&simple),
        };
        if [
            "edge.search.limit101",
            "edge.search.page1",
            "edge.search.page2",
            "edge.search.page3",
        ]
        .contains(&name)
        {
            self.fake.add_parent(&simple, &stack1);
        }
        let diamond = self.add(diamond);
        let of_invisible = self.add(
            self.revision("child of invisible")
                .parent(&self.ours("PHID-DREV-lsqhatgtmntyo2dtskuw")),
        );
        self.add(self.revision("D19"));
        let published = self.add(self.revision("published"));
        self.fake
            .set_status(published.id, RevisionStatus::Published);
        let of_published = self.add(self.revision("child of published").parent(&published.phid));
        let failed = self.add(self.revision("first build fails"));
        self.fake
            .set_status(failed.id, RevisionStatus::ChangesPlanned);
        self.stands_for.extend([
            ("PHID-DREV-ukjjdkhz6aq2njckojoo", draft.phid),
            ("PHID-DREV-ci7gjjthyplqgj4vg5hv", diamond.phid),
            ("PHID-DREV-2wvbr7ta3tnijjcsk354", of_invisible.phid),
            ("PHID-DREV-upqz5ta36qieldjxnxca", of_published.phid),
        ]);
    }

    async fn add_builds(&mut self) {
        let [simple, stack2, invisible] = [3, 5, 17];
        let start = |diff: u64| self.fake.start_build(diff).target;
        let (waiting, failing, restarted) = (start(stack2), start(simple), start(simple));
        let (early, refused) = (start(simple), start(simple));
        let hidden = start(invisible);
        for target in [&waiting, &failing, &restarted] {
            self.fake.answered(target, 200);
        }
        self.fake.answered(&refused, 500);
        for _ in 0..3 {
            start(simple);
        }
        let herald = start(self.revisions[15].diff.id);
        let build_of = |target: &Phid| self.fake.target(target).unwrap().build;
        let (waiting_build, herald_build) = (build_of(&waiting), build_of(&herald));
        let (buildable, herald_buildable) = (
            self.buildable(&waiting_build).await,
            self.buildable(&herald_build).await,
        );
        self.stands_for.extend([
            ("PHID-HMBD-wfasrfljt4porj7uecwb", build_of(&restarted)),
            ("PHID-HMBD-3gmbw7z5y3qb67m5h2m5", waiting_build.clone()),
            ("PHID-HMBD-2lwtzn4vzwcn4evm3oep", waiting_build),
            ("PHID-HMBB-5haitzjtbbbyngqlxdwd", buildable),
            ("PHID-HMBB-5skef64jhhcsmqiked6x", herald_buildable),
            ("PHID-HMBT-ckft465ecsjqq7ortwj3", waiting.clone()),
            ("PHID-HMBT-mjqupipdqlw7oseh364p", waiting),
            ("PHID-HMBT-cevsbga6ulko4b373b7d", failing),
            ("PHID-HMBT-iefnn5l5w6gdjfm65it2", restarted),
            ("PHID-HMBT-szg7urwmrwkmgvpovdbb", early),
            ("PHID-HMBT-vpd5nsrk5rclxsiyszj4", refused),
            ("PHID-HMBT-udhba7yqp56sbaywk3bb", hidden),
        ]);
    }

    /// What happened to the builds before `name` was recorded.
    async fn prepare(&mut self, name: &str) {
        const WAITING: &str = "PHID-HMBT-ckft465ecsjqq7ortwj3";
        const FAILING: &str = "PHID-HMBT-cevsbga6ulko4b373b7d";
        match name {
            // It was accepted later.
            BY_UPDATE => self
                .fake
                .set_status(self.revisions[12].id, RevisionStatus::NeedsReview),
            "harbormaster.artifact.search.target" => {
                for key in ["treeherder", "k2f", "k3"] {
                    self.link(WAITING, key).await;
                }
                self.tell(WAITING, "pass").await;
            }
            // The plan of Arcanist, which Phorge makes for its first build.
            "harbormaster.step.search.all" => {
                let plan = self.fake.add_build_plan();
                self.fake.edit_build_plan(&plan, |plan| {
                    plan.steps = ["arcanist.lint", "arcanist.unit"]
                        .map(str::to_owned)
                        .to_vec();
                });
            }
            "harbormaster.sendmessage.build-restart-never" => {
                self.edit_plan(|plan| plan.restartable = "never");
            }
            "harbormaster.sendmessage.build-restart-if-failed" => {
                self.edit_plan(|plan| plan.restartable = "failed");
            }
            "harbormaster.sendmessage.build-restart-hidden-plan" => {
                self.edit_plan(|plan| plan.is_visible = false);
            }
            "harbormaster.artifact.search.waiting"
            | "harbormaster.createartifact.same-key"
            | "harbormaster.createartifact.same-key-other-target" => {
                self.link(WAITING, "treeherder").await;
            }
            "harbormaster.build.search.phid-passed"
            | "harbormaster.buildable.search.phid-passed"
            | "harbormaster.target.search.phid-passed"
            | "harbormaster.createartifact.finished-target"
            | "harbormaster.sendmessage.finished-pass"
            | "harbormaster.sendmessage.finished-fail"
            | "harbormaster.sendmessage.finished-work" => self.tell(WAITING, "pass").await,
            "harbormaster.target.search.phid-failed"
            | "harbormaster.sendmessage.fail-twice"
            | "harbormaster.sendmessage.pass-after-fail" => self.tell(FAILING, "fail").await,
            "harbormaster.target.search.after-restart"
            | "harbormaster.sendmessage.old-generation-pass"
            | "harbormaster.createartifact.same-key-after-restart" => self.restart(),
            "harbormaster.build.search.aborted"
            | "harbormaster.target.search.aborted"
            | "harbormaster.sendmessage.aborted-pass"
            | "harbormaster.sendmessage.build-abort-again" => {
                self.restart();
                self.fake
                    .abort_build(&self.ours("PHID-HMBT-rvm3mtalp4c4yb3u22ji"));
            }
            _ => {}
        }
    }

    fn edit_plan(&self, edit: impl FnOnce(&mut Plan)) {
        self.fake.edit_build_plan(&self.fake.build_plan(), edit);
    }

    fn restart(&mut self) {
        let again = self
            .fake
            .restart_build(&self.ours("PHID-HMBT-iefnn5l5w6gdjfm65it2"))
            .target;
        self.fake.answered(&again, 200);
        self.stands_for
            .push(("PHID-HMBT-rvm3mtalp4c4yb3u22ji", again));
    }

    async fn tell(&self, target: &str, kind: &str) {
        self.call(
            "harbormaster.sendmessage",
            json!({ "receiver": self.ours(target), "type": kind }),
        )
        .await;
    }

    async fn link(&self, target: &str, key: &str) {
        let data = json!({ "uri": "https://treeherder.example/1" });
        let params = json!({
            "buildTargetPHID": self.ours(target), "artifactKey": key, "artifactType": "uri", "artifactData": data,
        });
        self.call("harbormaster.createartifact", params).await;
    }

    async fn buildable(&self, build: &Phid) -> Phid {
        let found = self
            .call(
                "harbormaster.build.search",
                json!({ "constraints": { "phids": [build] } }),
            )
            .await;
        Phid::parse(
            found["data"][0]["fields"]["buildablePHID"]
                .as_str()
                .unwrap(),
        )
        .unwrap()
    }

    async fn call(&self, method: &'static str, params: Value) -> Value {
        let params: Map<String, Value> = serde_json::from_value(params).unwrap();
        self.conduit.call(method, params).await.unwrap()
    }

    /// What stands for a recorded object.
    fn ours(&self, recorded: &str) -> Phid {
        self.stands_for
            .iter()
            .find(|(known, _)| *known == recorded)
            .unwrap()
            .1
            .clone()
    }

    /// `text` about the recorded objects, as one about ours.
    pub(crate) fn translate(&self, text: &str) -> String {
        self.stands_for
            .iter()
            .fold(text.to_owned(), |text, (recorded, ours)| {
                text.replace(recorded, ours.as_str())
            })
    }

    fn revision(&self, title: &str) -> NewRevision {
        let diff = NewDiff::new("patch").base("f7f4af8163abc93a4c96dac8c4f1321e99e02f67");
        NewRevision::new(title, &self.alice, &self.repository, diff)
    }

    fn add(&mut self, new: NewRevision) -> CreatedRevision {
        let created = self.fake.create_revision(new);
        self.revisions.push(created.clone());
        created
    }

    fn go_to(&self, epoch: i64) {
        let wait = epoch - self.clock.now().as_second();
        self.clock
            .advance(Duration::from_secs(u64::try_from(wait).unwrap()));
    }
}
