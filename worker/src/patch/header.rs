//! The header of a file in a patch: the lines between `diff --git` and the content.

use std::borrow::Cow;

use super::{Kind, Lines, Mode, Modes, RejectReason, Rules, is_content, names, refusal::stray};

#[derive(Default)]
pub(super) struct Header<'a> {
    added: bool,
    deleted: bool,
    old_mode: bool,
    new_mode: bool,
    modes: Modes,
    index: Option<[&'a [u8]; 2]>,
    renamed: [Option<Cow<'a, [u8]>>; 2],
    copied: [Option<Cow<'a, [u8]>>; 2],
}

impl<'a> Header<'a> {
    /// Reads the lines up to the content of the file, or to the next file.
    pub(super) fn read(rules: Rules, lines: &mut Lines<'a>) -> Result<Self, RejectReason> {
        let mut header = Self::default();
        while lines
            .peek()
            .is_some_and(|line| !line.is_empty() && !is_content(line))
        {
            header.read_line(rules, lines)?;
        }
        Ok(header)
    }

    /// The names of a rename or copy.
    pub(super) fn moved(&self) -> Option<[Cow<'a, [u8]>; 2]> {
        let both = |names: &[Option<Cow<'a, [u8]>>; 2]| match names {
            [Some(old), Some(new)] => Some([old.clone(), new.clone()]),
            _ => None,
        };
        both(&self.renamed).or_else(|| both(&self.copied))
    }

    /// Whether the file gets another mode.
    pub(super) fn changes_mode(&self) -> bool {
        self.new_mode
    }

    /// The modes that the header gives.
    pub(super) fn modes(&self) -> Modes {
        self.modes
    }

    /// The names of both objects in the line `index`, if they are whole.
    pub(super) fn index(&self) -> Option<[Vec<u8>; 2]> {
        let names = self.index?;
        let is_whole =
            |name: &[u8]| matches!(name.len(), 40 | 64) && name.iter().all(u8::is_ascii_hexdigit);
        names
            .into_iter()
            .all(is_whole)
            .then(|| names.map(<[u8]>::to_vec))
    }

    fn read_line(&mut self, rules: Rules, lines: &mut Lines<'a>) -> Result<(), RejectReason> {
        let Some(line) = lines.next() else {
            return Ok(());
        };
        let name_of = |text| {
            names::whole(text, rules).ok_or_else(|| lines.refuse("a name in quotes cannot be read"))
        };
        let (mut old, mut new) = (None, None);
        let fresh = if let Some(mode) = line.strip_prefix(b"new file mode ") {
            new = Some(mode);
            once(&mut self.added)
        } else if let Some(mode) = line.strip_prefix(b"deleted file mode ") {
            old = Some(mode);
            once(&mut self.deleted)
        } else if let Some(mode) = line.strip_prefix(b"old mode ") {
            old = Some(mode);
            once(&mut self.old_mode)
        } else if let Some(mode) = line.strip_prefix(b"new mode ") {
            new = Some(mode);
            once(&mut self.new_mode)
        } else if let Some(name) = line.strip_prefix(b"rename from ") {
            self.renamed[0].replace(name_of(name)?).is_none()
        } else if let Some(name) = line.strip_prefix(b"rename to ") {
            self.renamed[1].replace(name_of(name)?).is_none()
        } else if let Some(name) = line.strip_prefix(b"copy from ") {
            self.copied[0].replace(name_of(name)?).is_none()
        } else if let Some(name) = line.strip_prefix(b"copy to ") {
            self.copied[1].replace(name_of(name)?).is_none()
        } else if let Some(rest) = line.strip_prefix(b"index ") {
            let mut words = rest.split(|&byte| byte == b' ');
            self.index = words.next().and_then(object_names);
            old = words.next();
            true
        } else if line.starts_with(b"similarity index ")
            || line.starts_with(b"dissimilarity index ")
        {
            true
        } else {
            return Err(stray(line, rules, lines));
        };
        if !fresh {
            return Err(lines.refuse("its header says the same thing twice"));
        }
        for (mode, place) in [(old, &mut self.modes.old), (new, &mut self.modes.new)] {
            let Some(mode) = mode else { continue };
            match Mode::parse(mode) {
                Some(Mode::Submodule) if rules == Rules::Mercurial => {
                    return Err(lines.refuse("it is a git submodule, which Mercurial cannot hold"));
                }
                Some(Mode::Submodule) if rules == (Rules::Git { submodules: false }) => {
                    return Err(lines.refuse(
                        "it is a submodule, and builds of this repository may not change submodules",
                    ));
                }
                None => {
                    return Err(lines.refuse("its mode is neither a file's nor a symbolic link's"));
                }
                mode => *place = mode,
            }
        }
        Ok(())
    }

    /// The kind of the change. `None` if the header contradicts itself.
    pub(super) fn kind(&self, old: &[u8], new: &[u8]) -> Option<Kind> {
        let same = old == new;
        let source = || Some(old.to_vec());
        let moved = |names: &[Option<Cow<'_, [u8]>>; 2]| {
            names.each_ref().map(Option::as_deref) == [Some(old), Some(new)] && !same
        };
        let one = [
            self.added,
            self.deleted,
            self.renamed != [None, None],
            self.copied != [None, None],
        ];
        if self.old_mode != self.new_mode {
            return None;
        }
        match one {
            [true, false, false, false] => (same && !self.new_mode).then_some(Kind::Add),
            [false, true, false, false] => (same && !self.new_mode).then_some(Kind::Delete),
            [false, false, true, false] => {
                source().filter(|_| moved(&self.renamed)).map(Kind::Rename)
            }
            [false, false, false, true] => source().filter(|_| moved(&self.copied)).map(Kind::Copy),
            [false, false, false, false] => same.then_some(Kind::Modify),
            _ => None,
        }
    }
}

fn once(flag: &mut bool) -> bool {
    !std::mem::replace(flag, true)
}

/// The two names in `1234..5678`.
fn object_names(word: &[u8]) -> Option<[&[u8]; 2]> {
    let middle = word.windows(2).position(|window| window == b"..")?;
    Some([&word[..middle], &word[middle + 2..]])
}

/// The whole name of a file, if it contains ` b/`: [`names::split_last`] splits it in the wrong place, as Mercurial does.
pub(super) fn whole_name<'a>(
    old: &'a [u8],
    new: &'a [u8],
    header: &'a Header<'_>,
) -> Option<&'a [u8]> {
    // Without a rename the line has the same name twice.
    let twice = || {
        let line = [old, b" b/", new].concat();
        let length = (line.len() - 3) / 2;
        let is_twice = line[length..]
            .strip_prefix(b" b/")
            .is_some_and(|name| *name == line[..length]);
        old.get(..length).filter(|_| is_twice)
    };
    let name = header.renamed[1]
        .as_deref()
        .or(header.copied[1].as_deref())
        .or_else(twice);
    name.filter(|name| name.windows(3).any(|window| window == b" b/"))
}
