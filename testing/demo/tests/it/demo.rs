use std::process::Command;

#[test]
fn demo_pushes_three_patches_and_prints_one_line_for_machines() {
    let line = demo(&["--json"]);
    assert_eq!(line["vcs"], "hg");
    assert!(line.get("ref").is_none(), "{line}");
}

#[test]
fn demo_with_git_pushes_three_patches_to_a_ref() {
    let line = demo(&["--git", "--json"]);
    assert_eq!(line["vcs"], "git");
    let reference = line["ref"].as_str().unwrap();
    assert!(
        reference.starts_with("refs/heads/phabricator/D3/"),
        "{line}"
    );
}

/// The line for machines.
fn demo(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(arguments)
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
        revision.len() == 40 && line["jobs_url"].as_str().unwrap().ends_with(revision),
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
    line
}
