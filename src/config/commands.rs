//! The options of all commands except `serve`.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::InvalidValue;
use crate::protocol::CrashMode;

/// The options of `smilingchat simulate`.
#[derive(Args, Clone, Debug)]
pub struct SimulateOptions {
    /// The /ws URLs of one or more replicas, separated by commas
    #[arg(long, env = "SMILINGCHAT_SIMULATE_URL", value_name = "ws://HOST:PORT/ws,…", value_delimiter = ',',
          default_value = "ws://127.0.0.1:8080/ws", value_parser = sessions)]
    pub url: Vec<Url>,

    /// Number of conversations, each between two users
    #[arg(long, env = "SMILINGCHAT_SIMULATE_CONVERSATIONS", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub conversations: u32,

    /// Smiles per second in each conversation
    #[arg(long, env = "SMILINGCHAT_SIMULATE_RATE", value_name = "R", default_value_t = 5.0, value_parser = positive)]
    pub rate: f64,

    /// Time for which smiles are sent, in seconds
    #[arg(long, env = "SMILINGCHAT_SIMULATE_DURATION", value_name = "S", default_value_t = 10.0,
          value_parser = positive)]
    pub duration: f64,

    /// Seed for the faces and the times of the smiles, so that a run can be repeated; random by default, and printed
    #[arg(long, env = "SMILINGCHAT_SIMULATE_SEED", value_name = "K")]
    pub seed: Option<u64>,

    /// Seconds between two crashes, which are requested with POST /api/crash; 0 means no crashes
    #[arg(long, env = "SMILINGCHAT_SIMULATE_CRASH_EVERY", value_name = "S", default_value_t = 0.0,
          value_parser = positive_or_never)]
    pub crash_every: f64,

    /// File with the token that POST /api/crash requires
    #[arg(long, env = "SMILINGCHAT_SIMULATE_CRASH_TOKEN_FILE", value_name = "PATH")]
    pub crash_token_file: Option<PathBuf>,

    /// Print the ledger as one JSON object
    #[arg(long, env = "SMILINGCHAT_SIMULATE_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub json: bool,
}

fn url(scheme: &'static str, form: &'static str) -> impl Fn(&str) -> Result<Url, InvalidValue> + Clone {
    move |text| match Url::parse(text) {
        Ok(url) if url.scheme() == scheme => Ok(url),
        Ok(url) => Err(format!("{}: is not supported; give {form}", url.scheme()).into()),
        Err(error) => Err(format!("{error}; give {form}").into()),
    }
}

/// The URL at which a replica opens sessions.
fn sessions(text: &str) -> Result<Url, InvalidValue> {
    let url = url("ws", "ws://HOST:PORT/ws")(text)?;
    let wrong = || format!("the path is {}; give ws://HOST:PORT/ws", url.path()).into();
    if url.path().ends_with("/ws") { Ok(url) } else { Err(wrong()) }
}

fn positive_or_never(text: &str) -> Result<f64, InvalidValue> {
    if text.parse() == Ok(0.0) {
        Ok(0.0)
    } else {
        positive(text).map_err(|error| format!("{error}, or 0 for never").into())
    }
}

fn positive(text: &str) -> Result<f64, InvalidValue> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1_000_000.0);
    number.ok_or_else(|| "give a number above 0 and up to 1000000".into())
}

/// The options of `smilingchat check`.
#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    /// URL to request
    #[arg(long, env = "SMILINGCHAT_CHECK_URL", value_name = "http://HOST:PORT/readyz",
          default_value = "http://127.0.0.1:9090/readyz", value_parser = url("http", "http://HOST:PORT/readyz"))]
    pub url: Url,
}

/// The options of `smilingchat replicas`.
#[derive(Args, Clone, Debug)]
pub struct ReplicasOptions {
    /// URL of a replica, or of the proxy in front of the replicas
    #[arg(long, env = "SMILINGCHAT_REPLICAS_URL", value_name = "http://HOST:PORT",
          default_value = "http://127.0.0.1:8080", value_parser = url("http", "http://HOST:PORT"))]
    pub url: Url,

    /// Print the answer of GET /api/replicas unchanged
    #[arg(long, env = "SMILINGCHAT_REPLICAS_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub json: bool,
}

/// The options of `smilingchat crash`.
#[derive(Args, Clone, Debug)]
pub struct CrashOptions {
    /// Id of the replica to crash; without an id, the replica with the longest uptime among those that can crash
    pub replica: Option<String>,

    /// URL of a replica, or of the proxy in front of the replicas
    #[arg(long, env = "SMILINGCHAT_CRASH_URL", value_name = "http://HOST:PORT",
          default_value = "http://127.0.0.1:8080", value_parser = url("http", "http://HOST:PORT"))]
    pub url: Url,

    /// How the replica fails: exit ends its process, hang makes it stop answering, unready makes it refuse new sessions
    #[arg(long, env = "SMILINGCHAT_CRASH_MODE", value_name = "exit|hang|unready", default_value = "exit")]
    pub mode: CrashMode,

    /// File with the token that POST /api/crash requires; `serve --crash-token-file` reads the same variable
    #[arg(long, env = "SMILINGCHAT_CRASH_TOKEN_FILE", value_name = "PATH")]
    pub token_file: Option<PathBuf>,
}
