//! `./dev chaos`: proves that nothing is lost, whatever dies.

mod account;
mod chain;
mod cli;
mod driver;
mod outside;
mod plan;
mod producer;
mod proxy;
mod redelivery;
mod report;
mod worker;
mod workers;
mod world;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use cli::{Campaign, Cli, Role};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.role {
        Some(Role::Worker(options)) => worker::work(options).await.map(|()| true),
        None => campaign(cli.campaign).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn campaign(options: Campaign) -> anyhow::Result<bool> {
    let json = options.json;
    let report = driver::run(options).await?;
    let text = if json { serde_json::to_string(&report)? } else { report.table() };
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(report.passed())
}
