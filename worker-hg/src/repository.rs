//! One repository: its clone, while it is ready, and the builds on it.

use std::{fs::File, sync::Arc, time::Duration};

use bus::{Backoff, Clock, Shutdown, error_chain};
use phabricator::model::{BaseChoice, Build};
use tokio::sync::{Mutex, Notify};
use tracing::{info, warn};

use crate::{
    HgError, RepositorySettings, Settings,
    apply::{self, Failure},
    base,
    bases::Bases,
    clone::{HgClone, Source},
    outcome,
    patch::Scanned,
    push,
    ssh::{self, KeyFile},
};

/// The waits between attempts to prepare a clone.
const PREPARING: Backoff = Backoff { first: Duration::from_secs(2), factor: 2, cap: Duration::from_secs(300) };

/// A repository that builds may be for.
pub(crate) struct Repository {
    all: Arc<Settings>,
    settings: RepositorySettings,
    ready: Mutex<Option<Ready>>,
    /// Told when `ready` has been filled, or will not be any more.
    found: Notify,
    /// Told when `ready` has been emptied because the clone is broken.
    lost: Notify,
}

/// A clone that can be built on, and what has to last as long as it.
struct Ready {
    clone: HgClone,
    _key: Option<KeyFile>,
    /// Keeps other processes off the clone; the system lets go of it with the file, so a crash frees it.
    _lock: File,
}

/// A head that is on Try.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) head: String,
    pub(crate) base: BaseChoice,
}

impl Repository {
    pub(crate) fn new(all: Arc<Settings>, settings: RepositorySettings) -> Self {
        Self { all, settings, ready: Mutex::default(), found: Notify::new(), lost: Notify::new() }
    }

    /// Waits for a clone to build on, for a while; says whether there is one.
    pub(crate) async fn is_ready(&self) -> bool {
        let found = self.found.notified();
        tokio::pin!(found);
        found.as_mut().enable();
        if self.ready.lock().await.is_some() {
            return true;
        }
        let _ = tokio::time::timeout(self.all.limits.ready, found).await;
        self.ready.lock().await.is_some()
    }

    pub(crate) fn settings(&self) -> &RepositorySettings {
        &self.settings
    }

    /// Prepares the clone, again and again until it works, and anew whenever it was found broken. Ends with `shutdown`;
    /// dropping what runs then kills and reaps it.
    pub(crate) async fn keep(&self, clock: &dyn Clock, shutdown: &Shutdown) {
        tokio::select! {
            () = shutdown.stopping() => {}
            () = async {
                loop {
                    self.prepare_until_ready(clock).await;
                    self.lost.notified().await;
                }
            } => {}
        }
        self.found.notify_waiters();
    }

    async fn prepare_until_ready(&self, clock: &dyn Clock) {
        let name = self.settings.name.as_str();
        let started = clock.now();
        for attempt in 1.. {
            match self.prepare().await {
                Ok(ready) => {
                    *self.ready.lock().await = Some(ready);
                    self.found.notify_waiters();
                    let seconds = clock.now().duration_since(started).as_secs_f64();
                    return info!(repository = name, seconds, "the clone is ready");
                }
                Err(error) => {
                    let pause = PREPARING.after(attempt, clock);
                    let seconds = pause.as_secs();
                    warn!(
                        repository = name,
                        error = error_chain(&error),
                        "cannot prepare the clone, next try in {seconds} s"
                    );
                    clock.sleep(pause).await;
                }
            }
        }
    }

    async fn prepare(&self) -> Result<Ready, HgError> {
        let name = &self.settings.name;
        let lock = self.lock()?;
        let key = KeyFile::write(&self.all, &self.settings)?;
        let source = Source {
            name: name.clone(),
            url: self.settings.url.clone(),
            program: self.all.hg.clone(),
            config: vec![format!("ui.ssh={}", ssh::command(&self.all, &self.settings, key.as_ref()))],
            limits: self.all.limits.clone(),
        };
        let directory = self.all.clones_dir.join(name);
        let temporary = self.all.clones_dir.join(format!(".{name}.cloning"));
        let kept = if directory.exists() {
            match HgClone::open(&source, &directory).await {
                Err(error) if error.is_damage() => {
                    warn!(
                        repository = name,
                        error = error_chain(&error),
                        "the kept clone is of no use, making a new one"
                    );
                    None
                }
                opened => Some(opened?),
            }
        } else {
            None
        };
        let clone = match kept {
            Some(mut clone) => {
                // Builds whose base is here can do without; the others will pull for themselves.
                if let Err(error) = clone.pull().await {
                    warn!(repository = name, error = error_chain(&error), "cannot pull, going on with what is here");
                }
                clone
            }
            None => {
                info!(repository = name, "cloning, which can take long the first time");
                HgClone::make(&source, &directory, &temporary).await?;
                HgClone::open(&source, &directory).await?
            }
        };
        Ok(Ready { clone, _key: key, _lock: lock })
    }

    fn lock(&self) -> Result<File, HgError> {
        let name = &self.settings.name;
        let path = self.all.clones_dir.join(format!(".{name}.lock"));
        let file = std::fs::create_dir_all(&self.all.clones_dir)
            .and_then(|()| File::create(&path))
            .map_err(HgError::io(format!("create {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => Err(HgError::InUse { repository: name.clone() }),
            Err(std::fs::TryLockError::Error(error)) => Err(HgError::io(format!("lock {}", path.display()))(error)),
        }
    }

    /// Applies a build's stack and pushes the head. Dropping this in the middle kills and reaps what runs; what it left
    /// in the clone is taken away before the next build.
    pub(crate) async fn build(
        &self,
        build: &Build,
        scanned: &[Scanned],
        now: jiff::Timestamp,
    ) -> Result<Landed, Failure> {
        self.is_ready().await;
        let mut slot = self.ready.lock().await;
        let Some(ready) = slot.as_mut() else {
            return Err(HgError::NotReady { repository: self.settings.name.clone() }.into());
        };
        let mut result = match ready.clone.tidy().await {
            Ok(()) => self.build_on(&mut ready.clone, build, scanned, now).await,
            Err(error) if error.is_damage() => Err(Failure::Ours(self.damaged(&error))),
            Err(error) => Err(error.into()),
        };
        if let Err(Failure::Ours(HgError::Command { words, .. })) = &result
            && outcome::is_corruption(words)
        {
            let error = HgError::Damaged { repository: self.settings.name.clone(), reason: words.clone() };
            ready.clone.condemn()?;
            result = Err(error.into());
        }
        if let Err(Failure::Ours(HgError::Damaged { .. })) = &result {
            *slot = None;
            self.lost.notify_one();
        } else if let Err(error) = ready.clone.tidy().await {
            // The build has its result; the next one tidies first, and fails if that cannot be done.
            warn!(repository = self.settings.name, error = error_chain(&error), "cannot tidy up after a build");
        }
        result
    }

    async fn build_on(
        &self,
        clone: &mut HgClone,
        build: &Build,
        scanned: &[Scanned],
        now: jiff::Timestamp,
    ) -> Result<Landed, Failure> {
        let bases = Bases::new(&self.all.clones_dir);
        let base = base::choose(clone, build, &self.settings, &bases, now).await?;
        let (mode, author) = (&self.settings.mode, &self.all.default_author);
        let head = apply::apply(clone, build, scanned, &base, mode, author).await?.node;
        info!(
            step = "applied",
            build = %build.request.target,
            "applied a stack of {} patches on {:.12} as {head:.12}",
            build.stack.len(),
            base.choice.used
        );
        push::push(clone, &head, &self.settings.try_url, &self.settings.try_name).await?;
        info!(step = "pushed", build = %build.request.target, "pushed {head} to {}", self.settings.try_name);
        Ok(Landed { head, base: base.choice })
    }

    /// Ends the command server and lets go of the clone and the key.
    pub(crate) async fn close(&self) {
        if let Some(mut ready) = self.ready.lock().await.take() {
            ready.clone.close().await;
        }
    }

    fn damaged(&self, error: &HgError) -> HgError {
        HgError::Damaged { repository: self.settings.name.clone(), reason: error_chain(error) }
    }
}
