//! Unmaps program code that is not in use.
//!
//! Linux maps code as it runs, with some 64 kB around each place, and counts it as resident until memory is short. Most of
//! the code that an idle process has run belongs to its start: command line, configuration, certificates, connections. So
//! the process unmaps its code every ten seconds. The pages stay in the page cache, which all processes share: code that
//! runs again is mapped again without reading the disk.

use std::{ffi::c_void, fs, ptr::NonNull, time::Duration};

use nix::sys::mman::{MmapAdvise, madvise};

/// The time between two calls of [`unmap_code`]. Mapping again what an idle process runs takes less than a millisecond.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// Unmaps all code of this process. A failure costs memory, nothing else.
pub(crate) fn unmap_code() {
    for (start, length) in mapped_code() {
        // SAFETY: the mapping is private, comes from a file and cannot be written, and code has no relocations. So its pages
        // equal the file's, and the kernel maps the same bytes at the next access. The address range stays what it is:
        // neither the program nor a library is ever unloaded.
        #[expect(
            unsafe_code,
            reason = "the system call has no safe form; memory reads the same before and after"
        )]
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Start and length of each mapping of code from a file.
fn mapped_code() -> Vec<(NonNull<c_void>, usize)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(code).collect()
}

/// Start and length of the mapping that a line of `/proc/self/maps` describes, if it is code from a file.
fn code(line: &str) -> Option<(NonNull<c_void>, usize)> {
    // Addresses, permissions, offset, device, inode, path.
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    fields.next().filter(|permissions| *permissions == "r-xp")?;
    fields.nth(3).filter(|path| path.starts_with('/'))?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let address = NonNull::new(std::ptr::with_exposed_provenance_mut(start))?;
    Some((address, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident code of this process, in kB.
    fn resident_code() -> u64 {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut counted = false;
        let mut sum = 0;
        for line in maps.lines() {
            if let Some(size) = line.strip_prefix("Rss:").filter(|_| counted) {
                sum += size.trim_end_matches("kB").trim().parse::<u64>().unwrap();
            } else if line.contains('-') {
                counted = code(line).is_some();
            }
        }
        sum
    }

    #[test]
    fn unmapped_code_is_not_resident() {
        for (start, length) in mapped_code() {
            // SAFETY: it reads what is mapped, and changes nothing.
            #[expect(unsafe_code, reason = "the system call has no safe form")]
            unsafe { madvise(start, length, MmapAdvise::MADV_POPULATE_READ) }.unwrap();
        }
        let all = resident_code();
        // Other tests of the process may run, and map some of it again.
        while resident_code() > all / 2 {
            unmap_code();
        }
    }

    #[test]
    fn only_code_from_files_is_unmapped() {
        let of = |line| code(line).map(|(start, length)| (start.addr().get(), length));
        assert_eq!(
            of("55d0c8a00000-55d0c9f00000 r-xp 00b3a000 fe:00 1234           /usr/bin/events"),
            Some((0x55d0_c8a0_0000, 0x150_0000))
        );
        for other in [
            "55d0c9f00000-55d0ca000000 r--p 02000000 fe:00 1234           /usr/bin/events",
            "55d0c9f00000-55d0ca000000 rwxp 02000000 fe:00 1234           /usr/bin/events",
            "7ffd1c5f0000-7ffd1c5f2000 r-xp 00000000 00:00 0              [vdso]",
            "7f0000000000-7f0000001000 r-xp 00000000 00:00 0 ",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
