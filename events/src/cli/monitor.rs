//! Options of `events monitor`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};

/// Options of `events monitor`.
#[derive(Debug, Args)]
pub struct Monitor {
    /// YAML file that names our user on Pulse; the environment wins over it, and can be enough
    #[arg(long, env = "EVENTS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration instead
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
    /// Tree of interest, mozilla-central if none is named, '*' for all; may be given several times, as most of these
    #[arg(long = "tree", value_name = "TREE")]
    pub trees: Vec<String>,
    /// Platform of interest, such as linux64; else all
    #[arg(long = "platform", value_name = "PLATFORM")]
    pub platforms: Vec<String>,
    /// Build type of interest, such as opt or debug; else all
    #[arg(long = "build-type", value_name = "TYPE")]
    pub build_types: Vec<String>,
    /// Test of interest, by its full name, such as mochitest-1; else all
    #[arg(long = "test", value_name = "NAME")]
    pub tests: Vec<String>,
    /// Product of interest, such as firefox; else all
    #[arg(long = "product", value_name = "PRODUCT")]
    pub products: Vec<String>,
    /// Only builds that have this tag, or all of several with commas between them; when given several times, one of these
    /// is enough
    #[arg(long = "tag", value_name = "TAG[,TAG]…")]
    pub tags: Vec<String>,
    /// Events of phones and tablets
    #[arg(long, value_enum, default_value_t = Mobile::False)]
    pub mobile: Mobile,
    /// Performance tests as well
    #[arg(long)]
    pub talos: bool,
    /// Label of a queue on Pulse that keeps messages while this does not run
    #[arg(long)]
    pub label: Option<String>,
    /// Origin of the messages
    #[arg(long, value_enum, default_value_t = Origin::Buildbot)]
    pub source: Origin,
    /// Other exchange with the same messages
    #[arg(long)]
    pub exchange: Option<String>,
    /// Shell command for each event, which is on its standard input as JSON; 16 at once at most, for ten minutes
    /// each
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// Format of printed events
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Port that serves the newest build for each tree, platform and build type, as JSON and as a page
    #[arg(long, value_name = "PORT")]
    pub serve: Option<u16>,
    /// Address to serve on
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1",
        requires = "serve"
    )]
    pub bind: IpAddr,
}

/// Whether events are for phones and tablets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mobile {
    /// None of them
    False,
    /// Only these
    True,
    /// All events
    Any,
}

/// Whose messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// Buildbot's, normalized
    Buildbot,
    /// Jobs of Treeherder
    Treeherder,
}

/// How events are printed, one a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}
