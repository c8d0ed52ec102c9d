//! The limits of a stack, while its patches are read.

use super::{RejectReason, refusal::SPLIT};
use crate::{Limits, Size};

/// The rest of a stack's limits, while its patches are read one after another.
#[derive(Debug)]
pub struct Budget {
    /// The bytes left for unpacked binary files, and for those that they replace.
    binary: u64,
    binary_allowed: u64,
    /// The largest of these files, and its size in bytes.
    largest: (Vec<u8>, u64),
    /// The lines left for hunks.
    lines: usize,
    lines_allowed: usize,
}

impl Budget {
    /// A budget with all of the limits left.
    pub fn new(limits: &Limits) -> Self {
        Self {
            binary: limits.stack_bytes,
            binary_allowed: limits.stack_bytes,
            largest: (Vec::new(), 0),
            lines: limits.lines,
            lines_allowed: limits.lines,
        }
    }

    /// A budget without limits, for a patch that has been checked.
    pub(super) fn unlimited() -> Self {
        Self {
            binary: u64::MAX,
            binary_allowed: u64::MAX,
            largest: (Vec::new(), 0),
            lines: usize::MAX,
            lines_allowed: usize::MAX,
        }
    }

    /// Takes `size` bytes off the budget: the unpacked size of the binary file `path`, or of the file that it replaces.
    pub(super) fn spend_binary(&mut self, path: &[u8], size: u64) -> Result<(), RejectReason> {
        if size > self.largest.1 {
            self.largest = (path.to_vec(), size);
        }
        self.binary = self.binary.checked_sub(size).ok_or_else(|| {
            let (path, size) = &self.largest;
            let (size, allowed) = (Size(*size), Size(self.binary_allowed));
            let reason = format!(
                "it has {size} when it is unpacked, and all binary files of the stack have more than {allowed}; it is \
                 the largest of them"
            );
            RejectReason::without_line(reason).about(path)
        })?;
        Ok(())
    }

    /// Takes the lines of hunks off the budget.
    pub(super) fn spend_lines(&mut self, count: usize) -> Result<(), RejectReason> {
        let allowed = self.lines_allowed;
        self.lines = self.lines.checked_sub(count).ok_or_else(|| {
            let reason =
                format!("the hunks of the stack have more than {allowed} lines up to here");
            RejectReason::without_line(reason).advise(SPLIT)
        })?;
        Ok(())
    }
}
