//! The links and headings of a markdown page, as GitHub renders it.

use std::collections::BTreeSet;

/// What other pages can lead to, and what this one leads to.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) links: Vec<Link>,
    /// Of the headings.
    pub(crate) anchors: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// From 1 on.
    pub(crate) line: usize,
    pub(crate) target: String,
}

impl Page {
    pub(crate) fn read(text: &str) -> Self {
        let text = without_blocks(text);
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(heading) = heading(line) {
                page.add_anchor(&anchor(heading));
            }
        }
        let text = without_spans(&text);
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            page.links.extend(targets(line).map(|target| Link {
                line: line_number,
                target: target.to_owned(),
            }));
        }
        page
    }

    /// A heading whose anchor is there already gets a number.
    fn add_anchor(&mut self, anchor: &str) {
        let mut own = anchor.to_owned();
        let mut number = 0;
        while !self.anchors.insert(own) {
            number += 1;
            own = format!("{anchor}-{number}");
        }
    }
}

/// The anchor of a heading: its letters, digits, `_` and `-` in lower case, and `-` for each space.
fn anchor(heading: &str) -> String {
    let mut text = heading.to_owned();
    // Of a link only the text counts.
    while let Some((before, rest)) = text.split_once("](") {
        let after = rest.split_once(')').map_or("", |(_, after)| after);
        text = format!("{before}{after}");
    }
    text.trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '_' | '-' => Some(c),
            _ => c.is_alphanumeric().then_some(c),
        })
        .collect()
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    let text = text.strip_prefix(' ')?;
    (1..=6)
        .contains(&level)
        .then(|| text.trim().trim_end_matches('#'))
}

/// The text with empty lines in the place of fenced blocks of code.
fn without_blocks(text: &str) -> String {
    let mut fence = None;
    let mut kept = String::new();
    for line in text.lines() {
        let start = line.trim_start();
        let length = start.len() - start.trim_start_matches('`').len();
        match fence {
            None if length >= 3 => fence = Some(length),
            None => kept.push_str(line),
            Some(open) if length >= open && start.trim_end().len() == length => fence = None,
            Some(_) => {}
        }
        kept.push('\n');
    }
    kept
}

/// The text with spaces in the place of code within a paragraph. A span ends with as many backticks as it begins with.
fn without_spans(text: &str) -> String {
    let mut paragraphs = text.split("\n\n").map(|paragraph| {
        let mut kept = String::new();
        let mut rest = paragraph;
        while let Some(at) = rest.find('`') {
            let (before, code) = rest.split_at(at);
            kept.push_str(before);
            let length = code.len() - code.trim_start_matches('`').len();
            let (ticks, inner) = code.split_at(length);
            match end_of_span(inner, length) {
                Some(end) => {
                    let blank = |c| if c == '\n' { '\n' } else { ' ' };
                    kept.extend(inner[..end].chars().map(blank));
                    rest = &inner[end + length..];
                }
                None => {
                    kept.push_str(ticks);
                    rest = inner;
                }
            }
        }
        kept + rest
    });
    let first = paragraphs.next().unwrap_or_default();
    paragraphs.fold(first, |text, paragraph| text + "\n\n" + &paragraph)
}

/// Where the first run of exactly `length` backticks begins.
fn end_of_span(text: &str, length: usize) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].find('`') {
        let begin = from + at;
        let run = text[begin..].len() - text[begin..].trim_start_matches('`').len();
        if run == length {
            return Some(begin);
        }
        from = begin + run;
    }
    None
}

/// The targets of the links whose addresses are in this line: `[text](target)`, and `[name]: target`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        target.split_whitespace().next()
    });
    let defined = line
        .starts_with('[')
        .then(|| line.split_once("]: "))
        .flatten();
    let defined = defined.and_then(|(_, target)| target.split_whitespace().next());
    inline.chain(defined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_follow_the_text_of_headings() {
        for (heading, expected) in [
            ("The `log_collect` channel", "the-log_collect-channel"),
            ("Queues, and dead letters", "queues-and-dead-letters"),
            ("What is it?", "what-is-it"),
            ("See [the bus](bus.md#x) here", "see-the-bus-here"),
            ("A - B", "a---b"),
        ] {
            assert_eq!(anchor(heading), expected);
        }
        let page = Page::read("# One\n\n## Two\n\n## Two ##\n\n```sh\n# Three\n```\n\n#none\n");
        let anchors: Vec<_> = page.anchors.iter().map(String::as_str).collect();
        assert_eq!(anchors, ["one", "two", "two-1"]);
    }

    #[test]
    fn links_are_found_outside_of_code() {
        let text = "[a](a.md) and [`b`](b.md \"title\") `[c](c.md)` ![d](d.png)\n\n````text\n```\n[e](e.md)\n````\n\
                    `one\ntwo` [f](f.md)\n\n[g]: g.md\n\nan odd ` and\n\n[h](h.md) `` ` [i](i.md) ``\n";
        let links = Page::read(text).links;
        let links: Vec<_> = links
            .iter()
            .map(|link| (link.line, link.target.as_str()))
            .collect();
        assert_eq!(
            links,
            [
                (1, "a.md"),
                (1, "b.md"),
                (1, "d.png"),
                (8, "f.md"),
                (10, "g.md"),
                (14, "h.md"),
            ]
        );
    }
}
