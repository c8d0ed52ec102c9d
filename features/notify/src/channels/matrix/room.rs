//! Names of rooms: <https://spec.matrix.org/v1.16/appendices/#identifier-grammar>.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The maximum length of a name in bytes, with its sigil and its server.
const MAX_NAME: usize = 255;

/// Whether it is the id of a room (`!opaque:server`; `!opaque` in rooms of version 12 and later) or an alias
/// (`#name:server`).
pub(in crate::channels) fn is_room(name: &str) -> bool {
    if name.len() > MAX_NAME {
        return false;
    }
    if let Some(id) = name.strip_prefix('!') {
        let (opaque, server) = id
            .split_once(':')
            .map_or((id, None), |(opaque, server)| (opaque, Some(server)));
        let is_opaque = !opaque.is_empty() && opaque.bytes().all(|byte| byte.is_ascii_graphic());
        return is_opaque && server.is_none_or(is_server);
    }
    let parts = name
        .strip_prefix('#')
        .and_then(|alias| alias.split_once(':'));
    parts.is_some_and(|(local, server)| {
        let is_local = !local.is_empty()
            && !local
                .chars()
                .any(|letter| letter.is_control() || letter.is_whitespace());
        is_local && is_server(server)
    })
}

/// Whether it is an alias, which the homeserver resolves to a room.
pub(super) fn is_alias(name: &str) -> bool {
    name.starts_with('#')
}

/// Whether it names a server: a host, and a port if it has one.
fn is_server(server: &str) -> bool {
    // The colons of an IPv6 address are between brackets.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (server, None),
    };
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
    };
    is_host(host) && port.is_none_or(is_port)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_name = |host: &str| {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    };
    host.parse::<Ipv4Addr>().is_ok() || (!host.is_empty() && is_name(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_distinguished_from_other_recipients() {
        let longest = format!("#{}:e.org", "x".repeat(MAX_NAME - 7));
        for name in [
            "!OEassajhhkasLULVAa:example.org",
            "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",
            "#releng:example.org",
            "#rel/eng?#x%20:example.org:8448",
            "#büro:1.2.3.4",
            "#a:[::1]:8448",
            "#a:[2001:db8::1]",
            &longest,
        ] {
            assert!(is_room(name), "{name}");
        }
        let too_long = format!("#{}:e.org", "x".repeat(MAX_NAME - 6));
        for name in [
            "",
            "#releng",
            "releng",
            "@ann:example.org",
            "$event:example.org",
            "#:example.org",
            "!:example.org",
            "!",
            "#a:",
            "#a b:example.org",
            "!a b:example.org",
            "!a\n:example.org",
            "#a:exa mple.org",
            "#a:example.org:",
            "#a:example.org:123456",
            "#a:example.org/x",
            "#a:[::1",
            "#a:[x]",
            "#a:ü.org",
            &too_long,
        ] {
            assert!(!is_room(name), "{name}");
        }
    }
}
