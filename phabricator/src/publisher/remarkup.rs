//! Quotes foreign text in Phabricator's markup.
//!
//! Foreign text goes into a code block, or as a name into back quotes on one line. In a code block each line is indented by
//! two spaces. The block ends at the first line that is not, so the text cannot end it.

/// The most bytes of a tool's text that are shown: half from its beginning, half from its end.
const MAX_TOOL_TEXT: usize = 8000;
/// The most bytes of our own words in one paragraph.
const MAX_SENTENCE: usize = 1000;
/// The most bytes of a name within a sentence.
const MAX_NAME: usize = 100;

/// Joins the parts that are not empty as paragraphs.
pub(super) fn paragraphs(parts: &[String]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("\n\n")
}

/// `text` on one line of at most [`MAX_SENTENCE`] bytes and an ellipsis.
pub(super) fn sentence(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    let line = words.join(" ");
    if line.len() <= MAX_SENTENCE {
        line
    } else {
        format!("{}…", &line[..line.floor_char_boundary(MAX_SENTENCE)])
    }
}

/// `text` in back quotes, for a name within a sentence.
pub(super) fn inline_code(text: &str) -> String {
    let plain: String = text
        .chars()
        .filter(|c| *c != '`' && !c.is_control())
        .collect();
    format!("`{}`", &plain[..plain.floor_char_boundary(MAX_NAME)])
}

/// `text` as a code block; empty when the text is blank.
pub(super) fn code_block(text: &str) -> String {
    if text.trim().is_empty() {
        return String::new();
    }
    let text = shortened(text);
    // The first line names the language. Without it, a first line of the text could set the block's options.
    let mut block = "  lang=text".to_owned();
    // A carriage return would begin a new line, which is not indented.
    for line in text.replace("\r\n", "\n").split(['\n', '\r']) {
        block.push_str("\n  ");
        block.extend(line.chars().filter(|c| *c == '\t' || !c.is_control()));
    }
    block
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_TOOL_TEXT {
        return text.trim_end().to_owned();
    }
    let head = text.floor_char_boundary(MAX_TOOL_TEXT / 2);
    let tail = text.ceil_char_boundary(text.len() - MAX_TOOL_TEXT / 2);
    format!(
        "{}\n… {} bytes left out …\n{}",
        &text[..head],
        tail - head,
        text[tail..].trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_in_its_code_block_or_line() {
        for hostile in [
            "```\n= Heading\n```",
            "lang=php, name=x\ntext",
            "a\r= Heading\r\n= Heading",
            "%%%\nD1 @alice {F1}\n%%%",
            "a\u{0}b\u{b}c\u{85}d\n\n\nlast",
        ] {
            let block = code_block(hostile);
            assert!(
                block.split('\n').all(|line| line.starts_with("  ")),
                "{block:?}"
            );
            assert!(block.starts_with("  lang=text\n"), "{block:?}");
            assert!(
                !block.contains(|c: char| c.is_control() && c != '\n' && c != '\t'),
                "{block:?}"
            );
            assert!(!sentence(hostile).contains(char::is_control), "{hostile:?}");
            let name = inline_code(hostile);
            assert!(!name.contains(char::is_control), "{name:?}");
            assert_eq!(name.matches('`').count(), 2, "{name:?}");
        }
    }

    #[test]
    fn long_text_is_cut_in_the_middle_and_between_characters() {
        let text = format!("first {} last", "ü".repeat(MAX_TOOL_TEXT));
        let block = code_block(&text);
        assert!(block.len() < MAX_TOOL_TEXT + 100, "{}", block.len());
        assert!(block.starts_with("  lang=text\n  first ü") && block.ends_with("ü last"));
        assert!(sentence(&"ü".repeat(MAX_SENTENCE)).len() <= MAX_SENTENCE + '…'.len_utf8());
    }
}
