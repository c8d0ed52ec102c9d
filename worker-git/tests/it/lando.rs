//! Lando as the destination of a repository with Git.

use build::BuildUpdate;
use testkit::lando::FakeLando;
use worker::{LandoSettings, TryMode};
use worlds::numbered;

use crate::world::World;

/// Files are renamed, deleted, made executable, binary and without a line end.
#[tokio::test]
async fn patches_of_a_job_make_the_tree_of_the_author() {
    let mut world = World::new();
    let lando = FakeLando::start(world.clock.clone()).await.unwrap();
    lando.submit_for("ann@example.org");
    lando.try_has_git();
    let settings = LandoSettings::new(lando.url().clone(), lando.token(), FakeLando::USER, "try");
    world.repository().try_url = lando.url().to_string();
    world.repository().lando = Some(settings);
    world.repository().mode = TryMode::File {
        path: "ci.json".to_owned(),
        template: "{{ diff.id }}".to_owned(),
    };
    world.start_ready().await;
    let base = world.source.tip();
    world.source.git(&["checkout", "--quiet", "--detach"]);
    let (source, mut diffs) = (&world.source, Vec::new());
    source.write("hello.txt", numbered("größe", 20).as_bytes());
    source.write("new/a.txt", b"one\r\ntwo");
    diffs.push(source.diff());
    source.commit("first");
    source.git(&["mv", "dir/sub/file.txt", "moved.txt"]);
    source.git(&["update-index", "--chmod=+x", "hello.txt"]);
    source.write("data.bin", &[0, 1, 2, 255].repeat(300));
    diffs.push(source.diff());
    source.commit("second");
    source.git(&["rm", "--quiet", "script.sh"]);
    diffs.push(source.diff());
    source.commit("third");
    source.write("ci.json", b"1003");
    source.commit("the file for CI");
    let tree = source.rev("HEAD^{tree}");
    source.git(&["checkout", "--quiet", "--force", "main"]);

    let stack = (1..).zip(diffs).map(|(number, diff)| {
        let mut patch = world.patch(number, diff);
        patch.diff.base = Some(base.clone());
        patch
    });
    let build = world.build_of(stack.collect());
    world.send(&build).await;
    let job = || lando.jobs().into_iter().find(|job| !job.patches.is_empty());
    world.work_until(|| job().is_some()).await;
    let job = job().unwrap();
    assert_eq!(
        (job.target_commit.as_str(), job.patches.len()),
        (base.as_str(), 4)
    );
    for patch in &job.patches {
        let file = world.path("patch");
        std::fs::write(&file, &patch.diff).unwrap();
        source.git(&["apply", "--index", "--binary", file.to_str().unwrap()]);
    }
    assert_eq!(source.git(&["write-tree"]), tree);

    let head = "1234567890".repeat(4);
    lando.land(job.id, &head);
    let BuildUpdate::Pushed(pushed) = world.next_update().await.update else {
        panic!("not pushed")
    };
    assert_eq!((pushed.revision, pushed.reference), (head, None));
    world.stop().await;
}
