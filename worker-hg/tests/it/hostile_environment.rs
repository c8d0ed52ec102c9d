//! An environment that would like to have a say in what Mercurial does.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::world::{World, add};

const INSIDE: &str = "WORKER_HG_INSIDE";

/// Runs a test once more, in a process whose environment is hostile. Whatever the worker takes of it makes the file
/// `touched`; its commands, unlike the test's own, are known by their editor.
fn in_a_hostile_environment(test: &str) {
    let home = tempfile::tempdir().unwrap();
    let touched = home.path().join("touched");
    let touch = format!("touch {}", touched.display());
    let config = home.path().join(".hgrc");
    fs::write(
        &config,
        format!("[hooks]\npre-import = {touch}\npre-log = {touch}\npre-push = {touch}\n"),
    )
    .unwrap();
    fs::write(
        home.path().join("sitecustomize.py"),
        format!(
            "import os\nif os.environ.get('HGEDITOR') == 'false':\n    open({touched:?}, 'w')\n"
        ),
    )
    .unwrap();
    let program = home.path().join("hg");
    let script = format!(
        "#!/bin/sh\n[ \"$HGEDITOR\" = false ] && {touch}\nPATH=${{PATH#*:}} exec hg \"$@\"\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path().display(), env::var("PATH").unwrap());
    let output = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path())
        .env("HGRCPATH", &config)
        .env("PYTHONPATH", home.path())
        .env("HGENCODING", "ascii")
        .env("HGPLAINEXCEPT", "alias,i18n")
        .env("HGEDITOR", &touch)
        .env("LC_ALL", "C")
        .env("SECRET", "of another part")
        .env("PATH", path)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    assert!(words.contains("1 passed"), "{words}");
    assert!(!touched.exists(), "something of it was used");
}

#[tokio::test]
async fn nothing_of_our_environment_reaches_mercurial() {
    if env::var_os(INSIDE).is_none() {
        return in_a_hostile_environment(
            "hostile_environment::nothing_of_our_environment_reaches_mercurial",
        );
    }
    let mut world = World::new();
    let (program, seen) = recorder(&world);
    world.side.program = program;
    world.start();
    let mut patch = world.patch(7, add("a", "a"));
    patch.author = Some("Ж <ж@example.org>".to_owned());
    let pushed = world.pushed(&world.build_of(vec![patch])).await;
    assert_eq!(
        world
            .destination
            .log(&format!("p1({})", pushed.revision), "{author}"),
        "Ж <ж@example.org>"
    );
    world.stop().await;

    let seen = fs::read_to_string(seen).unwrap();
    let mut environment: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.strip_prefix("env "))
        .collect();
    environment.sort_unstable();
    environment.dedup();
    // Without a file for a command that asks nobody else.
    environment.retain(|line| *line != "HGRCPATH=");
    let scratch = format!(
        "TMPDIR={}/central/.hg/scratch",
        world.settings.clones_dir.display()
    );
    let ours = format!(
        "HGRCPATH={}/.ssh/central/hgrc",
        world.settings.clones_dir.display()
    );
    let expected = [
        "HGEDITOR=false",
        "HGENCODING=UTF-8",
        "HGPLAIN=+strictflags",
        ours.as_str(),
        "HOME=/nonexistent",
        "LANG=C",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        scratch.as_str(),
    ];
    assert_eq!(environment, expected);
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    for start in seen
        .lines()
        .filter_map(|line| line.strip_prefix("arguments "))
    {
        assert_eq!(
            start.contains(&format!("--config=web.cacerts={certificates} ")),
            Path::new(certificates).exists()
        );
    }
}

/// An `hg` that writes down what it gets, and where it does.
fn recorder(world: &World) -> (std::path::PathBuf, std::path::PathBuf) {
    let (program, seen) = (world.path("recorder"), world.path("seen"));
    let script = format!(
        "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/environ | sed 's/^/env /' >>{0}\nprintf 'arguments %s \\n' \"$*\" >>{0}\nexec hg \"$@\"\n",
        seen.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, seen)
}

#[tokio::test]
async fn program_is_not_looked_for_in_our_path() {
    if env::var_os(INSIDE).is_none() {
        return in_a_hostile_environment(
            "hostile_environment::program_is_not_looked_for_in_our_path",
        );
    }
    let mut world = World::new();
    world.start();
    world.pushed(&world.simple_build(7)).await;
    world.stop().await;
}
