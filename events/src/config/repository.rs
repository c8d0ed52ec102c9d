//! A repository of the configuration.

use saphyr::MarkedYaml;
use secrecy::SecretString;
use url::Url;
use worker::TryMode;

use super::{
    reader::{FromYaml, Section},
    secrets,
};

/// A repository that is built.
#[derive(Clone)]
pub struct RepositoryConfig {
    /// Its short name on Phabricator.
    pub name: String,
    /// Where it is cloned from.
    pub url: String,
    /// Where heads are pushed to.
    pub try_url: String,
    /// The name of that place on Treeherder.
    pub try_name: String,
    /// How Try learns which jobs to run.
    pub try_mode: TryMode,
    /// What is built on when the base of a stack is unknown.
    pub default_revision: String,
    /// Whether that is always built on.
    pub use_latest_revision: bool,
    /// Who pushes.
    pub ssh_user: Option<String>,
    /// With which key.
    pub ssh_key: Option<SecretString>,
    /// How many builds are made side by side, each on a clone of its own.
    pub clone_slots: usize,
}

/// A number of clone slots. A connection of ssh carries ten sessions at once, and a machine rarely has more cores to spare.
struct CloneSlots(usize);

impl FromYaml for CloneSlots {
    const EXPECTED: &'static str = "a whole number from 1 to 10";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        let slots = usize::try_from(node.data.as_integer()?).ok()?;
        (1..=10).contains(&slots).then_some(Self(slots))
    }
}

pub(super) fn read(
    section: &Section<'_>,
    ssh_key: Option<&SecretString>,
) -> Option<RepositoryConfig> {
    let mode: Option<String> = section.optional("try_mode");
    let syntax: Option<String> = section.optional("try_syntax");
    let try_mode = match (mode.as_deref(), syntax) {
        (None | Some("json"), _) => Some(TryMode::Json),
        (Some("syntax"), Some(syntax)) => Some(TryMode::Syntax(syntax)),
        (Some("syntax"), None) => {
            section.reject("try_syntax", "a try syntax, since try_mode is syntax");
            None
        }
        (Some(_), _) => {
            section.reject("try_mode", "expected json or syntax");
            None
        }
    };
    let (name, url, try_url): (Option<String>, Option<String>, Option<String>) = (
        section.required("name"),
        section.required("url"),
        section.required("try_url"),
    );
    for (key, value) in [("name", &name), ("url", &url), ("try_url", &try_url)] {
        if value
            .as_ref()
            .is_some_and(|value| value.starts_with('-') || value.contains(char::is_control))
        {
            section.reject(
                key,
                "expected a text that does not begin with - and holds no control characters",
            );
        }
    }
    for (key, value) in [("url", &url), ("try_url", &try_url)] {
        let url = value
            .as_ref()
            .and_then(|value| Url::parse(value).ok())
            .filter(|url| url.password().is_some());
        secrets::advise_plain_http(section, key, url.as_ref(), "its password");
    }
    if name
        .as_ref()
        .is_some_and(|name| name.contains(['/', '\\']) || name.starts_with('.'))
    {
        section.reject(
            "name",
            "expected a name without / and without a leading dot: a folder is named after it",
        );
    }
    let config = (
        section
            .optional("try_name")
            .unwrap_or_else(|| "try".to_owned()),
        section
            .optional("default_revision")
            .unwrap_or_else(|| "tip".to_owned()),
        section.optional("use_latest_revision").unwrap_or(false),
        section.optional("ssh_user"),
        section.optional("ssh_key").or_else(|| ssh_key.cloned()),
        section
            .optional::<CloneSlots>("clone_slots")
            .map_or(1, |slots| slots.0),
    );
    section.ignored(
        &["checkout", "batch_size"],
        "means nothing any more: clones have no working copy",
    );
    section.of_other_programs(&["decision_env_prefix"]);
    section.warn_of_unknown();
    let (try_name, default_revision, use_latest_revision, ssh_user, ssh_key, clone_slots) = config;
    Some(RepositoryConfig {
        name: name?,
        url: url?,
        try_url: try_url?,
        try_name,
        try_mode: try_mode?,
        default_revision,
        use_latest_revision,
        ssh_user,
        ssh_key,
        clone_slots,
    })
}
