//! The reader of patches, on any bytes, by the rules of each version control.

#![no_main]

use libfuzzer_sys::fuzz_target;
use worker::{
    Limits,
    patch::{self, Rules},
};

fuzz_target!(|content: &[u8]| {
    let limits = Limits::default();
    for rules in [
        Rules::Mercurial,
        Rules::Git { submodules: false },
        Rules::Git { submodules: true },
    ] {
        match patch::scan(content, &limits, rules) {
            Ok(parsed) => {
                assert!(parsed.touched().next().is_some(), "it changes something");
                for path in parsed.touched() {
                    assert!(!path.is_empty() && !path.starts_with(b"/"));
                    assert!(path.split(|&byte| byte == b'/').all(|name| name != b".."));
                    assert!(
                        path.split(|&byte| byte == b'/')
                            .all(|name| name != b".git" && name != b".hg")
                    );
                }
            }
            Err(refusal) => {
                let text = refusal.to_string();
                assert!(
                    !text.contains(|c: char| c.is_control() && c != '\t'),
                    "it can be shown: {text:?}"
                );
            }
        }
    }
});
