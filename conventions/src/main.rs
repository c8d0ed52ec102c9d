//! Checks what neither the compiler nor clippy knows of this workspace: which crate may import which, that modules do not
//! import each other in circles, how their files are named, which words are not written, that links of pages lead
//! somewhere, and that metrics are on a page. `./dev lint` runs it in the workspace's directory.

mod layers;
mod links;
mod markdown;
mod modules;
mod names;
mod phrases;
mod sources;

use std::{path::Path, process::ExitCode};

#[expect(clippy::print_stdout, reason = "the faults")]
fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(".");
    let crates = layers::crates(root)?;
    let mut faults = layers::faults(&crates);
    for one in &crates {
        faults.extend(modules::faults(&one.name, &one.sources())?);
    }
    faults.extend(modules::misnamed(root)?);
    faults.extend(phrases::faults(root)?);
    faults.extend(links::faults(root)?);
    faults.extend(names::faults(root)?);
    for fault in &faults {
        println!("{fault}");
    }
    Ok(ExitCode::from(u8::from(!faults.is_empty())))
}
