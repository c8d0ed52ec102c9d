//! The pages of `docs/` say what the code does.

mod logbook;

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc};

use notify::{
    CHANNELS, ChannelError, InfluxSettings, Key, Opened, Parts, Recipients, Registration, Settings,
    SettingsError, Status, Templates,
};
use runtime::{Clock, ManualClock};
use secrecy::SecretString;
use testkit::taskcluster::FakeTaskcluster;

use crate::{
    channels::notification,
    world::{NOW, client, http},
};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn docs_list_every_channel_with_keys_and_variables() {
    let page = page("reference/channels.md");
    let influxdb = (
        "influxdb",
        "\n## How long channels take\n".to_owned(),
        InfluxSettings::KEYS,
    );
    let channels = CHANNELS.iter().map(|channel| {
        (
            channel.name,
            format!("\n### `{}`\n", channel.name),
            channel.keys,
        )
    });
    for (name, head, keys) in channels.chain([influxdb]) {
        let (_, section) = page
            .split_once(&head)
            .unwrap_or_else(|| panic!("docs/reference/channels.md has no heading{head}"));
        let (section, _) = section.split_once("\n#").unwrap();
        for Key {
            name: key,
            variable,
        } in keys
        {
            let variable = variable
                .map(|variable| format!("`{variable}` "))
                .unwrap_or_default();
            let row = format!("\n| `{key}` | {variable}| ");
            assert!(
                section.contains(&row),
                "docs/reference/channels.md has no row for notify.{name}.{key}:{row}"
            );
        }
        let rows = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .count();
        assert_eq!(
            rows,
            keys.len(),
            "docs/reference/channels.md names keys of {name} that there are not"
        );
    }
}

#[test]
fn docs_list_every_status_and_template() {
    let (use_page, channels_page) = (page("use/notify.md"), page("reference/channels.md"));
    let statuses = Status::ALL.map(Status::name);
    let own = CHANNELS
        .iter()
        .flat_map(|channel| channel.templates)
        .map(|(name, _)| *name);
    let common = [
        "subject.txt",
        "message.txt",
        "digest-subject.txt",
        "digest.txt",
    ];
    for name in own.chain(common) {
        assert!(
            channels_page.contains(&format!("`{name}`")),
            "docs/reference/channels.md does not name {name}"
        );
    }
    for name in statuses {
        assert!(
            use_page.contains(&format!("`{name}`")),
            "docs/use/notify.md does not name {name}"
        );
    }
}

#[test]
fn channel_in_docs_equals_compiled_one() {
    testkit::assert_page_shows(
        "docs/extend/channel.md",
        "features/notify/tests/it/docs/logbook.rs",
    );
}

/// The first block of code in this language.
fn code<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```\n").unwrap().0
}

/// With the signature that openssl computes, see `src/channels/webhook.rs`.
#[test]
fn receiver_in_docs_verifies_our_posts() {
    let signature = "sha256=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
    let trial = format!(
        r#"
headers = {{"X-Events-Timestamp": "1700000000", "X-Events-Signature": "{signature}"}}
for now in 1700000100, 1700000400:
    time.time = lambda: now
    print(is_ours(headers, b"{{}}", b"secret"), is_ours(headers, b"[]", b"secret"), is_ours({{}}, b"{{}}", b"secret"))
"#
    );
    let script = code(&page("reference/channels.md"), "python").to_owned() + &trial;
    let output = Command::new("/usr/bin/python3")
        .args(["-c", &script])
        .output()
        .unwrap();
    let (said, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(said, "True False False\nFalse False False\n", "{complaint}");
}

async fn open(environment: &[(&str, &str)]) -> Opened {
    let still = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let fake = FakeTaskcluster::start(still.clone()).await.unwrap();
    let clock: Arc<dyn Clock> = still.clone();
    let parts = Parts {
        templates: &Arc::new(Templates::ours().unwrap()),
        taskcluster: &client(&fake, &still),
        pulse: None,
        http: &http(),
        clock: &clock,
    };
    let variable = |name: &str| {
        environment
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let Registration {
        name, keys, open, ..
    } = logbook::REGISTRATION;
    let nothing: BTreeMap<String, SecretString> = BTreeMap::new();
    open(&Settings::layered(name, keys, &nothing, &variable)?, &parts)
}

#[tokio::test]
async fn channel_in_docs_works() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let channel = open(&[("LOGBOOK_FILE", file.to_str().unwrap())])
        .await
        .unwrap();
    let notification = notification("logbook", Recipients::default());
    let recipients = channel.recipients(&notification);
    for recipient in recipients.iter().chain(&recipients) {
        channel.send(&notification, recipient).await.unwrap();
    }
    let line = "2026-11-21T02:48:05Z bGmvC3EFTSWLcp5Kb5E12A/1/task-failed/logbook: build-linux64/opt failed\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), line.repeat(2));

    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let error = channel
        .send(&notification, &recipients[0])
        .await
        .unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    for environment in [&[][..], &[("LOGBOOK_FILE", "here")]] {
        let error = open(environment).await.err().unwrap();
        assert!(
            matches!(
                error,
                SettingsError::Missing { .. } | SettingsError::Invalid { .. }
            ),
            "{error}"
        );
    }
}
