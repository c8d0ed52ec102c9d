//! The calls that publish an update.

use build::{BuildUpdate, Phid};

use super::text;
use crate::api::{MessageType, Unit};

/// The key of the link to the jobs of a head, wherever they are shown. A target with this link was pushed.
pub(crate) const PUSHED_KEY: &str = "treeherder";
/// The names of that link on Phabricator.
const PUSHED_NAME: &str = "CI Jobs";
const TREEHERDER_NAME: &str = "CI (Treeherder) Jobs";
/// The key of the link of a build that was not pushed.
const WHY_KEY: &str = "code-review-why";
/// The name of that link on Phabricator.
const WHY_NAME: &str = "Why this was not built";

/// A call that publishes a part of an update.
#[derive(Debug, PartialEq)]
pub(super) enum PublishCall<'a> {
    Message(MessageType, Option<Unit>),
    Link(Link<'a>),
}

/// A link on a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Link<'a> {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) url: &'a str,
}

/// The calls that publish an update on `target`, in order. `page` is the address that explains an end without a push.
pub(super) fn calls_for<'a>(
    target: &Phid,
    update: &'a BuildUpdate,
    page: Option<&'a str>,
) -> Vec<PublishCall<'a>> {
    let (kind, unit) = match update {
        BuildUpdate::Working => return vec![PublishCall::Message(MessageType::Work, None)],
        BuildUpdate::Pushed(pushed) => {
            let link = pushed.jobs_url.as_deref().map(|url| {
                PublishCall::Link(Link {
                    key: PUSHED_KEY,
                    name: if pushed.on_treeherder {
                        TREEHERDER_NAME
                    } else {
                        PUSHED_NAME
                    },
                    url,
                })
            });
            let applied = PublishCall::Message(MessageType::Work, Some(text::applied(pushed)));
            return link.into_iter().chain([applied]).collect();
        }
        BuildUpdate::PatchFailed(failure) => (MessageType::Fail, text::patch_failed(failure)),
        BuildUpdate::InfraFailed(failure) => (MessageType::Fail, text::broken(target, failure)),
        BuildUpdate::Skipped(skip) => (MessageType::Pass, text::skipped(&skip.text)),
        BuildUpdate::Private => (MessageType::Pass, text::private()),
    };
    let link = page.map(|url| {
        PublishCall::Link(Link {
            key: WHY_KEY,
            name: WHY_NAME,
            url,
        })
    });
    link.into_iter()
        .chain([PublishCall::Message(kind, Some(unit))])
        .collect()
}
