//! Options of the linker.

use std::{env, process::Command};

/// The first C library whose loader reads packed relocations.
const READS_PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A relocation takes 24 bytes, and all of them are read at the start: packed, they are a hundredth.
    let native = env::var("HOST").ok() == env::var("TARGET").ok();
    if env::var("PROFILE").as_deref() == Ok("release")
        && native
        && libc().is_some_and(|version| version >= READS_PACKED)
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of the C library of this machine, when it is glibc.
fn libc() -> Option<(u32, u32)> {
    let said = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let (major, minor) = str::from_utf8(&said.stdout)
        .ok()?
        .trim()
        .strip_prefix("glibc ")?
        .split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
