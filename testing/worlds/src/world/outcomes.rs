//! Builds, and the outcomes that they must have.

use std::time::Duration;

use build::{Build, BuildUpdate, PatchFailure, Pushed};

use super::{PUSH, World};
use crate::{Repository, Side};

impl<S: Side> World<S> {
    /// A build that must be pushed.
    pub async fn pushed(&self, build: &Build) -> Pushed {
        match self.build(build).await {
            BuildUpdate::Pushed(pushed) => *pushed,
            other => panic!(
                "not pushed: {other:?}, dead letters: {:?}",
                self.dead_letters().await
            ),
        }
    }

    /// A build that must fail by our fault: how often it was tried, and why it was given up, with the places and ports
    /// of this run left out.
    pub async fn failed(&self, build: &Build) -> String {
        // Of several dead letters the newest is the one.
        self.clock.advance(Duration::from_secs(1));
        // It may have failed before, in another way.
        self.die_before_the_end_is_recorded(build).await;
        let BuildUpdate::InfraFailed(failure) = self.build(build).await else {
            panic!("it did not fail")
        };
        assert!(
            !failure.summary.contains("went wrong"),
            "its author learns nothing: {failure:?}"
        );
        let letters = self.bus.dead(&PUSH.spec(), "", 10).await.unwrap();
        let letter = letters
            .iter()
            .max_by_key(|letter| letter.died_at)
            .expect("a dead letter");
        let home = self.home.path().to_str().unwrap();
        let address = &self.settings.repositories[0].try_url;
        let port: String = address
            .rsplit(':')
            .next()
            .unwrap()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let mut reason = letter.reason.replace(home, "HOME");
        if !port.is_empty() {
            reason = reason.replace(&port, "PORT");
        }
        format!("{}: {reason}", letter.attempts)
    }

    /// A build that must fail by its patch's fault.
    pub async fn patch_failed(&self, build: &Build) -> PatchFailure {
        match self.build(build).await {
            BuildUpdate::PatchFailed(failure) => failure,
            other => panic!(
                "not the patch's fault: {other:?}, dead letters: {:?}",
                self.dead_letters().await
            ),
        }
    }

    /// The text of a file that was pushed.
    pub fn text(&self, revision: &str, path: &str) -> String {
        String::from_utf8(self.destination.content(revision, path)).unwrap()
    }

    #[track_caller]
    pub fn nothing_was_pushed(&self) {
        assert_eq!(self.destination.pushed(), Vec::<String>::new());
    }
}
