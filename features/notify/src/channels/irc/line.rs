//! Lines of IRC: those of the server, and our messages.

use crate::{Notification, Status, text::one_line};

/// The maximum length of a line in bytes, with its end (RFC 2812, section 2.3).
const MAX_LINE: usize = 512;
/// The maximum length of the prefix with which a server forwards our line: `:`, nick (32), `!`, user (20), `@`, host (63),
/// space.
const MAX_PREFIX: usize = 119;

/// A line of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The nick or the server that sent it; empty without a prefix.
    pub(super) from: String,
    /// The command in capitals, or three digits.
    pub(super) command: String,
    pub(super) params: Vec<String>,
}

impl Line {
    /// Parses a line without its end. `None` if it has no command. Replaces bytes that are not UTF-8, which only texts have.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut rest = text.trim_start_matches(' ');
        if rest.starts_with('@') {
            rest = rest.split_once(' ')?.1.trim_start_matches(' ');
        }
        let mut from = "";
        if let Some(prefixed) = rest.strip_prefix(':') {
            let (prefix, after) = prefixed.split_once(' ')?;
            from = prefix.split('!').next().unwrap_or_default();
            rest = after.trim_start_matches(' ');
        }
        let mut words = Vec::new();
        while !rest.is_empty() {
            if let Some(last) = rest.strip_prefix(':').filter(|_| !words.is_empty()) {
                words.push(last);
                break;
            }
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            words.push(word);
            rest = after.trim_start_matches(' ');
        }
        let mut words = words.into_iter().map(str::to_owned);
        let command = words.next()?.to_ascii_uppercase();
        Some(Self {
            from: from.to_owned(),
            command,
            params: words.collect(),
        })
    }

    /// The parameter with this index, from 0; empty if the line has fewer.
    pub(super) fn param(&self, number: usize) -> &str {
        self.params.get(number).map_or("", String::as_str)
    }

    /// The last parameter: the text of a reply.
    pub(super) fn words(&self) -> String {
        one_line(self.params.last().map_or("", String::as_str), 200)
    }
}

/// The maximum length of the nicks in a line, in bytes. Further nicks are left out.
const MAX_ADDRESSED: usize = 150;

/// The message to `target`, with its end; `None` if nothing of `text` can be shown. It begins with the nicks that it
/// addresses, and with a fixed word. The text is cut to the length of a line, with the prefix that the server adds.
pub(super) fn privmsg(
    target: &str,
    colour: Option<u8>,
    (addressed, begin): (Option<&str>, &str),
    text: &str,
) -> Option<String> {
    let (on, off) = match colour {
        // Two digits, so that a digit of the text is not read as a part of the colour.
        Some(colour) => (format!("\u{3}{colour:02}"), "\u{f}"),
        None => (String::new(), ""),
    };
    let addressed = addressed
        .map(fitting)
        .map(|nicks| format!("{nicks}: "))
        .unwrap_or_default();
    let head = format!("PRIVMSG {target} :{addressed}{on}{begin}: ");
    let room = MAX_LINE.saturating_sub(MAX_PREFIX + head.len() + off.len() + "\r\n".len());
    let text = one_line(text, room);
    if text.is_empty() {
        None
    } else {
        Some(format!("{head}{text}{off}\r\n"))
    }
}

/// The first of these nicks that fit.
fn fitting(nicks: &str) -> &str {
    if nicks.len() <= MAX_ADDRESSED {
        return nicks;
    }
    // Nicks are ASCII, and each is far shorter.
    nicks
        .get(..MAX_ADDRESSED)
        .and_then(|begin| begin.rsplit_once(", "))
        .map_or("", |(first, _)| first)
}

/// The colour of a notification, as a number of mIRC. A digest has one if all its lines have the same.
pub(super) fn colour(notification: &Notification) -> Option<u8> {
    let mut held = notification
        .digest
        .iter()
        .map(|line| of_status(line.status));
    match held.next() {
        None => of_status(notification.status),
        Some(first) => first.filter(|_| held.all(|other| other == first)),
    }
}

fn of_status(status: Status) -> Option<u8> {
    match status {
        Status::TaskCompleted => Some(GREEN),
        Status::TaskFailed => Some(RED),
        Status::TaskException => Some(PURPLE),
        Status::ArtifactCreated => Some(BLUE),
        Status::TaskDefined | Status::TaskPending | Status::TaskRunning => None,
    }
}

const BLUE: u8 = 2;
const GREEN: u8 = 3;
const RED: u8 = 4;
const PURPLE: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_line_is_parsed() {
        let line = |from: &str, command: &str, params: &[&str]| {
            let params = params.iter().map(|param| (*param).to_owned()).collect();
            Some(Line {
                from: from.to_owned(),
                command: command.to_owned(),
                params,
            })
        };
        for (text, expected) in [
            (
                "PING :irc.example.net",
                line("", "PING", &["irc.example.net"]),
            ),
            (
                ":ann!~a@host PRIVMSG #ci :a :b  c",
                line("ann", "PRIVMSG", &["#ci", "a :b  c"]),
            ),
            (
                ":irc.example.net 433 * bob :Nick in use",
                line("irc.example.net", "433", &["*", "bob", "Nick in use"]),
            ),
            (
                "@time=12:00;a=b :x  join   #ci",
                line("x", "JOIN", &["#ci"]),
            ),
            ("ERROR :", line("", "ERROR", &[""])),
            (":only", None),
            ("@tags", None),
            ("", None),
            ("   ", None),
        ] {
            assert_eq!(Line::read(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(
            Line::read(b"PRIVMSG a :\xff").unwrap().params[1],
            "\u{fffd}"
        );
    }

    #[test]
    fn foreign_text_never_starts_line() {
        for text in [
            "!op mallory",
            "/quit",
            "\u{1}DCC SEND x\u{1}",
            "limnoria: op mallory",
            "\u{202e}!op",
            ",05x",
        ] {
            for colour in [None, Some(RED)] {
                let line = privmsg("#ci", colour, (Some("limnoria"), "task-failed"), text).unwrap();
                let said = line
                    .strip_prefix("PRIVMSG #ci :limnoria: ")
                    .unwrap()
                    .trim_start_matches("\u{3}04");
                assert!(
                    said.starts_with("task-failed: ") && !said.contains(['\u{1}', '\u{202e}']),
                    "{line:?}"
                );
            }
        }
    }

    #[test]
    fn text_becomes_one_coloured_line_within_limit() {
        let line_to =
            |target, colour, text: &str| privmsg(target, colour, (None, "task-failed"), text);
        assert_eq!(
            line_to("#ci", Some(RED), "a\r\nQUIT :b\u{3}12").unwrap(),
            "PRIVMSG #ci :\u{3}04task-failed: a QUIT :b12\u{f}\r\n"
        );
        assert_eq!(
            line_to("ann", None, "5 tasks").unwrap(),
            "PRIVMSG ann :task-failed: 5 tasks\r\n"
        );
        assert_eq!(line_to("ann", Some(GREEN), "\u{1}\r\n"), None);
        let addressed = privmsg("#ci", Some(RED), (Some("ann, bob"), "task-failed"), "a").unwrap();
        assert_eq!(
            addressed,
            "PRIVMSG #ci :ann, bob: \u{3}04task-failed: a\u{f}\r\n"
        );
        let many = vec!["a".repeat(32); 50].join(", ");
        for letter in ["a", "ä", "✓", "🦊"] {
            let line = privmsg(
                "#ci",
                Some(RED),
                (Some(&many), "task-failed"),
                &letter.repeat(600),
            )
            .unwrap();
            assert!(
                line.contains(&format!("{}: \u{3}04task-failed: {letter}", "a".repeat(32))),
                "{line}"
            );
            assert!(
                (MAX_LINE - 7..=MAX_LINE).contains(&(MAX_PREFIX + line.len())),
                "{}",
                line.len()
            );
            let line = line_to("#ci", Some(RED), &letter.repeat(600)).unwrap();
            assert!(line.ends_with("…\u{f}\r\n"));
            assert!(
                (MAX_LINE - 7..=MAX_LINE).contains(&(MAX_PREFIX + line.len())),
                "{}",
                line.len()
            );
        }
    }
}
