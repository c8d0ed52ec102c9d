//! A peer's text, made safe for errors and logs.

use secrecy::{ExposeSecret, SecretString};

/// `text` on one line of at most `bytes` bytes, with `(secret)` in place of each of the `secrets`: some peers echo them.
pub fn redact<'s>(
    text: &str,
    secrets: impl IntoIterator<Item = &'s SecretString>,
    bytes: usize,
) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        let secret = secret.expose_secret().trim();
        if !secret.is_empty() {
            text = text.replace(secret, "(secret)");
        }
    }
    runtime::sanitize::one_line(&text, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_peer_is_one_short_line_without_secrets() {
        for (text, secret, expected) in [
            (
                "API token \"api-abc\" is bad",
                "api-abc",
                "API token \"(secret)\" is bad",
            ),
            ("two\nlines", "api-abc", "two lines"),
            ("nothing to hide", "", "nothing to hide"),
            ("api-abc", " api-abc\n", "(secret)"),
            ("a\u{202e}b", "x", "ab"),
        ] {
            let secret = SecretString::from(secret);
            assert_eq!(redact(text, [&secret], 500), expected);
        }
        let long = redact(&"ü".repeat(400), [], 500);
        assert!(long.len() <= 500 && long.ends_with("ü…"), "{long}");
        let two = [SecretString::from("one"), SecretString::from("two")];
        assert_eq!(redact("one, two", &two, 500), "(secret), (secret)");
    }
}
