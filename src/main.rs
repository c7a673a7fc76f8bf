//! The command line: reads the options and runs what they ask for.
//!
//! Owns the exit status. Must not know how anything is done.

use std::process::ExitCode;

use clap::Parser;
use smilingchat::config::{Command, CommandLine};

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Some(Command::Simulate(options)) => {
            smilingchat::simulate::run(&options).await.map_err(|error| error.to_string())
        }
        Some(Command::Check(options)) => smilingchat::check::check(&options).await.map(|()| true),
        Some(Command::Serve(_)) | None => Err("this build only simulates and checks".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("smilingchat: {error}");
            ExitCode::FAILURE
        }
    }
}
