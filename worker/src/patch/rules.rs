//! The differences between version controls in what a patch may hold, and how it is read.

/// The rules by which a patch is read: those of the version control that gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Mercurial's rules.
    Mercurial,
    /// Git's rules.
    Git {
        /// Whether a patch may change submodules.
        submodules: bool,
    },
}

/// The mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A plain file: 100644.
    File,
    /// A file that can be executed: 100755.
    Executable,
    /// A symbolic link: 120000.
    SymbolicLink,
    /// A link to a commit of another repository: 160000.
    Submodule,
}

impl Mode {
    /// Reads six octal digits. Git keeps one bit of a file's permissions, the one that lets its owner execute it.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"120000" => Some(Self::SymbolicLink),
            b"160000" => Some(Self::Submodule),
            [
                b'1',
                b'0',
                b'0',
                owner @ b'0'..=b'7',
                b'0'..=b'7',
                b'0'..=b'7',
            ] => Some(if owner & 1 == 1 {
                Self::Executable
            } else {
                Self::File
            }),
            _ => None,
        }
    }
}

/// The modes of a file before and after a change, as far as the patch gives them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// The mode before. `None` where the file does not exist, or where the patch does not say.
    pub old: Option<Mode>,
    /// The mode after. `None` where the file keeps the mode that it has, or does not exist. A new file without a mode
    /// is a plain file.
    pub new: Option<Mode>,
}
