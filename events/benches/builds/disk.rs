//! A small file system of its own, which can be filled.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

pub struct Disk(PathBuf);

impl Disk {
    /// `None`, with a note, when this user may not mount.
    pub fn mount(path: PathBuf, megabytes: u32) -> Option<Self> {
        fs::create_dir(&path).expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(&path)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(path)),
            refused => {
                eprintln!("bench: a full disk is not measured, mount failed: {refused:?}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Fills it but for about `left` bytes.
    pub fn fill(&self, left: u64) {
        let mut file = File::create(self.filler()).expect("a file");
        let zeros = vec![0; 64 << 10];
        while file.write_all(&zeros).is_ok() {}
        let written = file.metadata().expect("a file").blocks() * 512;
        file.set_len(written.saturating_sub(left))
            .expect("a shorter file");
    }

    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("the file goes");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still be in it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
