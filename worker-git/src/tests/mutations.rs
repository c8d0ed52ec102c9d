//! Ways to spoil a patch, most of which leave it readable.

use super::trees::{self, Random};

/// The lines of a patch, with their line breaks.
type Lines = Vec<Vec<u8>>;

pub(super) fn spoil(rng: &mut Random, patch: &[u8], other: &[u8]) -> Vec<u8> {
    let mut lines: Lines = patch
        .split_inclusive(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    for _ in 0..rng.usize(1..3) {
        match rng.u8(..24) {
            0..4 => shift(rng, &mut lines, true),
            4..6 => shift(rng, &mut lines, false),
            6..8 => change_line(rng, &mut lines),
            8..11 => cut_context(rng, &mut lines),
            11 => swap_hunks(rng, &mut lines),
            12 => drop_hunk(rng, &mut lines),
            13..15 => end_of_file(rng, &mut lines),
            15 => index(rng, &mut lines),
            16 => mode(rng, &mut lines),
            17 => sections(rng, &mut lines, other),
            18 => join_hunks_of(rng, &mut lines),
            19 => header(rng, &mut lines),
            20 => data(rng, &mut lines),
            21 => crlf(rng, &mut lines),
            _ => double_hunk(rng, &mut lines),
        }
    }
    lines.concat()
}

/// The patch as Git's reader needs it, where Phabricator may write another form, which our reader takes: with the lines
/// `new file mode` and `deleted file mode`, which plain `hg diff` leaves out; and without the names of unchanged files.
pub(super) fn for_git(patch: &[u8], mode_of: impl Fn(&[u8]) -> u32) -> Vec<u8> {
    let lines: Lines = patch
        .split_inclusive(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let (mut whole, mut header, mut at) = (Vec::new(), 0, 0);
    while at < lines.len() {
        let line = &lines[at];
        let next = lines.get(at + 1).map_or(&b""[..], |line| line);
        if line.starts_with(b"diff --git ") {
            header = whole.len();
            if next.is_empty() || next.starts_with(b"diff --git ") {
                at += 1;
                continue;
            }
        }
        let said = |what: &[u8]| {
            whole[header..]
                .iter()
                .any(|line: &Vec<u8>| line.starts_with(what))
        };
        if line.starts_with(b"--- /dev/null") && !said(b"new file mode") {
            whole.push(b"new file mode 100644\n".to_vec());
        } else if next.starts_with(b"+++ /dev/null")
            && let Some(name) = old_name(line)
            && !said(b"deleted file mode")
        {
            whole.push(format!("deleted file mode {:o}\n", mode_of(&name)).into_bytes());
        }
        let end = end_of(&lines, at);
        whole.extend_from_slice(&lines[at..end]);
        at = end;
    }
    whole.concat()
}

/// The name on a line `---`, which may stand in quotes.
fn old_name(line: &[u8]) -> Option<Vec<u8>> {
    let name = line.strip_prefix(b"--- ")?.trim_ascii_end();
    let Some(quoted) = name.strip_prefix(b"\"a/") else {
        return Some(name.strip_prefix(b"a/")?.to_vec());
    };
    let mut rest = quoted.strip_suffix(b"\"")?;
    let mut name = Vec::new();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, rest) {
            (b'\\', [a @ b'0'..=b'3', b, c, behind @ ..]) => {
                name.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = behind;
            }
            (b'\\', [escaped, behind @ ..]) => {
                name.push(*escaped);
                rest = behind;
            }
            _ => name.push(byte),
        }
    }
    Some(name)
}

fn some(rng: &mut Random, lines: &Lines, is: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let found: Vec<usize> = (0..lines.len()).filter(|&at| is(&lines[at])).collect();
    (!found.is_empty()).then(|| found[rng.usize(..found.len())])
}

fn is_head(line: &[u8]) -> bool {
    ranges(line).is_some()
}

/// The four numbers of a head, and what follows them.
fn ranges(line: &[u8]) -> Option<([i64; 4], Vec<u8>)> {
    let rest = line.strip_prefix(b"@@ -")?;
    let end = memchr::memmem::find(rest, b" @@")?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    let (old, new) = text.split_once(" +")?;
    let range = |text: &str| {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        Some([start.parse().ok()?, count.parse().ok()?])
    };
    let ([a, b], [c, d]) = (range(old)?, range(new)?);
    Some(([a, b, c, d], rest[end..].to_vec()))
}

fn head([a, b, c, d]: [i64; 4], rest: &[u8]) -> Vec<u8> {
    let [a, c] = [a.max(0), c.max(0)];
    [format!("@@ -{a},{b} +{c},{d}").as_bytes(), rest].concat()
}

/// The lines behind a head up to the end of its hunk.
fn end_of(lines: &Lines, at: usize) -> usize {
    let Some(([_, mut old, _, mut new], _)) = ranges(&lines[at]) else {
        return at + 1;
    };
    let mut end = at + 1;
    while end < lines.len() && (old > 0 || new > 0) {
        match lines[end].first() {
            Some(b'-') => old -= 1,
            Some(b'+') => new -= 1,
            Some(b'\\') => {}
            _ => (old, new) = (old - 1, new - 1),
        }
        end += 1;
    }
    if lines.get(end).is_some_and(|line| line.starts_with(b"\\")) {
        end += 1;
    }
    end
}

/// Moves the lines that hunks name.
fn shift(rng: &mut Random, lines: &mut Lines, all: bool) {
    let by = i64::from(rng.i8(-12..13));
    let sides = rng.u8(1..4);
    let one = some(rng, lines, is_head);
    for (at, line) in lines.iter_mut().enumerate() {
        if (all || Some(at) == one)
            && let Some(([a, b, c, d], rest)) = ranges(line)
        {
            let old = if sides & 1 == 1 { a + by } else { a };
            let new = if sides & 2 == 2 { c + by } else { c };
            *line = head([old, b, new, d], &rest);
        }
    }
}

fn change_line(rng: &mut Random, lines: &mut Lines) {
    if let Some(at) = some(rng, lines, |line| {
        line.starts_with(b" ") || line.starts_with(b"-")
    }) {
        let sign = lines[at][0];
        lines[at] = [&[sign], trees::line(rng).as_slice(), b"\n"].concat();
    }
}

/// Removes lines of context at the beginning or the end of a hunk.
fn cut_context(rng: &mut Random, lines: &mut Lines) {
    let Some(at) = some(rng, lines, is_head) else {
        return;
    };
    let ([mut a, mut b, mut c, mut d], rest) = ranges(&lines[at]).unwrap();
    let first = rng.bool();
    for _ in 0..rng.usize(1..5) {
        let end = end_of(lines, at);
        let line = if first { at + 1 } else { end - 1 };
        if !lines.get(line).is_some_and(|line| line.starts_with(b" ")) {
            break;
        }
        lines.remove(line);
        (b, d) = (b - 1, d - 1);
        if first {
            (a, c) = (a + 1, c + 1);
        }
        lines[at] = head([a, b, c, d], &rest);
    }
}

fn hunk(rng: &mut Random, lines: &Lines) -> Option<(usize, usize)> {
    let at = some(rng, lines, is_head)?;
    Some((at, end_of(lines, at)))
}

fn swap_hunks(rng: &mut Random, lines: &mut Lines) {
    if let Some((at, end)) = hunk(rng, lines)
        && lines.get(end).is_some_and(|line| is_head(line))
    {
        let next = end_of(lines, end);
        lines[at..next].rotate_left(end - at);
    }
}

fn drop_hunk(rng: &mut Random, lines: &mut Lines) {
    if let Some((at, end)) = hunk(rng, lines)
        && lines.get(end).is_some_and(|line| is_head(line))
    {
        lines.drain(at..end);
    }
}

fn double_hunk(rng: &mut Random, lines: &mut Lines) {
    if let Some((at, end)) = hunk(rng, lines) {
        let hunk = lines[at..end].to_vec();
        lines.splice(end..end, hunk);
    }
}

/// Puts the hunk of a file behind those of another one.
fn join_hunks_of(rng: &mut Random, lines: &mut Lines) {
    if let Some((at, end)) = hunk(rng, lines)
        && let Some((_, other)) = hunk(rng, lines)
    {
        let hunk = lines[at..end].to_vec();
        lines.splice(other..other, hunk);
    }
}

fn end_of_file(rng: &mut Random, lines: &mut Lines) {
    let mark = b"\\ No newline at end of file\n";
    if let Some(at) = some(rng, lines, |line| line == mark)
        && rng.bool()
    {
        lines.remove(at);
    } else if let Some((at, end)) = hunk(rng, lines) {
        let at = if rng.bool() {
            end
        } else {
            rng.usize(at + 1..=end)
        };
        lines.insert(at, mark.to_vec());
    }
}

fn index(rng: &mut Random, lines: &mut Lines) {
    let Some(at) = some(rng, lines, |line| line.starts_with(b"index ")) else {
        return;
    };
    match rng.u8(..3) {
        0 => _ = lines.remove(at),
        1 => {
            let line = String::from_utf8_lossy(&lines[at]).into_owned();
            let short = line.get(6..13).zip(line.get(48..55));
            if let Some((old, new)) = short {
                let mode = line.get(88..).unwrap_or("\n");
                lines[at] = format!("index {old}..{new}{mode}").into_bytes();
            }
        }
        _ => {
            let digit = rng.usize(6..lines[at].len().min(88));
            lines[at][digit] = b"0123456789abcdef"[rng.usize(..16)];
        }
    }
}

fn mode(rng: &mut Random, lines: &mut Lines) {
    let modes = ["100644", "100755", "120000", "160000", "100664", "100700"];
    let known = |line: &[u8]| {
        modes
            .iter()
            .any(|mode| line.trim_ascii_end().ends_with(mode.as_bytes()))
    };
    let Some(at) = some(rng, lines, |line| known(line) && !b" +-".contains(&line[0])) else {
        return;
    };
    let line = &mut lines[at];
    let end = line.len().saturating_sub(7);
    line.splice(end..end + 6, modes[rng.usize(..modes.len())].bytes());
    if rng.u8(..4) == 0 {
        lines.remove(at);
    }
}

/// Removes, moves or doubles the part about a file, or adds one of another patch.
fn sections(rng: &mut Random, lines: &mut Lines, other: &[u8]) {
    let parts = |lines: &[Vec<u8>]| -> Vec<Lines> {
        let mut parts = Vec::<Lines>::new();
        for line in lines {
            match parts.last_mut() {
                Some(part) if !line.starts_with(b"diff --git ") => part.push(line.clone()),
                _ => parts.push(vec![line.clone()]),
            }
        }
        parts
    };
    let mut own = parts(lines);
    let other: Lines = other
        .split_inclusive(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let foreign = parts(&other);
    match rng.u8(..4) {
        0 if own.len() > 1 => _ = own.remove(rng.usize(..own.len())),
        1 => rng.shuffle(&mut own),
        2 if !own.is_empty() => own.push(own[rng.usize(..own.len())].clone()),
        _ if !foreign.is_empty() => own.push(foreign[rng.usize(..foreign.len())].clone()),
        _ => {}
    }
    *lines = own.concat();
}

/// Removes or changes a line of a header.
fn header(rng: &mut Random, lines: &mut Lines) {
    let starts: [&[u8]; 8] = [
        b"similarity ",
        b"rename ",
        b"copy ",
        b"new file ",
        b"deleted file ",
        b"old mode ",
        b"new mode ",
        b"index ",
    ];
    let Some(at) = some(rng, lines, |line| {
        starts.iter().any(|start| line.starts_with(start))
    }) else {
        return;
    };
    if rng.bool() {
        lines.remove(at);
        return;
    }
    for line in lines {
        let swapped = [(&b"rename "[..], &b"copy "[..]), (b"copy ", b"rename ")];
        if let Some((from, to)) = swapped.iter().find(|(from, _)| line.starts_with(from)) {
            line.splice(..from.len(), to.iter().copied());
        }
    }
}

/// Changes a byte of binary data.
fn data(rng: &mut Random, lines: &mut Lines) {
    if let Some(at) = some(rng, lines, |line| {
        line.len() % 5 == 2 && line.len() > 6 && line[0].is_ascii_alphabetic()
    }) {
        let digit = rng.usize(1..lines[at].len() - 1);
        lines[at][digit] = b"0123456789abcdef"[rng.usize(..16)];
    }
}

/// Gives the lines of a hunk other line endings.
fn crlf(rng: &mut Random, lines: &mut Lines) {
    let Some((at, end)) = hunk(rng, lines) else {
        return;
    };
    for line in &mut lines[at + 1..end] {
        if line.starts_with(b"\\") {
            continue;
        }
        match line.ends_with(b"\r\n") {
            true => _ = line.remove(line.len() - 2),
            false if line.ends_with(b"\n") => line.insert(line.len() - 1, b'\r'),
            false => {}
        }
    }
}
