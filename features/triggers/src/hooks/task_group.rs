//! Reads task groups, changesets and repositories from messages and tasks.

use pulse::PulseMessage;

use super::HookError;
use taskcluster::model::GroupResolvedMessage;

/// The length of the id of a task or a group: 16 bytes in base64 (a slug id).
const ID_LENGTH: usize = 22;
/// The number of hex digits of a changeset.
const CHANGESET_LENGTH: usize = 40;

/// The id of the task group that was resolved.
pub(super) fn resolved(message: &PulseMessage) -> Result<String, HookError> {
    let group = message.json::<GroupResolvedMessage>()?.task_group_id;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if group.len() == ID_LENGTH && group.bytes().all(fits) {
        return Ok(group);
    }
    Err(invalid_message(
        message,
        "its taskGroupId is not the id of a task group",
    ))
}

pub(super) fn invalid_message(message: &PulseMessage, problem: &'static str) -> HookError {
    HookError::InvalidMessage {
        exchange: message.routing.exchange.clone(),
        key: message.routing.key.clone(),
        problem,
    }
}

/// Whether `text` is the full hash of a changeset.
pub(super) fn is_changeset(text: &str) -> bool {
    text.len() == CHANGESET_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether both are the address of the same repository; a slash at the end makes no difference.
pub(super) fn same_repository(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}
