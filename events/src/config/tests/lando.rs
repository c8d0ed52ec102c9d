//! Repositories with Lando.

use secrecy::ExposeSecret;
use worker::VcsSettings;

use super::*;

const HG: &str = "\
common:
  PHABRICATOR: {url: 'https://phabricator.example.com', api_key: api-secret}
events:
  repositories:
    - name: firefox
      url: https://hg.example.com/unified
      try_url: ssh://hg.example.com/try
";

/// The faults and warnings of a document with these lines more in its repository.
fn faults(more: &str) -> String {
    let (_, faults) = Config::parse(&format!("{HG}{more}"));
    faults.to_string()
}

fn repository(more: &str) -> RepositoryConfig {
    let (config, faults) = Config::parse(&format!("{HG}{more}"));
    let mut config = config.unwrap_or_else(|| panic!("{faults}"));
    config.repositories.remove(0)
}

#[test]
fn base_mapping_is_an_address() {
    assert_eq!(repository("").base_mapping, None);
    let url = "https://lando.example.com/api/git2hg/firefox";
    let repository = repository(&format!("      base_mapping: {{url: '{url}'}}\n"));
    assert_eq!(
        repository.base_mapping.map(String::from).as_deref(),
        Some(url)
    );
    for (faulty, fault) in [
        ("{}", "line 8: events.repositories[0].base_mapping.url:"),
        (
            "{url: lando}",
            "events.repositories[0].base_mapping.url: expected an http or https url",
        ),
        (
            "{url: 'https://lando.example.com', key: x}",
            "events.repositories[0].base_mapping.key",
        ),
    ] {
        let faults = faults(&format!("      base_mapping: {faulty}\n"));
        assert!(faults.contains(fault), "{faulty}: {faults}");
    }
}

const BY_LANDO: &str = "\
common:
  PHABRICATOR: {url: 'https://phabricator.example.com', api_key: api-secret}
events:
  repositories:
    - name: firefox
      url: https://hg.example.com/unified
      destination:
        lando:
          url: https://lando.example.com
          token: lando-token
          user: builds@example.com
";

fn by_lando(text: &str) -> (Option<Config>, String) {
    let (config, faults) = Config::parse(text);
    (config, faults.to_string())
}

#[test]
fn stacks_are_submitted_to_lando_with_either_version_control() {
    for (vcs, is_git) in [("", false), ("      vcs: git\n", true)] {
        let text = format!("{BY_LANDO}          patch_format: git-format-patch\n{vcs}");
        let (config, faults) = by_lando(&text);
        let mut config = config.unwrap_or_else(|| panic!("{faults}"));
        let repository = config.repositories.remove(0);
        assert_eq!(matches!(repository.vcs, VcsSettings::Git(_)), is_git);
        assert!(!faults.contains("repositories"), "{faults}");
        assert_eq!(repository.try_name, "try");
        let lando = repository.lando.expect("it has one");
        assert_eq!(lando.url.as_str(), "https://lando.example.com/");
        assert_eq!(lando.token.expose_secret(), "lando-token");
        assert_eq!(lando.user, "builds@example.com");
        assert_eq!(lando.repository, "try");
        assert!(!format!("{lando:?}").contains("lando-token"));
    }
}

#[test]
fn faults_of_the_keys_of_lando_have_their_places() {
    let at = "events.repositories[0].destination";
    for (from, to, fault) in [
        (
            "          token: lando-token\n",
            "",
            format!("{at}.lando.token:"),
        ),
        (
            "          user: builds@example.com\n",
            "",
            format!("{at}.lando.user:"),
        ),
        (
            "https://lando",
            "ftp://lando",
            format!("{at}.lando.url: expected an http or https url"),
        ),
        (
            "https://lando",
            "https://me@lando",
            format!("{at}.lando.url: expected an address without a user"),
        ),
        ("https://lando", "http://lando", format!("{at}.lando.url")),
        (
            "          user:",
            "          patch_format: hgexport\n          user:",
            format!("{at}.lando.patch_format:"),
        ),
        (
            "          user:",
            "          base_vcs: hg\n          user:",
            format!("{at}.lando.base_vcs"),
        ),
        (
            "        lando:",
            "        hg: {url: x}\n        lando:",
            format!("{at}.hg: expected one of git, hg and lando"),
        ),
        (
            "      destination:",
            "      vcs: git\n      jobs_url: 'https://ci.example.com/{ref}'\n      destination:",
            "jobs_url: expected no other placeholders".to_owned(),
        ),
    ] {
        let (_, faults) = by_lando(&BY_LANDO.replace(from, to));
        assert!(faults.contains(&fault), "{to}: {faults}");
    }
}
