//! Repositories with Git.

use secrecy::ExposeSecret;
use worker::{TryMode, VcsSettings};

use super::*;

const GIT: &str = "\
common:
  PHABRICATOR: {url: 'https://phabricator.example.com', api_key: api-secret}
events:
  repositories:
    - name: product
      vcs: git
      url: https://git.example.com/product
      destination:
        git:
          url: https://git.example.com/try
";

/// The faults and warnings of a document with these lines more in its repository.
fn faults(text: &str, more: &str) -> String {
    let (_, faults) = Config::parse(&format!("{text}{more}"));
    faults.to_string()
}

fn repository(more: &str) -> RepositoryConfig {
    let (config, faults) = Config::parse(&format!("{GIT}{more}"));
    let mut config = config.unwrap_or_else(|| panic!("{faults}"));
    config.repositories.remove(0)
}

#[test]
fn git_repository_has_the_usual_values() {
    let repository = repository("");
    let VcsSettings::Git(git) = repository.vcs else {
        panic!("it is one of Git")
    };
    assert_eq!(repository.try_url, "https://git.example.com/try");
    assert_eq!(repository.try_name, "product");
    assert_eq!(repository.try_mode, TryMode::None);
    assert_eq!(repository.default_revision, "HEAD");
    assert_eq!(repository.jobs_url, None);
    assert_eq!(
        git.ref_template,
        "refs/heads/phabricator/D{revision}/{diff}"
    );
    assert_eq!(git.ref_retention, Duration::from_secs(14 * 24 * 3600));
    assert!(git.push_options.is_empty() && git.https_token.is_none());
    assert!(!git.partial && !git.submodules && !git.hook_rejects_patches);
}

#[test]
fn each_key_of_a_git_repository_is_read() {
    let repository = repository(
        "          ref: refs/heads/try/{diff}
          push_options: [ci.variable=A=b, ci.skip]
          ref_retention: 48h
          hook_rejects_patches: true
      try_name: gitlab
      default_revision: main
      partial: true
      submodules: true
      https_token: glpat-0123456789
      jobs_url: https://gitlab.example.com/try/-/pipelines?ref={branch}
      try_file: {path: ci/build.json, template: '{{ build.phid }}'}
",
    );
    let VcsSettings::Git(git) = repository.vcs else {
        panic!("it is one of Git")
    };
    assert_eq!(repository.try_name, "gitlab");
    assert_eq!(repository.default_revision, "main");
    assert_eq!(
        repository.jobs_url.as_deref(),
        Some("https://gitlab.example.com/try/-/pipelines?ref={branch}")
    );
    let file = TryMode::File {
        path: "ci/build.json".to_owned(),
        template: "{{ build.phid }}".to_owned(),
    };
    assert_eq!(repository.try_mode, file);
    assert_eq!(git.ref_template, "refs/heads/try/{diff}");
    assert_eq!(git.push_options, ["ci.variable=A=b", "ci.skip"]);
    assert_eq!(git.ref_retention, Duration::from_secs(48 * 3600));
    assert!(git.partial && git.submodules && git.hook_rejects_patches);
    let token = git.https_token.expect("a token");
    assert_eq!(token.expose_secret(), "glpat-0123456789");
}

#[test]
fn staging_area_is_the_source_or_a_repository_of_its_own() {
    let staging = |more: &str| match repository(more).vcs {
        VcsSettings::Git(git) => git.staging,
        VcsSettings::Mercurial => panic!("it is one of Git"),
    };
    let source = "https://git.example.com/product";
    assert_eq!(staging(""), None);
    assert_eq!(staging("      staging: false\n"), None);
    assert_eq!(staging("      staging: true\n").as_deref(), Some(source));
    let own = "ssh://git@git.example.com/staging";
    let more = format!("      staging: {{url: '{own}'}}\n");
    assert_eq!(staging(&more).as_deref(), Some(own));
    for (more, expected) in [
        (
            "      staging: 7\n",
            "repositories[0].staging: expected true, or a map with the key url, found a number",
        ),
        (
            "      staging: {}\n",
            "repositories[0].staging.url: is missing, expected a text that is not empty",
        ),
        (
            "      staging: {url: '--upload-pack=x'}\n",
            "repositories[0].staging.url: expected a text that does not begin with -",
        ),
    ] {
        let found = faults(GIT, more);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn faults_of_a_git_repository_have_their_lines() {
    for (more, expected) in [
        (
            "          ref: refs/heads/main\n",
            "line 11: events.repositories[0].destination.git.ref: expected {revision} or {diff} in it: each build has a ref of \
             its own",
        ),
        (
            "          ref: refs/heads/{diff}\n",
            "line 11: events.repositories[0].destination.git.ref: expected a folder below refs/heads/",
        ),
        (
            "          ref_retention: 14\n",
            "line 11: events.repositories[0].destination.git.ref_retention: expected a duration such as 24h or 90m, found a \
             number",
        ),
        (
            "          push_options: ['a', \"b\\nc\"]\n",
            "line 11: events.repositories[0].destination.git.push_options: expected texts without control characters",
        ),
        (
            "        hg: {url: x}\n",
            "line 11: events.repositories[0].destination.hg: is for Mercurial, and vcs is git",
        ),
        (
            "      try_url: ssh://hg.example.com/try\n",
            "line 11: events.repositories[0].try_url: is for Mercurial, and vcs is git",
        ),
        (
            "      try_mode: json\n",
            "line 11: events.repositories[0].try_mode: is for Mercurial, and vcs is git",
        ),
        (
            "      jobs_url: https://ci.example.com/{build}\n",
            "line 11: events.repositories[0].jobs_url: expected no other placeholders than {commit}",
        ),
        (
            "      try_file: {path: .g\u{200c}it/config, template: x}\n",
            "line 11: events.repositories[0].try_file.path: expected a path of a file in the repository",
        ),
        (
            "      try_file: {path: .git/config, template: x}\n",
            "line 11: events.repositories[0].try_file.path: expected a path of a file in the repository",
        ),
        (
            "      try_file:\n        path: ci.json\n        template: '{{ build.number }}'\n",
            "line 13: events.repositories[0].try_file.template: cannot be used: undefined value",
        ),
        (
            "      try_file: {path: ci.json}\n",
            "line 11: events.repositories[0].try_file.template: is missing, expected a text that is not empty",
        ),
    ] {
        let found = faults(GIT, more);
        assert!(
            found.contains(&format!("error: {expected}")),
            "{more}: {found}"
        );
    }
    let ssh = GIT.replace("https://git.example.com/try", "ssh://git.example.com/try");
    let found = faults(&ssh, "      https_token: glpat-0123456789\n");
    assert!(
        found.contains("line 11: events.repositories[0].https_token: has no effect"),
        "{found}"
    );
    assert!(!found.contains("glpat"), "{found}");
}

#[test]
fn destination_belongs_to_the_version_control() {
    let (head, _) = GIT.split_once("      destination").expect("a destination");
    let found = faults(head, "");
    assert!(
        found.contains(
            "error: line 5: events.repositories[0].destination: is missing, expected a map with the key git, since vcs is git"
        ),
        "{found}"
    );
    let found = faults(head, "      destination: {}\n");
    assert!(
        found.contains(
            "error: line 8: events.repositories[0].destination.git: is missing, expected a map, since vcs is git"
        ),
        "{found}"
    );
    let found = faults(
        head,
        "      destination: {git: {ref: 'refs/heads/try/{diff}'}}\n",
    );
    assert!(
        found.contains("error: line 8: events.repositories[0].destination.git.url: is missing"),
        "{found}"
    );
    let hg = head.replace("vcs: git", "vcs: hg");
    for (more, expected) in [
        ("", "line 5: events.repositories[0].try_url: is missing"),
        (
            "      destination: {git: {url: x}}\n",
            "line 8: events.repositories[0].destination.git: is for Git, and vcs is hg",
        ),
        (
            "      destination: {}\n",
            "line 8: events.repositories[0].destination.hg: is missing, expected a map, since vcs is hg",
        ),
        (
            "      try_url: /srv/try\n      destination: {hg: {url: /srv/try}}\n",
            "line 9: events.repositories[0].destination: expected either try_url or destination",
        ),
        (
            "      try_url: /srv/try\n      partial: true\n",
            "line 9: events.repositories[0].partial: is for Git, and vcs is hg",
        ),
        (
            "      try_url: /srv/try\n      submodules: false\n",
            "line 9: events.repositories[0].submodules: is for Git, and vcs is hg",
        ),
        (
            "      try_url: /srv/try\n      https_token: abcdef\n",
            "line 9: events.repositories[0].https_token: is for Git, and vcs is hg",
        ),
        (
            "      try_url: /srv/try\n      jobs_url: 'https://ci.example.com/{branch}'\n",
            "line 9: events.repositories[0].jobs_url: expected no other placeholders than {commit}, {revision} and {diff}",
        ),
        (
            "      try_url: /srv/try\n      try_mode: json\n      try_file: {path: a, template: b}\n",
            "line 10: events.repositories[0].try_file: expected either try_mode or try_file",
        ),
    ] {
        let found = faults(&hg, more);
        assert!(
            found.contains(&format!("error: {expected}")),
            "{more}: {found}"
        );
    }
    let text = format!("{hg}      destination: {{hg: {{url: /srv/try}}}}\n");
    let (config, faults) = Config::parse(&text);
    let config = config.unwrap_or_else(|| panic!("{faults}"));
    let repository = &config.repositories[0];
    assert!(matches!(repository.vcs, VcsSettings::Mercurial));
    assert_eq!(repository.try_url, "/srv/try");
    assert_eq!(repository.default_revision, "tip");
    let found = super::git::faults(
        &hg.replace("vcs: hg", "vcs: svn"),
        "      try_url: /srv/try\n",
    );
    assert!(
        found
            .contains("line 6: events.repositories[0].vcs: expected hg or git, found another text"),
        "{found}"
    );
}
