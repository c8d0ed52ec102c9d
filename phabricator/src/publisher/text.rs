//! The words that authors read, as units of a build target.
//!
//! They are remarkup. What comes from outside goes into a code block (every line indented by two spaces: the block ends
//! only at a line that is not, so nothing in it can end it) or onto one line.

use crate::{
    api::{Unit, UnitResult},
    model::{Blame, PatchFailure, Pushed},
};

const NAMESPACE: &str = "code-review";
/// The unit for what Mercurial said.
const MERCURIAL: &str = "mercurial";
/// The unit for all else.
const GENERAL: &str = "general";

/// The most bytes of a tool's text that are shown: half from its beginning, half from its end.
const MAX_TOOL_TEXT: usize = 8000;
/// The most bytes of a sentence.
const MAX_SENTENCE: usize = 1000;
/// The most bytes of a name within a sentence.
const MAX_NAME: usize = 100;

/// The stack was applied on something else than its author's base.
pub(super) fn unsound(pushed: &Pushed) -> Option<Unit> {
    let wanted = pushed.base.instead_of.as_deref()?;
    let details = format!(
        "The patch was made on revision {}, which is not used here: it was applied on revision {} instead. \
         Results can differ from what you see at home.",
        inline_code(wanted),
        inline_code(&pushed.base.used)
    );
    Some(unit(MERCURIAL, UnitResult::Unsound, None, details))
}

/// The patch cannot be built.
pub(super) fn patch_failed(failure: &PatchFailure) -> Unit {
    let parts = [sentence(&failure.summary), code_block(&failure.details), sentence(&failure.advice)];
    unit(MERCURIAL, UnitResult::Fail, Some(failure.seconds), paragraphs(&parts))
}

/// We failed.
pub(super) fn broken(blame: &Blame) -> Unit {
    let parts = [
        format!("This is not your patch's fault. {}", sentence(&blame.summary)),
        code_block(&blame.details),
        "The operators of this service have been told. When it works again, restart the build to have it built."
            .to_owned(),
    ];
    unit(GENERAL, UnitResult::Broken, Some(blame.seconds), paragraphs(&parts))
}

/// There is nothing to do.
pub(super) fn neutral(reason: &str) -> Unit {
    unit(GENERAL, UnitResult::Skip, None, sentence(reason))
}

/// The revision is private.
pub(super) fn withheld() -> Unit {
    unit(GENERAL, UnitResult::Skip, None, "This is a private revision, it is not built.".to_owned())
}

fn unit(name: &'static str, result: UnitResult, seconds: Option<f64>, details: String) -> Unit {
    // JSON writes a number that is not finite as null, and the server refuses that.
    let duration = seconds.filter(|seconds| seconds.is_finite());
    Unit { namespace: NAMESPACE, name, result, format: "remarkup", duration, details }
}

fn paragraphs(parts: &[String]) -> String {
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

/// `text` on one line and of a sane length.
fn sentence(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    if line.len() <= MAX_SENTENCE { line } else { format!("{}…", &line[..line.floor_char_boundary(MAX_SENTENCE)]) }
}

/// `text` as a name within a sentence.
fn inline_code(text: &str) -> String {
    let plain: String = text.chars().filter(|c| *c != '`' && !c.is_control()).collect();
    format!("`{}`", &plain[..plain.floor_char_boundary(MAX_NAME)])
}

/// `text` as a code block; nothing when there is no text.
fn code_block(text: &str) -> String {
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
    format!("{}\n… {} bytes left out …\n{}", &text[..head], tail - head, text[tail..].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BaseChoice;

    #[test]
    fn a_patch_that_does_not_apply() {
        let unit = patch_failed(&PatchFailure {
            summary: "The patch of D12 (diff 34) does not apply on 1234567890ab.".to_owned(),
            details: "patching file a.txt\nHunk #1 FAILED at 3\n\nabort: patch failed to apply\n".to_owned(),
            advice: "Rebase it: `hg rebase -d central`.".to_owned(),
            seconds: 1.5,
        });
        assert_eq!((unit.name, unit.result, unit.duration), ("mercurial", UnitResult::Fail, Some(1.5)));
        assert_eq!(
            unit.details,
            "The patch of D12 (diff 34) does not apply on 1234567890ab.\n\
             \n\
             \x20 lang=text\n\
             \x20 patching file a.txt\n\
             \x20 Hunk #1 FAILED at 3\n\
             \x20 \n\
             \x20 abort: patch failed to apply\n\
             \n\
             Rebase it: `hg rebase -d central`."
        );
    }

    #[test]
    fn our_own_failure() {
        let unit = broken(&Blame {
            summary: "Try could not be reached.".to_owned(),
            details: String::new(),
            seconds: f64::NAN,
        });
        assert_eq!((unit.name, unit.result, unit.duration), ("general", UnitResult::Broken, None));
        assert_eq!(
            unit.details,
            "This is not your patch's fault. Try could not be reached.\n\
             \n\
             The operators of this service have been told. When it works again, restart the build to have it built."
        );
    }

    #[test]
    fn another_base() {
        let pushed = |instead_of: Option<&str>| Pushed {
            revision: "a".repeat(40),
            treeherder_url: "https://treeherder.example/".to_owned(),
            patches: 1,
            base: BaseChoice { used: "b".repeat(40), instead_of: instead_of.map(str::to_owned) },
            seconds: 1.0,
        };
        assert_eq!(unsound(&pushed(None)), None);
        let unit = unsound(&pushed(Some("`{F1}`\n= head"))).unwrap();
        assert_eq!((unit.name, unit.result), ("mercurial", UnitResult::Unsound));
        assert_eq!(
            unit.details,
            "The patch was made on revision `{F1}= head`, which is not used here: it was applied on revision \
             `bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb` instead. Results can differ from what you see at home."
        );
    }

    #[test]
    fn nothing_breaks_out_of_a_code_block_or_a_line() {
        for hostile in [
            "```\n= Heading\n```",
            "lang=php, name=x\ntext",
            "a\r= Heading\r\n= Heading",
            "%%%\nD1 @alice {F1}\n%%%",
            "a\u{0}b\u{b}c\u{85}d\n\n\nlast",
        ] {
            let block = code_block(hostile);
            assert!(block.split('\n').all(|line| line.starts_with("  ")), "{block:?}");
            assert!(block.starts_with("  lang=text\n"), "{block:?}");
            assert!(!block.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{block:?}");
            assert!(!sentence(hostile).contains(char::is_control), "{hostile:?}");
        }
    }

    #[test]
    fn long_texts_keep_their_beginning_and_end_and_no_half_letter() {
        let text = format!("first {} last", "ü".repeat(MAX_TOOL_TEXT));
        let block = code_block(&text);
        assert!(block.len() < MAX_TOOL_TEXT + 100, "{}", block.len());
        assert!(block.starts_with("  lang=text\n  first ü") && block.ends_with("ü last"));
        assert!(sentence(&"ü".repeat(MAX_SENTENCE)).len() <= MAX_SENTENCE + '…'.len_utf8());
    }
}
