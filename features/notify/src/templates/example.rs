//! Example notifications, which every template has to render.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pulse::{PulseMessage, Routing};
use url::Url;

use crate::{DigestLine, Links, LogLink, Notification, NotifiedTask, Recipients, Status};

/// A full notification, a sparse one, and a digest. `None` where an address in them cannot be parsed.
pub(super) fn notifications() -> Option<[Notification; 3]> {
    let link = Url::parse("https://taskcluster.example/tasks/EHvlZcWCR6WAZapcRiLoNg").ok()?;
    let full = Notification {
        channel: "example".to_owned(),
        identity: Some("ann".to_owned()),
        recipient: None,
        next: 0,
        status: Status::ArtifactCreated,
        task: NotifiedTask {
            id: "EHvlZcWCR6WAZapcRiLoNg".to_owned(),
            name: "build-linux64/opt".to_owned(),
            group_id: "EHvlZcWCR6WAZapcRiLoNg".to_owned(),
            run_id: Some(0),
            runs: vec![0],
            build_props: BTreeMap::from([("branch".to_owned(), "try".to_owned())]),
        },
        artifact: Some("public/build/target.tar.bz2".to_owned()),
        subject: "A subject".to_owned(),
        message: "A message\nof two lines".to_owned(),
        links: Links {
            task: link.clone(),
            logs: vec![LogLink {
                run_id: 0,
                url: link.clone(),
            }],
        },
        to: Recipients::default(),
        pulse: PulseMessage {
            routing: Routing {
                exchange: String::new(),
                key: String::new(),
                other_routes: Vec::new(),
            },
            body: Vec::new().into(),
        },
        created_at: Timestamp::UNIX_EPOCH,
        digest: Vec::new(),
    };
    let mut sparse = Notification {
        status: Status::TaskDefined,
        identity: None,
        artifact: None,
        ..full.clone()
    };
    (sparse.task.run_id, sparse.task.runs, sparse.links.logs) = (None, Vec::new(), Vec::new());
    sparse.task.build_props.clear();
    let line = DigestLine {
        status: Status::TaskFailed,
        subject: "A subject".to_owned(),
        link,
    };
    let digest = Notification {
        digest: vec![line.clone(), line],
        ..full.clone()
    };
    Some([full, sparse, digest])
}
