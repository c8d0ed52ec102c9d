//! A Redis with TLS, whose certificate only `REDIS_CA_FILE` makes trusted.

use testkit::{Authority, RedisServer};
use tokio::process::Command;

use crate::world::{Process, World};

#[tokio::test]
async fn a_private_authority_is_trusted_by_the_program_and_by_the_operating_commands() {
    let world = World::alone().await;
    let authority = Authority::new(world.directory.path()).unwrap();
    let (_server, port) = RedisServer::start_with_tls(world.path("redis"), &authority, "localhost")
        .await
        .unwrap();
    let url = format!("rediss://localhost:{port}");
    let config = world.path("config.yml").display().to_string();
    let ca = authority.file().display().to_string();
    let run = ["run", "web", "--config", &config];

    let distrustful = Process::start(&run, &[("REDIS_URL", &url)]);
    distrustful.until_logged("invalid peer certificate").await;

    let build = world.submit_stack();
    for name in ["REDIS_URL", "REDIS_TLS_URL"] {
        let environment = [(name, url.as_str()), ("REDIS_CA_FILE", ca.as_str())];
        let mut web = Process::start(&run, &environment);
        web.until_logged("redis answers").await;
        assert_eq!(world.request(web.address().await, &build).await, 200);
        web.stop().await;

        let mut peek = Command::new(env!("CARGO_BIN_EXE_events"));
        peek.args([
            "queues",
            "peek",
            "build:load",
            "--json",
            "--config",
            &config,
        ])
        .env_clear();
        let peeked = peek.envs(environment).output().await.unwrap();
        let stdout = String::from_utf8_lossy(&peeked.stdout);
        assert!(
            stdout.contains("\"state\":\"ready\""),
            "{stdout}{}",
            String::from_utf8_lossy(&peeked.stderr)
        );
    }
}
