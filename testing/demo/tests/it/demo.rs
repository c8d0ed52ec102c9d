use std::process::Command;

#[test]
fn demo_pushes_three_patches_and_prints_one_line_for_machines() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--json")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .unwrap();
    let story = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{story}");
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (line["outcome"].as_str(), line["patches"].as_u64()),
        (Some("pushed"), Some(3))
    );
    let revision = line["revision"].as_str().unwrap();
    assert!(
        revision.len() == 40 && line["treeherder_url"].as_str().unwrap().ends_with(revision),
        "{line}"
    );
    let steps = [
        "accepted",
        "loading",
        "applying",
        "pushing",
        "pushed",
        "published",
    ];
    assert!(steps.iter().all(|step| story.contains(step)), "{story}");
}
