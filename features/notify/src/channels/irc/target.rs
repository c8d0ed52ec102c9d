//! Names of channels and nicks. They are foreign text, and are written into lines in which a space or a comma separates
//! parameters. So only names of IRC's grammar are accepted (RFC 2812, section 2.3.1).

use std::fmt;

/// The maximum length of the name of a channel, in bytes. RFC 2812 allows 50, some servers more.
const MAX_CHANNEL: usize = 64;
/// The maximum length of a nick, in bytes. RFC 2812 allows 9, today's servers some 30.
const MAX_NICK: usize = 32;
/// The prefix of a nick that would be read as a channel. With the space in it, the name is neither.
const NICK: &str = "nick ";

/// The recipient of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The users of a channel.
    Channel(String),
    /// One user.
    Nick(String),
}

impl Target {
    /// The target that a recipient names, or the fault of the name.
    pub(super) fn parse(name: &str) -> Result<Self, &'static str> {
        if is_channel(name) {
            return Ok(Self::Channel(name.to_owned()));
        }
        if !is_nick(name) {
            return Err("it is neither the name of a channel nor a nick");
        }
        // Services run commands in messages to them, so they would run those in the text of a task.
        if name.to_ascii_lowercase().ends_with("serv") {
            return Err("it is the nick of a service, which would run the text as a command");
        }
        Ok(Self::Nick(name.to_owned()))
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Channel(name) | Self::Nick(name) => name,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A channel as a recipient. A section may leave out its `#`.
pub(super) fn channel(name: &str) -> String {
    if begins_channel(name) {
        name.to_owned()
    } else {
        format!("#{name}")
    }
}

/// A nick as a recipient. A nick that begins like a channel gets no line, but a dead letter that names it.
pub(super) fn nick(name: &str) -> String {
    if begins_channel(name) {
        format!("{NICK}{name}")
    } else {
        name.to_owned()
    }
}

/// A channel as a recipient whose lines address these nicks: `#ci (ann, bob)`. No name of a channel has a space.
pub(super) fn addressing(channel: &str, nicks: &[String]) -> String {
    if nicks.is_empty() {
        channel.to_owned()
    } else {
        format!("{channel} ({})", nicks.join(", "))
    }
}

/// The channel or nick of a recipient.
pub(super) fn place(recipient: &str) -> &str {
    split(recipient).map_or(recipient, |(place, _)| place)
}

/// The nicks that a recipient's lines address, separated by commas.
pub(super) fn addressed(recipient: &str) -> Option<&str> {
    split(recipient).map(|(_, nicks)| nicks)
}

fn split(recipient: &str) -> Option<(&str, &str)> {
    let (place, nicks) = recipient.strip_suffix(')')?.split_once(" (")?;
    (is_channel(place) && nicks.split(", ").all(is_nick)).then_some((place, nicks))
}

/// Whether the server sees two names as the same. For some servers, `[]\` equal `{}|` too: they get another JOIN, which they
/// ignore.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn begins_channel(name: &str) -> bool {
    name.starts_with(['#', '&'])
}

/// Whether it is the name of a channel. The kinds `+` and `!` are not supported: before a `#`, some servers read `+` as "its
/// users with voice".
pub(super) fn is_channel(name: &str) -> bool {
    let bad = |character: char| matches!(character, ' ' | ',' | ':') || character.is_control();
    begins_channel(name) && (2..=MAX_CHANNEL).contains(&name.len()) && !name.contains(bad)
}

pub(super) fn is_nick(name: &str) -> bool {
    let special = |byte: u8| {
        matches!(
            byte,
            b'[' | b']' | b'\\' | b'`' | b'_' | b'^' | b'{' | b'|' | b'}'
        )
    };
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || special(byte));
    let rest = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || special(byte) || byte == b'-');
    first && rest && name.len() <= MAX_NICK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_channel_nick_or_invalid() {
        for name in ["#ci", "&local", "##rust", "#a.b-c_d", "#straße", "#0"] {
            assert_eq!(Target::parse(name), Ok(Target::Channel(name.to_owned())));
        }
        for name in ["ann", "[ann]", "a-1", "_x|away", "observer"] {
            assert_eq!(Target::parse(name), Ok(Target::Nick(name.to_owned())));
        }
        for name in [
            "",
            "#",
            "x PRIVMSG #other :hi",
            "a,b",
            "#a,#b",
            "#a key",
            "#a:b",
            "#a\u{7}",
            "1ann",
            "-x",
            "ann!user@host",
            "ann@host",
            "$*.example.com",
            "+#ci",
            "@#ci",
            "änn",
            ":ann",
            "*",
            "a\r\nQUIT",
            "NickServ",
            "chanserv",
        ] {
            assert!(Target::parse(name).is_err(), "{name:?}");
        }
        for long in [format!("#{}", "a".repeat(64)), "a".repeat(33)] {
            assert!(Target::parse(&long).is_err());
        }
    }

    #[test]
    fn nicks_are_addressed_in_channels_only() {
        let nicks = ["ann".to_owned(), "[bob]".to_owned()];
        let recipient = addressing("#ci", &nicks);
        assert_eq!(recipient, "#ci (ann, [bob])");
        assert_eq!(
            (place(&recipient), addressed(&recipient)),
            ("#ci", Some("ann, [bob]"))
        );
        assert_eq!(
            (
                addressing("#ci", &[]).as_str(),
                place("#ci"),
                addressed("#ci")
            ),
            ("#ci", "#ci", None)
        );
        for other in [
            "ann (bob)",
            "#ci (a b)",
            "#ci ()",
            "#ci (ann",
            "#a b (ann)",
            "#ci (ann) (bob)",
        ] {
            assert_eq!((place(other), addressed(other)), (other, None));
        }
    }

    #[test]
    fn channel_among_nicks_is_ignored() {
        assert_eq!(
            (channel("ci"), channel("#ci"), channel("&ci")),
            ("#ci".into(), "#ci".into(), "&ci".into())
        );
        assert_eq!(nick("ann"), "ann");
        assert!(Target::parse(&nick("#ci")).is_err());
    }
}
