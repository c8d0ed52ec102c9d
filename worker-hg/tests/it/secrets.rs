//! What nobody else on the machine may see.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use axum::{Router, extract::State, http::HeaderMap, http::StatusCode, response::IntoResponse};
use testkit::HgWeb;
use tokio::sync::mpsc;

use crate::world::{World, add, until};

/// Everything below `path`, as what others may do with it.
fn open_to_others(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let data = match fs::symlink_metadata(path) {
        // Mercurial may still be removing files of its own.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return found,
        data => data.unwrap(),
    };
    if !data.is_symlink() && data.mode() & 0o077 != 0 {
        found.push(format!("{:o} {}", data.mode() & 0o777, path.display()));
    }
    if data.is_dir() {
        found.extend(
            fs::read_dir(path)
                .unwrap()
                .flat_map(|entry| open_to_others(&entry.unwrap().path())),
        );
    }
    found
}

#[tokio::test]
async fn clones_and_patches_are_for_our_user_alone() {
    let mut world = World::new();
    world.has_clone = false;
    // Of a path on this machine the clone would have links to the files.
    let web = HgWeb::start(&world.source.path, world.path("web"))
        .await
        .unwrap();
    world.repository().url = web.url();
    world.repository().clone_slots = 2;
    world.start_ready().await;
    // A hook copies what Mercurial imports: the patch, and then the one of the configuration.
    let seen = ["0.patch", "incoming.patch"].map(|name| world.path(name));
    let files = "../.central.patches/0.patch .hg/incoming.patch";
    let hook = format!(
        "for file in {files}; do test ! -e $file || cp -p $file {}; done",
        world.home.path().display()
    );
    world
        .own_clone()
        .configure(&format!("[hooks]\npretxncommit.look = {hook}\n"));
    until("the other slot", || {
        world
            .settings
            .clones_dir
            .join("central@2/source-tip")
            .exists()
    })
    .await;
    world.stop().await;
    world.repository().clone_slots = 1;
    world.start();
    world
        .pushed(&world.build_of(vec![world.patch(7, add("a", "a"))]))
        .await;
    world
        .until_tidy(&world.own_clone(), &world.source.tip())
        .await;
    for seen in seen {
        let mode = fs::metadata(&seen).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", seen.display());
    }
    assert!(!world.own_clone().path.join(".hg/incoming.patch").exists());
    assert_eq!(
        open_to_others(&world.settings.clones_dir),
        Vec::<String>::new()
    );
    world.stop().await;

    // Others get the right to read it.
    fs::set_permissions(&world.own_clone().path, fs::Permissions::from_mode(0o755)).unwrap();
    world.start();
    world.pushed(&world.simple_build(8)).await;
    assert_eq!(
        open_to_others(&world.settings.clones_dir),
        Vec::<String>::new()
    );
    world.stop().await;
}

/// Says who asks, and knows no repository.
async fn gate(
    State(seen): State<mpsc::UnboundedSender<String>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    match headers.get("authorization") {
        None => (
            StatusCode::UNAUTHORIZED,
            [("www-authenticate", "Basic realm=\"gate\"")],
        ),
        Some(value) => {
            seen.send(value.to_str().unwrap().to_owned()).unwrap();
            (StatusCode::NOT_FOUND, [("x-no", "repository")])
        }
    }
}

#[tokio::test]
async fn password_of_an_address_reaches_the_server_and_no_command_line() {
    let mut world = World::new();
    world.has_clone = false;
    let (sender, mut logins) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        axum::serve(listener, Router::new().fallback(gate).with_state(sender))
            .await
            .unwrap();
    });
    let (program, seen) = (world.path("recorder"), world.path("arguments"));
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >>{}\nexec hg \"$@\"\n",
        seen.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    world.side.program = program;
    world.repository().url = format!("http://bob:s%40cret@127.0.0.1:{port}/nss");
    world.start();
    // `bob:s@cret`
    let login = tokio::time::timeout(std::time::Duration::from_secs(60), logins.recv()).await;
    assert_eq!(login.unwrap().unwrap(), "Basic Ym9iOnNAY3JldA==");
    world.stop().await;
    let arguments = fs::read_to_string(seen).unwrap();
    assert!(
        arguments.contains(" clone ") && !arguments.contains("cret"),
        "{arguments}"
    );
    server.abort();
}
