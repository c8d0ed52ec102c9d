//! What is in `clones_dir`: the clones, what is left of others, and what may go. These functions block.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    HgError, Settings,
    clone::layout::{self, Kind, Place, lane_name},
    disk::{self, Usage},
    hg::clone::SOURCE_TIP,
    text,
};

/// What is in a directory for clones, seen beside the repositories that are configured.
#[derive(Debug, Clone)]
pub struct Inventory {
    clones_dir: PathBuf,
    /// Names and numbers of lanes.
    configured: Vec<(String, usize)>,
}

/// A clone, or what is left of one.
#[derive(Debug, Clone, Serialize)]
pub struct CloneReport {
    /// The repository's name.
    pub repository: String,
    /// The lane's number, from 1.
    pub lane: usize,
    /// In what state it is.
    pub state: CloneState,
    /// Whether a process has its lane.
    pub in_use: bool,
    /// The name of the directory, below `clones_dir`.
    pub directory: String,
    /// What it takes on the disk. A file that several have counts for the first of them.
    pub bytes: u64,
    /// The first 12 digits of the newest changeset of the source, as of the last pull.
    pub tip: Option<String>,
    /// When it was last pulled, or cloned.
    pub last_pull: Option<Timestamp>,
    /// What of it could not be looked at, and why.
    pub fault: Option<String>,
}

/// The state of a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloneState {
    /// Whole, and nobody works on it.
    Ready,
    /// A worker, or a command of an operator, has it.
    InUse,
    /// It is being made.
    Cloning,
    /// Nobody knows what of it is the source's; the next worker clones it again.
    Damaged,
    /// Configured, and not there; the next worker makes it.
    Missing,
    /// It was damaged; kept for a look.
    SetAside,
    /// The rest of a clone, or of a removal, that was interrupted.
    Interrupted,
    /// A whole clone, of a repository or a lane that is not configured.
    NotConfigured,
    /// It is not readable for us.
    Unreadable,
}

impl CloneState {
    /// The state in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::InUse => "in use",
            Self::Cloning => "cloning",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::SetAside => "set aside",
            Self::Interrupted => "interrupted",
            Self::NotConfigured => "not configured",
            Self::Unreadable => "unreadable",
        }
    }
}

impl CloneReport {
    /// The lane's name.
    pub fn name(&self) -> String {
        lane_name(&self.repository, self.lane - 1)
    }

    /// Whether nobody needs it.
    pub fn is_removable(&self) -> bool {
        match self.state {
            CloneState::SetAside | CloneState::Interrupted => true,
            CloneState::NotConfigured => !self.in_use,
            _ => false,
        }
    }
}

impl Inventory {
    /// The directory and the repositories of these settings.
    pub fn new(settings: &Settings) -> Self {
        let configured = settings
            .repositories
            .iter()
            .map(|one| (one.name.clone(), one.lanes));
        Self {
            clones_dir: settings.clones_dir.clone(),
            configured: configured.collect(),
        }
    }

    /// The directory with the clones.
    pub fn directory(&self) -> &Path {
        &self.clones_dir
    }

    /// Everything that is there, and what is configured and not there: by repository and lane, the clone first.
    pub fn list(&self) -> Result<Vec<CloneReport>, HgError> {
        self.measured(|_| true)
    }

    /// What is there of one repository.
    pub fn of(&self, repository: &str) -> Result<Vec<CloneReport>, HgError> {
        self.measured(|report| report.repository == repository)
    }

    /// What nobody needs; it can be removed in this order.
    pub fn removable(&self) -> Result<Vec<CloneReport>, HgError> {
        let mut reports = self.measured(CloneReport::is_removable)?;
        // The removal of a clone takes along what an earlier one has left.
        reports.sort_by_key(|report| !report.directory.ends_with(".removing"));
        Ok(reports)
    }

    /// Clones of what is not configured, in use or not.
    pub fn not_configured(&self) -> Result<Vec<CloneReport>, HgError> {
        self.measured(|report| report.state == CloneState::NotConfigured)
    }

    /// Removes what [`Self::removable`] found; `false` when it is needed after all, or gone.
    pub fn remove(&self, report: &CloneReport) -> Result<bool, HgError> {
        let Some(place) = Place::parse(&report.directory) else {
            return Ok(false);
        };
        // The lock is about the clone: what was set aside belongs to nobody.
        let _lock = match place.kind {
            Kind::Clone | Kind::Cloning => match layout::lock(&self.clones_dir, &place.lane) {
                Err(HgError::InUse { .. }) => return Ok(false),
                lock => Some(lock?),
            },
            Kind::Aside | Kind::Removing => None,
        };
        let directory = self.clones_dir.join(&report.directory);
        let needed =
            place.kind == Kind::Clone && (self.is_configured(&place) || !self.is_there(&place));
        if needed || !fs::symlink_metadata(&directory).is_ok_and(|data| data.is_dir()) {
            return Ok(false);
        }
        let going = layout::beside(&self.clones_dir, &place.lane, "removing");
        let removing = || {
            if place.kind != Kind::Removing {
                disk::remove(&going)?;
                // One that is removed in part only must not be taken for a clone.
                fs::rename(&directory, &going)?;
            }
            disk::remove(&going)
        };
        removing()
            .map(|()| true)
            .map_err(HgError::io(format!("remove {}", directory.display())))
    }

    fn measured(&self, wanted: impl Fn(&CloneReport) -> bool) -> Result<Vec<CloneReport>, HgError> {
        let mut reports = self.look()?;
        reports.retain(wanted);
        let mut usage = Usage::default();
        for report in &mut reports {
            report.bytes = usage.of(&self.clones_dir.join(&report.directory));
            if let Some((path, error)) = usage.fault.take() {
                report
                    .fault
                    .get_or_insert_with(|| format!("cannot read {}: {error}", path.display()));
            }
        }
        Ok(reports)
    }

    /// What is there, without its size.
    fn look(&self) -> Result<Vec<CloneReport>, HgError> {
        let doing = || {
            format!(
                "read the directory with the clones, {}",
                self.clones_dir.display()
            )
        };
        let mut places = Vec::new();
        match fs::read_dir(&self.clones_dir) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(HgError::io(doing()))?.file_name();
                    places.extend(
                        name.to_str()
                            .and_then(Place::parse)
                            .filter(|place| self.is_there(place)),
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(HgError::io(doing())(error)),
        }
        let mut reports = places
            .iter()
            .map(|place| self.report(place))
            .collect::<Result<Vec<_>, _>>()?;
        for (repository, lanes) in &self.configured {
            for lane in 1..=*lanes {
                let is_it = |report: &CloneReport| {
                    report.repository == *repository
                        && report.lane == lane
                        && !matches!(report.state, CloneState::SetAside | CloneState::Interrupted)
                };
                if !reports.iter().any(is_it) {
                    reports.push(self.missing(repository, lane)?);
                }
            }
        }
        reports.sort_by_cached_key(|it| {
            (
                it.repository.clone(),
                it.lane,
                it.directory.starts_with('.'),
                it.directory.clone(),
            )
        });
        Ok(reports)
    }

    fn missing(&self, repository: &str, lane: usize) -> Result<CloneReport, HgError> {
        let directory = lane_name(repository, lane - 1);
        let path = self.clones_dir.join(&directory);
        let in_use = layout::is_locked(&self.clones_dir, &directory)?;
        // It is there, and no directory.
        let fault = fs::symlink_metadata(&path).ok().map(|data| {
            let what = if data.is_symlink() {
                "a symbolic link, which is not followed"
            } else {
                "no directory"
            };
            format!("{} is {what}", path.display())
        });
        let state = if fault.is_some() {
            CloneState::Unreadable
        } else {
            CloneState::Missing
        };
        let repository = repository.to_owned();
        Ok(CloneReport {
            repository,
            lane,
            state,
            in_use,
            directory,
            bytes: 0,
            tip: None,
            last_pull: None,
            fault,
        })
    }

    /// Whether it is a directory, and ours.
    fn is_there(&self, place: &Place) -> bool {
        let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
        match place.kind {
            Kind::Clone if self.is_configured(place) => {
                is_directory(&self.clones_dir.join(&place.lane))
            }
            Kind::Clone => layout::is_ours(&self.clones_dir, &place.lane),
            Kind::Cloning => {
                is_directory(&layout::beside(&self.clones_dir, &place.lane, "cloning"))
            }
            Kind::Aside => is_directory(&layout::beside(&self.clones_dir, &place.lane, "aside")),
            Kind::Removing => {
                is_directory(&layout::beside(&self.clones_dir, &place.lane, "removing"))
            }
        }
    }

    fn is_configured(&self, place: &Place) -> bool {
        self.configured
            .iter()
            .any(|(name, lanes)| *name == place.repository && place.number < *lanes)
    }

    fn report(&self, place: &Place) -> Result<CloneReport, HgError> {
        let in_use = layout::is_locked(&self.clones_dir, &place.lane)?;
        let (directory, suffix) = match place.kind {
            Kind::Clone => (place.lane.clone(), None),
            Kind::Cloning => (
                format!(".{}.cloning", place.lane),
                Some(CloneState::Cloning),
            ),
            Kind::Aside => (format!(".{}.aside", place.lane), Some(CloneState::SetAside)),
            Kind::Removing => (
                format!(".{}.removing", place.lane),
                Some(CloneState::Interrupted),
            ),
        };
        let file = self.clones_dir.join(&directory).join(SOURCE_TIP);
        let (tip, last_pull, fault) = match read_source_tip(&file) {
            Ok((tip, at)) => (Some(tip), Some(at), None),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
            {
                (None, None, None)
            }
            Err(error) => (
                None,
                None,
                Some(format!("cannot read {}: {error}", file.display())),
            ),
        };
        let state = match suffix {
            Some(CloneState::Cloning) if !in_use => CloneState::Interrupted,
            Some(state) => state,
            None if !self.is_configured(place) => CloneState::NotConfigured,
            None if fault.is_some() => CloneState::Unreadable,
            None if in_use => CloneState::InUse,
            None if tip.is_none() => CloneState::Damaged,
            None => CloneState::Ready,
        };
        let (repository, lane) = (place.repository.clone(), place.number + 1);
        Ok(CloneReport {
            repository,
            lane,
            state,
            in_use,
            directory,
            bytes: 0,
            tip,
            last_pull,
            fault,
        })
    }
}

/// The changeset in a file with a source tip, shortened, and when it was written.
fn read_source_tip(path: &Path) -> io::Result<(String, Timestamp)> {
    let data = fs::symlink_metadata(path)?;
    // Forty digits; whoever put something else there is not waited for.
    if !data.is_file() || data.len() != 40 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut tip = fs::read_to_string(path)?;
    if !text::is_hash(&tip) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    tip.truncate(12);
    let at = Timestamp::try_from(data.modified()?).map_err(io::Error::other)?;
    Ok((tip, at))
}
