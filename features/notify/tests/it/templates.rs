//! What our templates write, and what a deployment's own may not do.

use std::{fs, path::Path, sync::Arc};

use notify::{Notification, Status, TemplateError, Templates};
use serde_json::json;

use crate::world::{NOTIFICATIONS, TASKS, World, message, metadata};

/// What a failed task with a hostile name leads to.
async fn hostile() -> Notification {
    let world = World::new().await;
    let name = "<script>alert(1)</script>\r\nBcc: all@example.com\u{202e}";
    let extra = json!({ "notification": { "task-failed": { "plugins": ["robot"] } } });
    let task = world
        .fake
        .add_task(json!({ "metadata": metadata(name), "extra": extra }));
    world
        .send(&TASKS, &message(&task, Status::TaskFailed, |_| {}))
        .await;
    world.dispatch().await;
    world.peek(&NOTIFICATIONS).await.pop().unwrap()
}

fn replaced(folder: &Path) -> Result<Templates, TemplateError> {
    Templates::ours().unwrap().replaced_by(folder)
}

#[tokio::test]
async fn hostile_name_stays_on_one_line() {
    let one = hostile().await;
    assert_eq!(
        one.subject,
        "<script>alert(1)</script> Bcc: all@example.com: task-failed"
    );
    insta::assert_snapshot!(one.message.replace(&one.task.id, "<task>"));
}

#[tokio::test]
async fn templates_of_deployment_replace_defaults() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("subject.txt"),
        "[ci] {{ task.name | upper }}\n",
    )
    .unwrap();
    fs::write(folder.path().join(".hidden"), "{{").unwrap();
    let templates = replaced(folder.path()).unwrap();
    let one = hostile().await;
    let text = templates.render("robot", "subject.txt", &one).unwrap();
    assert_eq!(text, "[ci] <SCRIPT>ALERT(1)</SCRIPT> BCC: ALL@EXAMPLE.COM");
    let file = folder.path().join("other");
    fs::write(&file, "{{ status }}").unwrap();
    let other = Templates::with_file(&Arc::new(templates), "subject.txt", &file).unwrap();
    assert_eq!(
        other.render("robot", "subject.txt", &one).unwrap(),
        "task-failed"
    );
}

#[test]
fn broken_template_is_reported_at_start() {
    for (name, text, expected) in [
        (
            "subject.txt",
            "{{ task.nmae }}",
            "the template subject.txt cannot be used: undefined value",
        ),
        (
            "subject.txt",
            "{% if status == 'task-failed' %}{{ tsak }}{% endif %}",
            "undefined value",
        ),
        (
            "subject.txt",
            "{% if",
            "the template subject.txt cannot be used: syntax error",
        ),
        ("subject.txt", "a\n{{ digest.length.x }}", "in line 2"),
        (
            "subject.txt",
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "fuel",
        ),
        (
            "subjekt.txt",
            "x",
            "replaces none: there are digest-subject.txt, digest.txt, ",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), text).unwrap();
        let error = replaced(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
