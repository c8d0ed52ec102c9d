//! All keys together: the page, the schema, and what `events config show` prints.

use std::{cell::RefCell, fs};

use serde_json::{Value, json};

use super::{document::Document, schema::Keys, *};
use crate::config::reference::{self, Table};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn page_has_the_tables_of_the_keys() {
    let path = root().join("docs/reference/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut right = page.clone();
    for (name, table) in [
        ("builds", Table::Builds),
        ("triggers", Table::Triggers),
        ("notify", Table::Notify),
    ] {
        let mark = format!("<!-- keys: {name} -->\n\n");
        let (before, rest) = right.split_once(&mark).expect("the mark of a table");
        let (_, after) = rest.split_once("\n\n").expect("an end of the table");
        right = format!("{before}{mark}{}\n{after}", reference::table(table));
    }
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::write(path, right).unwrap();
    } else {
        assert!(
            page == right,
            "run this test with UPDATE_PAGES=1, which writes the tables of docs/reference/configuration.md"
        );
    }
}

#[test]
fn every_key_that_is_read_is_in_the_reference() {
    let faults = RefCell::new(Faults::default());
    let document = Document::read(GOOD, &faults).expect("it is right");
    let all = reference::all();
    let keys = Keys::new(&document, &all, &faults);
    read(&keys);
    web::read(&keys);
    let (read, known) = (keys.read.borrow(), names(&all));
    assert!(!read.is_empty());
    for name in read.iter().flat_map(names) {
        assert!(known.contains(&name), "{name}");
    }
}

/// The keys in a schema.
fn names(schema: &Value) -> Vec<String> {
    let names = schema["properties"].as_object().expect("a schema of keys");
    names.keys().cloned().collect()
}

#[test]
fn page_lists_the_keys_of_the_web_server() {
    let faults = RefCell::new(Faults::default());
    let document = Document::read(GOOD, &faults).expect("it is right");
    let all = reference::all();
    let keys = Keys::new(&document, &all, &faults);
    web::read(&keys);
    let mut read: Vec<_> = keys.read.borrow().iter().flat_map(names).collect();
    let page = fs::read_to_string(root().join("docs/use/configuration.md")).unwrap();
    let row = page.lines().find_map(|line| line.strip_prefix("| `web` |"));
    let cells = row.expect("the row of the role").split('`');
    let mut listed: Vec<_> = cells.skip(1).step_by(2).map(str::to_owned).collect();
    read.sort();
    listed.sort();
    assert_eq!(listed, read, "docs/use/configuration.md, the role web");
}

#[test]
fn defaults_of_the_reference_are_those_of_the_program() {
    let git = json!([{
        "name": "firefox",
        "url": "https://git.example.com/firefox",
        "vcs": "git",
        "destination": {"git": {"url": "ssh://git.example.com/firefox"}},
    }]);
    let mercurial = document_of(GOOD)["repositories"].clone();
    // Without the keys of the other version control, and those whose default is another with Git, as their descriptions say.
    for (repositories, of_the_other) in [
        (mercurial, ["partial", "submodules"].as_slice()),
        (git, &["try_mode", "try_name", "default_revision"]),
    ] {
        let mut keys = document_of(GOOD);
        keys.remove("build_expiry");
        keys.insert("notify".to_owned(), json!({}));
        keys.insert("repositories".to_owned(), repositories);
        let mut keys = Value::Object(keys);
        let given = |keys: &Value| {
            let (config, faults) = Config::parse(&json!({"events": keys}).to_string());
            let mut config = config.unwrap_or_else(|| panic!("{faults}"));
            // It is used without the slash that may end it.
            config.treeherder_url = config.treeherder_url.trim_end_matches('/').to_owned();
            format!("{config:#?}")
        };
        let absent = given(&keys);
        let count = set_defaults(&reference::all(), of_the_other, &mut keys);
        assert!(count > 15, "{count} defaults");
        assert_eq!(given(&keys), absent);
    }
}

/// Sets each key that is absent and has a default in the schema, also in the sections and in the maps of lists, except for
/// those in `without`; returns how many it set.
fn set_defaults(schema: &Value, without: &[&str], value: &mut Value) -> usize {
    match value {
        Value::Object(keys) => {
            let properties = schema["properties"].as_object();
            let mut count = 0;
            for (name, schema) in properties.into_iter().flatten() {
                match (keys.get_mut(name), schema.get("default")) {
                    (Some(value), _) => count += set_defaults(schema, without, value),
                    (None, Some(default)) if !without.contains(&name.as_str()) => {
                        keys.insert(name.clone(), default.clone());
                        count += 1;
                    }
                    (None, _) => {}
                }
            }
            count
        }
        Value::Array(items) => items
            .iter_mut()
            .map(|item| set_defaults(&schema["items"], without, item))
            .sum(),
        _ => 0,
    }
}

fn document_of(text: &str) -> serde_json::Map<String, Value> {
    let faults = RefCell::new(Faults::default());
    Document::read(text, &faults).expect("it is right").keys
}

#[test]
fn schema_for_editors_takes_the_examples_and_refuses_what_is_wrong() {
    let schema = jsonschema::validator_for(&reference::schema()).expect("a schema");
    let examples = root().join("config");
    let mut count = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            let keys = document_of(&fs::read_to_string(&path).unwrap());
            let faults: Vec<_> = schema
                .iter_errors(&json!({"events": keys}))
                .map(|error| error.to_string())
                .collect();
            assert_eq!(faults, Vec::<String>::new(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 0);
    for wrong in [
        json!({"events": {"build_expiry": 24}}),
        json!({"events": {"unknown": 1}}),
        json!({"events": {"PHABRICATOR": {"url": "https://phabricator.example.com"}}}),
        json!({"other": {}}),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn shown_configuration_has_lines_and_defaults_and_no_secret() {
    let text = GOOD.replace(
        "https://hg.example.com/mozilla-central",
        "https://us:hunter2@hg.example.com/mozilla-central",
    );
    let text = format!("{text}  notify: {{irc: {{password: hunter2}}}}\n  unknwon: hunter2\n");
    let (shown, faults) = reference::show(&text);
    let shown = shown.unwrap_or_else(|| panic!("{faults}"));
    for line in [
        "PHABRICATOR.api_key: (a secret)  # line 6",
        "PHABRICATOR.publish: true  # line 7",
        "build_expiry: \"36h\"  # line 21",
        "build_retention: \"720h\"  # default",
        "notify.irc.password: (a secret)  # line 22",
        "repositories[0].clone_slots: 1  # default",
        "repositories[0].try_mode: \"syntax\"  # line 16",
        "unknwon: (unknown)  # line 23",
        "notify.rate_limit_per_minute: 20  # default",
        "user_blacklist: [\"bob\",\"carol\"]  # line 20",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} in\n{shown}"
        );
    }
    for secret in ["hunter2", "api-secret", "a key"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let (shown, faults) = reference::show("events: [");
    assert!(shown.is_none() && !faults.errors.is_empty());
}
