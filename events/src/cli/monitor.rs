//! Options of `events monitor`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};

/// Options of `events monitor`.
#[derive(Debug, Args)]
pub struct Monitor {
    /// Configuration with our user on Pulse, a YAML file; the environment overrides it, and can be enough
    #[arg(long, env = "EVENTS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Secret of Taskcluster that holds the configuration, instead of a file
    #[arg(long, env = "TASKCLUSTER_SECRET", value_name = "NAME")]
    pub taskcluster_secret: Option<String>,
    /// Tree of interest, or '*' for all; else mozilla-central. Repeatable, as all filters down to --tag
    #[arg(long = "tree", value_name = "TREE")]
    pub trees: Vec<String>,
    /// Platform of interest, such as linux64; else all platforms
    #[arg(long = "platform", value_name = "PLATFORM")]
    pub platforms: Vec<String>,
    /// Build type of interest, such as opt or debug; else all types
    #[arg(long = "build-type", value_name = "TYPE")]
    pub build_types: Vec<String>,
    /// Test of interest, by its full name, such as mochitest-1; else all tests
    #[arg(long = "test", value_name = "NAME")]
    pub tests: Vec<String>,
    /// Product of interest, such as firefox; else all products
    #[arg(long = "product", value_name = "PRODUCT")]
    pub products: Vec<String>,
    /// Tag that a build must have, or several with commas between them, all of which it must have; if given several
    /// times, one of these lists is enough
    #[arg(long = "tag", value_name = "TAG[,TAG]…")]
    pub tags: Vec<String>,
    /// Treatment of events of phones and tablets
    #[arg(long, value_enum, default_value_t = Mobile::False)]
    pub mobile: Mobile,
    /// Performance tests too
    #[arg(long)]
    pub talos: bool,
    /// Label of a durable queue on Pulse, which keeps messages while this command does not run
    #[arg(long)]
    pub label: Option<String>,
    /// Origin of the messages
    #[arg(long, value_enum, default_value_t = Origin::Buildbot)]
    pub source: Origin,
    /// Exchange with the same messages, instead of the usual one
    #[arg(long)]
    pub exchange: Option<String>,
    /// Shell command for each event, with the event as JSON on its standard input; at most 16 run at once, for ten
    /// minutes each
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// Format of the printed events, one a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Port for serving the newest build of each tree, platform and build type, as JSON and as a page
    #[arg(long, value_name = "PORT")]
    pub serve: Option<u16>,
    /// Address for serving them
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1",
        requires = "serve"
    )]
    pub bind: IpAddr,
}

/// The treatment of events of phones and tablets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mobile {
    /// Events of other platforms only
    False,
    /// Events of phones and tablets only
    True,
    /// All events
    Any,
}

/// The origin of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// Builds and tests of Buildbot, normalized
    Buildbot,
    /// Jobs of Treeherder
    Treeherder,
}

/// The format of the printed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    Text,
    /// JSON for programs
    Json,
}
