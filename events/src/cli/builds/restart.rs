//! The builds that `events builds restart` restarts.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};

use super::BuildSelector;

/// The two forms of the command.
pub(super) const USAGE: &str = "events builds restart [OPTIONS] <BUILD>...
       events builds restart [OPTIONS] --outcome <OUTCOME> --since <DURATION>";

/// The outcomes that builds have. None is `passed` or `failed` yet: no jobs are awaited.
const OUTCOMES: [&str; 5] = [
    "pushed",
    "patch_failed",
    "skipped",
    "infra_failed",
    "private",
];

/// A selection of builds that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartChoice {
    /// The newest build of each selector.
    Named(Vec<BuildSelector>),
    /// All builds that ended so.
    Ended {
        /// The name of their outcome.
        outcome: String,
        /// The longest time since their end.
        since: Duration,
        /// The short name of their repository on Phabricator; `None` selects those of each repository.
        repository: Option<String>,
    },
}

/// The arguments before they are checked against each other.
#[derive(Debug, Args)]
struct Arguments {
    /// Targets of builds (PHID-HMBT-…), or revisions (D123) or numbers of diffs for their newest builds
    #[arg(value_name = "BUILD")]
    builds: Vec<BuildSelector>,
    /// Outcome of the builds to restart
    #[arg(long, value_name = "OUTCOME", value_parser = OUTCOMES)]
    outcome: Option<String>,
    /// Longest time since the end of these builds, such as 2h or 90m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// Repository of these builds, by its short name on Phabricator
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

impl TryFrom<Arguments> for RestartChoice {
    type Error = (ErrorKind, &'static str);

    fn try_from(arguments: Arguments) -> Result<Self, Self::Error> {
        let missing = ErrorKind::MissingRequiredArgument;
        let Arguments {
            builds,
            outcome,
            since,
            repository,
        } = arguments;
        let selects = outcome.is_some() || since.is_some() || repository.is_some();
        match (outcome, since) {
            _ if !builds.is_empty() && selects => Err((
                ErrorKind::ArgumentConflict,
                "BUILD cannot be used with --outcome, --since or --repository",
            )),
            _ if !builds.is_empty() => Ok(Self::Named(builds)),
            (Some(outcome), Some(since)) => Ok(Self::Ended {
                outcome,
                since,
                repository,
            }),
            (Some(_), None) => Err((missing, "--outcome needs --since DURATION")),
            (None, Some(_)) => Err((missing, "--since needs --outcome OUTCOME")),
            (None, None) if selects => Err((
                missing,
                "--repository needs --outcome OUTCOME and --since DURATION",
            )),
            (None, None) => Err((
                missing,
                "no build is selected: name each BUILD, or all with --outcome OUTCOME and --since DURATION",
            )),
        }
    }
}

impl FromArgMatches for RestartChoice {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::try_from(Arguments::from_arg_matches(matches)?).map_err(|(kind, problem)| {
            let command = Command::new("restart").override_usage(USAGE);
            Arguments::augment_args(command).error(kind, problem)
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for RestartChoice {
    fn augment_args(command: Command) -> Command {
        Arguments::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Arguments::augment_args_for_update(command)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: Option<jiff::SignedDuration> = text.parse().ok();
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "expected a duration, such as 2h or 90m".to_owned())
}

#[cfg(test)]
mod tests {
    use build::BuildOutcome;

    use super::*;

    #[test]
    fn builds_with_all_outcomes_but_those_of_jobs_can_be_restarted() {
        let mut known = BuildOutcome::NAMES.to_vec();
        known.retain(|name| !["passed", "failed"].contains(name));
        assert_eq!(known, OUTCOMES);
    }
}
