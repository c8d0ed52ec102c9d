//! What messages and tasks are about.

use pulse::PulseMessage;

use super::HookError;
use taskcluster::model::GroupResolvedMessage;

/// How many characters the id of a task or a group has: 16 bytes in base64 (a slug id).
const ID: usize = 22;
/// How many hex digits a changeset has.
const CHANGESET: usize = 40;

/// The task group that was resolved.
pub(super) fn resolved(message: &PulseMessage) -> Result<String, HookError> {
    let group = message.json::<GroupResolvedMessage>()?.task_group_id;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if group.len() == ID && group.bytes().all(fits) {
        return Ok(group);
    }
    Err(useless(
        message,
        "its taskGroupId is not the id of a task group",
    ))
}

pub(super) fn useless(message: &PulseMessage, problem: &'static str) -> HookError {
    let (exchange, key) = (
        message.routing.exchange.clone(),
        message.routing.key.clone(),
    );
    HookError::Useless {
        exchange,
        key,
        problem,
    }
}

/// Whether it is the whole hash of a changeset.
pub(super) fn is_changeset(text: &str) -> bool {
    text.len() == CHANGESET && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether both are the address of the same repository: one may have a slash at its end.
pub(super) fn same_repository(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}
