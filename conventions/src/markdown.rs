//! The links and headings of a markdown page, as GitHub renders it.

use std::collections::BTreeSet;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

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
        let mut page = Self::default();
        let parser = Parser::new_ext(text, Options::ENABLE_TABLES);
        for (_, definition) in parser.reference_definitions().iter() {
            page.add_link(&text[..definition.span.start], &definition.dest);
        }
        let mut heading = None;
        for (event, range) in parser.into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let heading = heading.take().unwrap_or_default();
                    page.add_anchor(&anchor(&heading));
                }
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::Start(
                    Tag::Link {
                        link_type: LinkType::Inline,
                        dest_url,
                        ..
                    }
                    | Tag::Image {
                        link_type: LinkType::Inline,
                        dest_url,
                        ..
                    },
                ) => page.add_link(&text[..range.end], &dest_url),
                _ => {}
            }
        }
        page.links.sort_by_key(|link| link.line);
        page
    }

    /// Adds a link whose address follows the text `before`.
    fn add_link(&mut self, before: &str, target: &str) {
        self.links.push(Link {
            line: before.matches('\n').count() + 1,
            target: target.to_owned(),
        });
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
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '_' | '-' => Some(c),
            _ => c.is_alphanumeric().then_some(c),
        })
        .collect()
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
            let anchors = Page::read(&format!("# {heading}\n")).anchors;
            assert_eq!(anchors, BTreeSet::from([expected.to_owned()]));
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
