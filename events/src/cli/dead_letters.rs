//! Options of `events dead-letters`.

use clap::{ArgGroup, Args, Subcommand, builder::NonEmptyStringValueParser};

use super::{Deployment, ids};

/// Options of `events dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLetters {
    /// The deployment of the queues.
    #[command(flatten)]
    pub deployment: Deployment,
    /// The action.
    #[command(subcommand)]
    pub action: DeadLetterAction,
}

/// An action on dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterAction {
    /// List dead letters, the newest first
    List {
        /// Queue of the dead letters
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// Text that the reasons of the dead letters contain
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: Option<String>,
        /// Largest number of dead letters to list
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Show one dead letter with its message
    Show {
        /// Id of the dead letter
        #[arg(value_name = "ID", value_parser = ids::dead_letter)]
        id: String,
        /// Queue of the dead letters
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
    },
    /// Requeue dead letters, and reset their attempts to zero
    Requeue {
        /// The dead letters.
        #[command(flatten)]
        which: DeadLetterChoice,
    },
    /// Delete dead letters permanently
    Drop {
        /// The dead letters.
        #[command(flatten)]
        which: DeadLetterChoice,
        /// Confirmation without a prompt
        #[arg(long)]
        yes: bool,
    },
}

/// A selection of dead letters.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["ids", "reason", "all"]).required(true).multiple(false))]
pub struct DeadLetterChoice {
    /// Ids of dead letters
    #[arg(value_name = "ID", value_parser = ids::dead_letter)]
    pub ids: Vec<String>,
    /// Queue of the dead letters
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Text that the reasons of the dead letters contain
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// All dead letters
    #[arg(long)]
    pub all: bool,
}
