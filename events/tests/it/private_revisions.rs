//! Of a revision that is private, or that became so before its push, nothing stays but its numbers.

use std::{fs, path::Path};

use secrecy::ExposeSecret;
use testkit::phabricator::{BuildVariables, CreatedRevision, NewDiff, NewRevision};

use crate::{
    stage::{DOCS_URL, Stage, adds, private},
    world::World,
};

const WEBHOOK_SECRET: &str = "gorgonzola-webhook-secret";
/// Words of the revision, each in another part of it.
const WORDS: [&str; 6] = [
    "Zanzibarquux",
    "Quillonfeather",
    "quillusername",
    "xylofile",
    "vellichorline",
    "messagewombat",
];

/// A private word, or a secret, and where it was found.
type Leak = (String, String);

async fn stage() -> Stage {
    let world = World::with_redis().await;
    world.configure(&format!(
        "  webhook_secret: {WEBHOOK_SECRET}\n  docs_url: {DOCS_URL}\n"
    ));
    // Dumps show their bytes as they are.
    world
        .redis()
        .command::<String>(&["CONFIG", "SET", "rdbcompression", "no"])
        .await
        .unwrap();
    Stage::new(world, &[("RUST_LOG", "debug")], Some(WEBHOOK_SECRET)).await
}

fn secrets(stage: &Stage) -> Vec<String> {
    vec![
        WEBHOOK_SECRET.to_owned(),
        stage.world.phabricator.token().expose_secret().to_owned(),
    ]
}

fn words() -> Vec<String> {
    WORDS.map(str::to_owned).into()
}

fn submit(stage: &Stage) -> NewRevision {
    let [title, name, username, file, line, message] = WORDS;
    let author = stage.world.phabricator.add_user(username, name);
    let patch = adds(file).replace(&format!("+{file}\n"), &format!("+{line}\n"));
    let diff = NewDiff::new(patch).base(&stage.world.repositories.base);
    let diff = diff.commit(format!("\"{name}\" <{username}@example.com>"), message);
    NewRevision::new(title, &author, &stage.world.repository, diff)
}

fn make_secure(stage: &Stage, revision: &CreatedRevision) {
    stage
        .world
        .phabricator
        .set_projects(revision.id, std::slice::from_ref(&stage.world.secure));
}

fn find(words: &[String], place: &str, bytes: &[u8]) -> Vec<Leak> {
    let found = words.iter().filter(|word| {
        bytes
            .windows(word.len())
            .any(|window| window == word.as_bytes())
    });
    found.map(|word| (word.clone(), place.to_owned())).collect()
}

/// Looks through every key of Redis, of whatever type.
async fn find_in_redis(stage: &Stage, words: &[String]) -> Vec<Leak> {
    let redis = stage.world.redis();
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).await.unwrap();
    assert!(!keys.is_empty());
    let mut leaks = Vec::new();
    for key in keys {
        leaks.extend(find(words, &key, key.as_bytes()));
        // It may have expired meanwhile.
        let dump: Option<Vec<u8>> = redis.command(&["DUMP", &key]).await.unwrap();
        leaks.extend(find(words, &key, &dump.unwrap_or_default()));
    }
    leaks
}

/// Looks through the files of Redis, which also hold what was there once.
fn find_in_files(directory: &Path, words: &[String]) -> Vec<Leak> {
    let mut leaks = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            leaks.extend(find_in_files(&path, words));
        } else if path.is_file() {
            leaks.extend(find(
                words,
                &path.display().to_string(),
                &fs::read(&path).unwrap(),
            ));
        }
    }
    leaks
}

/// Searches all that a target has, and what commands print of its build.
async fn find_where_it_is_shown(
    stage: &Stage,
    build: &BuildVariables,
    words: &[String],
) -> Vec<Leak> {
    let target = stage.world.target(build);
    let mut leaks = find(words, "the target", format!("{target:?}").as_bytes());
    let target = build.target.as_str();
    let commands: [&[&str]; 6] = [
        &["builds", "show", target],
        &["builds", "show", target, "--json"],
        &["builds", "list"],
        &["builds", "list", "--json"],
        &["builds", "restart", target],
        &[
            "builds",
            "restart",
            "--outcome",
            "private",
            "--since",
            "1h",
            "--dry-run",
            "--json",
        ],
    ];
    for command in commands {
        let said = stage.world.events(command).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        leaks.extend(find(
            words,
            &command.join(" "),
            format!("{}{}", said.out, said.err).as_bytes(),
        ));
    }
    leaks
}

fn find_in_logs(stage: &Stage, words: &[String]) -> Vec<Leak> {
    let (web, worker) = (stage.web.log(), stage.worker.log());
    assert!(
        web.contains("accepted") && worker.contains("outcome=\"private\""),
        "{web}\n{worker}"
    );
    let mut leaks = find(words, "the web's log", web.as_bytes());
    leaks.extend(find(words, "the worker's log", worker.as_bytes()));
    leaks
}

#[tokio::test]
async fn a_revision_that_is_secure_from_the_start_is_never_written_down() {
    let mut stage = stage().await;
    let revision = stage.create(submit(&stage).project(&stage.world.secure));
    let build = stage.build(&revision).await;
    stage.until_all_published([&build]).await;
    stage.assert_ends(&[(build.clone(), private())]).await;
    stage.stop().await;
    let words = [words(), secrets(&stage)].concat();
    assert_eq!(find_where_it_is_shown(&stage, &build, &words).await, []);
    assert_eq!(find_in_redis(&stage, &words).await, []);
    assert_eq!(find_in_logs(&stage, &words), []);
    assert_eq!(find_in_files(&stage.world.path("redis"), &words), []);
}

#[tokio::test]
async fn a_revision_that_becomes_secure_before_its_push_is_forgotten() {
    let mut stage = stage().await;
    stage.pause_push(true).await;
    let revision = stage.create(submit(&stage));
    let build = stage.build(&revision).await;
    stage.until_waiting_for_push(1).await;
    let known: Vec<String> = find_in_redis(&stage, &words())
        .await
        .into_iter()
        .map(|(word, _)| word)
        .collect();
    assert_eq!(
        known,
        [] as [String; 0],
        "while it is public and waits, nothing of its patch is there"
    );

    make_secure(&stage, &revision);
    stage.pause_push(false).await;
    stage.until_all_published([&build]).await;
    stage.assert_ends(&[(build.clone(), private())]).await;
    stage.stop().await;
    let words = [words(), secrets(&stage)].concat();
    assert_eq!(find_where_it_is_shown(&stage, &build, &words).await, []);
    assert_eq!(find_in_redis(&stage, &words).await, []);
    assert_eq!(find_in_logs(&stage, &words), []);
}

/// A hook on Try that names files and authors has its words put into the record of the build, until it is private.
#[tokio::test]
async fn a_revision_that_becomes_secure_after_its_push_was_refused_is_forgotten() {
    let mut stage = stage().await;
    let hook = "\n[hooks]\npretxnchangegroup.no = hg log -r $HG_NODE -T 'no {files} by {author}\\n'; false\n";
    let file = stage.world.repositories.try_repository.join(".hg/hgrc");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&file, settings + hook).unwrap();
    let revision = stage.create(submit(&stage));
    let build = stage.build(&revision).await;
    stage.until_failed_once(&build).await;
    let known: Vec<String> = find_in_redis(&stage, &words())
        .await
        .into_iter()
        .map(|(word, _)| word)
        .collect();
    assert!(known.contains(&"xylofile".to_owned()), "{known:?}");

    make_secure(&stage, &revision);
    stage.until_all_published([&build]).await;
    stage.assert_ends(&[(build.clone(), private())]).await;
    stage.stop().await;
    let words = [words(), secrets(&stage)].concat();
    assert_eq!(find_where_it_is_shown(&stage, &build, &words).await, []);
    assert_eq!(find_in_redis(&stage, &words).await, []);
}
