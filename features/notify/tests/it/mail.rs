//! What people read in a mail, as text and as HTML.

use notify::{DigestLine, Notification, Recipients, Status, Templates};

use crate::channels::notification;

fn failed() -> Notification {
    notification("smtp", Recipients::default())
}

fn text(one: &Notification) -> String {
    Templates::ours()
        .unwrap()
        .render("smtp", "mail.txt", one)
        .unwrap()
}

fn html(one: &Notification) -> String {
    Templates::ours()
        .unwrap()
        .render("smtp", "mail.html", one)
        .unwrap()
}

#[test]
fn mail_of_failed_task_matches_snapshot() {
    insta::assert_snapshot!("mail_failed_text", text(&failed()));
    insta::assert_snapshot!("mail_failed_html", html(&failed()));
}

#[test]
fn mail_of_artifact_matches_snapshot() {
    let mut one = failed();
    (one.status, one.artifact) = (
        Status::ArtifactCreated,
        Some("public/build/target.tar.bz2".to_owned()),
    );
    (one.subject, one.message) = ("A build is there".to_owned(), "Try it.".to_owned());
    one.links.logs.clear();
    insta::assert_snapshot!("mail_artifact_text", text(&one));
    insta::assert_snapshot!("mail_artifact_html", html(&one));
}

#[test]
fn mail_of_digest_matches_snapshot() {
    let mut one = failed();
    let line = |(subject, status): (&str, Status)| DigestLine {
        status,
        subject: subject.to_owned(),
        link: one.links.task.clone(),
    };
    let lines = [
        ("build-linux64/opt failed", Status::TaskFailed),
        ("test-linux64/opt-xpcshell ended", Status::TaskCompleted),
        ("sign-linux64/opt: task-exception", Status::TaskException),
        ("lint <b>is pending</b>", Status::TaskPending),
    ];
    one.digest = lines.map(line).to_vec();
    one.subject = "4 more notifications".to_owned();
    one.message = Templates::ours()
        .unwrap()
        .render("smtp", "digest.txt", &one)
        .unwrap();
    insta::assert_snapshot!("mail_digest_text", text(&one));
    insta::assert_snapshot!("mail_digest_html", html(&one));
    // What a list that is too long ends in is not in the list.
    one.message.push_str("\nand 7 more\n");
    assert!(html(&one).contains("<p>and 7 more</p>"));
}

#[test]
fn mail_of_hostile_task_matches_snapshot() {
    let mut one = failed();
    one.task.name = "<script>alert(1)</script>\"onclick='alert(2)'".to_owned();
    one.subject = "</title><script>alert(3)</script>".to_owned();
    one.message =
        "<img src=x onerror=alert(4)>\n</p></body>\u{202e}gpj.exe & more\u{1b}[31m".to_owned();
    insta::assert_snapshot!("mail_hostile_text", text(&one));
    insta::assert_snapshot!("mail_hostile_html", html(&one));
}

#[test]
fn longest_message_is_rendered() {
    let one = Notification {
        message: format!("x{}y", "\n".repeat(19_998)),
        ..failed()
    };
    assert_eq!(html(&one).matches("<br>").count(), 19_998);
    assert!(text(&one).starts_with("x\n\n"));
    let line = DigestLine {
        status: Status::TaskFailed,
        subject: "'".repeat(500),
        link: one.links.task.clone(),
    };
    assert!(
        html(&Notification {
            digest: vec![line; 500],
            ..one
        })
        .contains("&#x27;…</a>")
    );
}
