//! Repositories with Lando.

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
