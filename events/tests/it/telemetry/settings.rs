//! Settings of the command.

use super::*;

#[tokio::test]
async fn environment_wins_over_file_and_every_fault_is_reported_at_once() {
    let deployment = Deployment::with_queue().await;
    deployment.push([1]).await;
    let file: PathBuf = deployment.directory.path().join(".env");
    let lines: Vec<_> = deployment
        .environment()
        .iter()
        .map(|(name, value)| format!("{name}='{value}'\n"))
        .collect();
    std::fs::write(&file, "# ours\n".to_owned() + &lines.concat()).unwrap();
    let arguments = ["process-queue-messages", "--timeout", "0.5"];
    let wins = [(
        "TARGET_REPO".to_owned(),
        "https://hg.example.com/try".to_owned(),
    )];
    let result = telemetry(&arguments, &wins, &deployment.directory).await;
    assert!(
        result.code == Some(1)
            && result
                .err
                .contains("it is not below https://hg.example.com"),
        "{}",
        result.err
    );
    let result = telemetry(&arguments, &[], &deployment.directory).await;
    assert_eq!(result.code, Some(0), "{}", result.err);
    assert_eq!(deployment.peer.accepted(), pings([1]));

    std::fs::write(
        &file,
        "PULSE_PASSWORD=hunter2\nSTATSD_PORT=hunter2\nBMO_API_URL=hunter2\n",
    )
    .unwrap();
    let mut both = vec![telemetry(&arguments, &[], &deployment.directory).await.err];
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    command
        .args(["run", "telemetry"])
        .env_clear()
        .current_dir(deployment.directory.path());
    both.push(String::from_utf8(command.output().await.unwrap().stderr).unwrap());
    for err in both {
        for name in [
            "PULSE_USERNAME",
            "PULSE_QUEUE_NAME",
            "PULSE_QUEUE_ROUTING_KEY",
            "STATSD_PORT",
            "BMO_API_URL",
        ] {
            assert!(err.contains(&format!("\n{name}: ")), "{err}");
        }
        assert!(!err.contains("hunter2"), "{err}");
    }
}

#[tokio::test]
async fn example_file_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../dotenv.example.txt");
    std::fs::copy(example, directory.path().join(".env")).unwrap();
    // Nothing listens there; the command connects after it has read its settings.
    let unreachable = [
        ("PULSE_HOST".to_owned(), "127.0.0.1".to_owned()),
        ("PULSE_PORT".to_owned(), "1".to_owned()),
    ];
    let result = telemetry(&["process-queue-messages"], &unreachable, &directory).await;
    assert_eq!(result.code, Some(1));
    assert!(
        result
            .err
            .contains("cannot connect to rabbitmq at amqps://127.0.0.1:1"),
        "{}",
        result.err
    );
}
