//! The command-line program: parses the arguments and runs the command.
//!
//! Everything else is in the library, where unit tests can call it.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};
use smilingchat::config::{Command, CommandLine, ServeOptions};
use smilingchat::server::Server;
use smilingchat::{check, operate, simulate, telemetry};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

const WORKERS_VARIABLE: &str = "TOKIO_WORKER_THREADS";

/// Far more than any machine needs; tokio would panic at a number that is too large.
const MAX_WORKERS: usize = 1024;

/// Why a command failed, in one line.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let (command_line, workers) = match parse().and_then(|parsed| Ok((parsed, workers()?))) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(error),
    };
    let outcome = runtime(workers).map_err(Failure::from).and_then(|runtime| {
        let outcome = runtime.block_on(run(command_line));
        // Dropping the runtime would wait, without a limit, for a name that is being resolved.
        runtime.shutdown_background();
        outcome
    });
    outcome.unwrap_or_else(|error| {
        report(&error);
        ExitCode::FAILURE
    })
}

fn parse() -> Result<CommandLine, clap::Error> {
    let mut program = CommandLine::command();
    if words().next().is_some_and(|word| program.find_subcommand(word).is_some()) {
        // The options before a command are those of `serve`, so clap would check their variables for every command.
        program = program.mut_args(|argument| argument.env(None::<&str>));
    }
    CommandLine::from_arg_matches(&program.try_get_matches()?)
}

/// The number of the runtime's workers. Unless [`WORKERS_VARIABLE`] is set, the runtime has one worker fewer than there
/// are processors, but at least one. The remaining processor is for the threads of SQLite and the indexer, or for MySQL
/// on the same machine: with a worker on every processor, the replica and the store would preempt each other during a
/// commit.
fn workers() -> Result<usize, clap::Error> {
    let text = std::env::var_os(WORKERS_VARIABLE).unwrap_or_default();
    if text.is_empty() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        return Ok(processors.saturating_sub(1).max(1));
    }
    let workers = text.to_str().and_then(|text| text.parse::<usize>().ok());
    workers.filter(|workers| (1..=MAX_WORKERS).contains(workers)).ok_or_else(|| {
        let text = text.display();
        let message = format!("invalid value '{text}' for {WORKERS_VARIABLE}: give a number from 1 to {MAX_WORKERS}");
        CommandLine::command().error(ErrorKind::ValueValidation, message)
    })
}

fn runtime(workers: usize) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

async fn run(command_line: CommandLine) -> Result<ExitCode, Failure> {
    // Spawned, so that the command runs on the runtime's workers and not on the main thread.
    let task = tokio::spawn(async move {
        match command_line.command {
            None => serve(command_line.serve).await?,
            Some(Command::Serve(options)) => serve(*options).await?,
            Some(Command::Simulate(options)) => {
                let status = simulate::run(&options).await.unwrap_or_else(|error| {
                    report(&error);
                    error.exit_status()
                });
                return Ok(status.into());
            }
            Some(Command::Check(options)) => check::check(&options).await?,
            Some(Command::Replicas(options)) => operate::replicas(&options).await?,
            Some(Command::Crash(options)) => operate::crash(&options).await?,
        }
        Ok(ExitCode::SUCCESS)
    });
    task.await?
}

fn report(error: &dyn Display) {
    // Best effort: standard error may be closed, and the exit status reports the failure as well.
    let _ = writeln!(std::io::stderr(), "smilingchat: {error}");
}

/// Prints a usage error, the help or the version, and returns the exit status.
fn refuse(mut error: clap::Error) -> ExitCode {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let (argument, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    if argument.starts_with("--store ") && !value.is_empty() {
        // The value may contain a password.
        error.insert(ContextKind::InvalidValue, ContextValue::String("(not shown)".to_owned()));
    }
    if let Some(variable) = variable_behind(&argument) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(format!("{variable} ({argument})")));
    }
    // Fails only if the output cannot be written.
    let _ = error.print();
    // A probe must exit with 0 or 1: Docker reserves 2 (Dockerfile reference, HEALTHCHECK).
    let probes = words().next().is_some_and(|command| command == "check");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if probes => ExitCode::FAILURE,
        code => ExitCode::from(u8::try_from(code).unwrap_or(2)),
    }
}

fn words() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

/// The environment variable that set this argument; `None` if the command line set it, or if no variable did.
fn variable_behind(argument: &str) -> Option<String> {
    let name = argument.strip_prefix("--")?.split(' ').next()?;
    if words().any(|word| word.split('=').next().and_then(|option| option.strip_prefix("--")) == Some(name)) {
        return None;
    }
    let program = CommandLine::command();
    let command = words().next().and_then(|name| program.find_subcommand(name)).unwrap_or(&program);
    let variable = command.get_arguments().find(|known| known.get_long() == Some(name))?.get_env()?;
    std::env::var_os(variable)?;
    variable.to_str().map(str::to_owned)
}

async fn serve(options: ServeOptions) -> Result<(), Failure> {
    telemetry::start_logging();
    let mut asked_to_stop = Box::pin(asked_to_stop()?);
    let server = tokio::select! {
        started = Server::start(options) => started?,
        // `Server::start` may be waiting for the store.
        () = &mut asked_to_stop => return Ok(()),
    };
    tracing::info!(
        replica = server.replica(),
        page = format!("http://{}", server.address),
        operations = format!("http://{}", server.ops_address),
        "ready"
    );
    Ok(server.run(asked_to_stop).await?)
}

fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}
