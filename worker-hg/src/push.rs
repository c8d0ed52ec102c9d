//! Pushing a head to Try.

use std::path::Path;

use crate::{HgError, clone::HgClone, outcome};

/// Pushes `head` and what it stands on. `Ok` when it is there, by this push or by an earlier one.
///
/// A push that fails may have landed: the answer can be lost after the other side has committed. So after a failure of
/// the way there the same head is pushed once more, which finds "no changes" then.
pub(crate) async fn push(clone: &mut HgClone, head: &str, url: &str, name: &str) -> Result<(), HgError> {
    match push_once(clone, head, url, name).await {
        Err(HgError::Remote { words, .. }) if words.contains("abandoned transaction") && Path::new(url).is_dir() => {
            recover(clone, url, name).await?;
            push_once(clone, head, url, name).await
        }
        Err(HgError::Remote { .. } | HgError::Deadline { .. } | HgError::Protocol { .. }) => {
            push_once(clone, head, url, name).await
        }
        ended => ended,
    }
}

/// Rolls back what a killed push left in a Try repository on this machine. There our own `hg` is also the other side,
/// and nobody else would do it; a server behind ssh or HTTP outlives us and does it itself.
async fn recover(clone: &mut HgClone, path: &str, name: &str) -> Result<(), HgError> {
    let repository = format!("--repository={path}");
    clone.run(&format!("recover {name}"), &[&repository, "recover"]).await.map(|_| ())
}

async fn push_once(clone: &mut HgClone, head: &str, url: &str, name: &str) -> Result<(), HgError> {
    let rev = format!("--rev={head}");
    let deadline = clone.limits().transfer;
    let output = clone.try_run(&["push", "--force", &rev, "--", url], b"", deadline).await?;
    outcome::push(&format!("push to {name}"), &output)
}
