//! The ids of messages and dead letters on the command line.

use uuid::Uuid;

/// The id of a message.
pub(super) fn message(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| expected("a message", "queues peek QUEUE"))
}

/// The id of a dead letter: that of its message, or `entry-…` of an entry that is not a message.
pub(super) fn dead_letter(text: &str) -> Result<String, String> {
    if let Ok(id) = Uuid::try_parse(text) {
        return Ok(id.to_string());
    }
    if is_entry(text) {
        Ok(text.to_owned())
    } else {
        Err(expected("a dead letter", "dead-letters list"))
    }
}

/// Whether the text is `entry-`, any partition, and the two numbers of an entry.
fn is_entry(text: &str) -> bool {
    text.strip_prefix("entry-")
        .and_then(|entry| entry.rsplit_once('-'))
        .is_some_and(|(before, number)| {
            before.ends_with(|last: char| last.is_ascii_digit()) && number.parse::<u64>().is_ok()
        })
}

fn expected(what: &str, command: &str) -> String {
    format!("expected the id of {what}, as `events {command}` lists it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_a_dead_letter_is_that_of_a_message_or_of_an_entry() {
        let message = "0199a0b0-0000-7000-8000-00000000000a";
        for id in [
            message,
            "entry-1763726400000-0",
            "entry-PHID-REPO-a1763726400000-12",
        ] {
            assert_eq!(dead_letter(id).as_deref(), Ok(id));
        }
        assert_eq!(dead_letter(&message.to_uppercase()).as_deref(), Ok(message));
        for malformed in [
            "",
            "x",
            "entry-",
            "entry-x-1",
            "entry-1-x",
            "1763726400000-0",
        ] {
            assert!(dead_letter(malformed).is_err(), "{malformed:?}");
        }
    }
}
