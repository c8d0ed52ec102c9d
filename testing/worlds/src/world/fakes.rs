//! Phabricator, as a worker sees it.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use build::{
    Build, Ineligible, PatchContent, PatchFailure, PatchFile, PatchSource, PatchSourceError,
    PushGuard, PushGuardError,
};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::pause;

/// What Phabricator says of builds that are about to be pushed; by default that they are wanted.
#[derive(Default)]
pub struct Answers {
    answer: Mutex<Answer>,
    /// How many had to wait for another answer.
    held: AtomicUsize,
}

#[derive(Default, Clone)]
pub enum Answer {
    #[default]
    Wanted,
    Over(Ineligible),
    Away,
    /// No answer, until there is another one.
    Held,
    /// What is answered of this revision cannot be understood.
    UnclearOf(u64),
}

impl Answers {
    pub fn say(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    /// How many builds had to wait to learn whether they are wanted.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl PushGuard for Answers {
    async fn check(
        &self,
        build: &Build,
        _: Timestamp,
    ) -> Result<Option<Ineligible>, PushGuardError> {
        let answer = || self.answer.lock().clone();
        if matches!(answer(), Answer::Held) {
            self.held.fetch_add(1, Ordering::SeqCst);
            while matches!(answer(), Answer::Held) {
                pause().await;
            }
        }
        match answer() {
            Answer::Wanted | Answer::Held => Ok(None),
            Answer::Over(over) => Ok(Some(over)),
            Answer::Away => Err(PushGuardError::Away("phabricator is away".into())),
            Answer::UnclearOf(revision) if revision == build.request.revision_id => {
                Err(PushGuardError::Unclear("it makes no sense".into()))
            }
            Answer::UnclearOf(_) => Ok(None),
        }
    }
}

/// What a patch holds, before it is on a disk.
#[derive(Clone)]
pub struct KnownPatch {
    pub(super) author: Option<String>,
    pub(super) message: String,
    pub(super) content: Vec<u8>,
}

impl KnownPatch {
    fn store(&self, directory: &Path, place: usize) -> io::Result<PatchContent> {
        let mut file = PatchFile::create(directory, place)?;
        file.write_all(&self.content)?;
        Ok(PatchContent {
            author: self.author.clone(),
            message: self.message.clone(),
            file: file.finish(),
        })
    }
}

/// The contents of patches, by the numbers of their diffs.
#[derive(Default)]
pub struct Contents {
    pub(super) known: Mutex<HashMap<u64, KnownPatch>>,
    /// How often they were loaded.
    loads: AtomicUsize,
    away: AtomicBool,
}

impl Contents {
    /// Whether nobody answers.
    pub fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Loses what a build holds.
    pub fn forget(&self, build: &Build) {
        let mut known = self.known.lock();
        for patch in &build.stack {
            known.remove(&patch.diff.id);
        }
    }
}

#[async_trait]
impl PatchSource for Contents {
    async fn load(
        &self,
        build: &Build,
        directory: &Path,
    ) -> Result<Vec<PatchContent>, PatchSourceError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(PatchSourceError::Away("phabricator is away".into()));
        }
        self.loads.fetch_add(1, Ordering::SeqCst);
        let refused = || {
            PatchSourceError::Refused(Box::new(PatchFailure {
                vcs: build.vcs,
                summary: "A patch cannot be read.".to_owned(),
                details: String::new(),
                advice: String::new(),
                commands: String::new(),
                base: None,
                seconds: 0.0,
            }))
        };
        let known = self.known.lock();
        let contents = build.stack.iter().enumerate().map(|(place, patch)| {
            let known = known.get(&patch.diff.id).ok_or_else(refused)?;
            known
                .store(directory, place)
                .map_err(PatchSourceError::Disk)
        });
        contents.collect()
    }
}
