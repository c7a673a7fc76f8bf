//! The options, their environment variables and their defaults: `--help` is the reference.

mod commands;
mod deployment;
mod store_url;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use directories::ProjectDirs;
use ipnet::IpNet;
use url::Url;

pub use commands::{CheckOptions, CrashOptions, ReplicasOptions, SimulateOptions};
use deployment::link;
pub use deployment::{Link, Platform};
pub use store_url::{MySqlUrl, StoreUrl, TlsMode};

/// A realtime chat in which every message is a smile, and no stored smile is lost when a replica dies.
#[derive(Parser, Debug)]
#[command(version, about, args_conflicts_with_subcommands = true, next_line_help = true)]
pub struct CommandLine {
    /// The command; `None` means `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`, for a command line without a command.
    #[command(flatten)]
    pub serve: ServeOptions,
}

/// The commands of the program.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a replica: the page, the API and the WebSocket sessions (the default)
    Serve(Box<ServeOptions>),
    /// Simulate conversations against replicas and verify every smile with a ledger
    Simulate(SimulateOptions),
    /// Ask a replica once whether it is ready; the exit status is 0 or 1
    Check(CheckOptions),
    /// List the replicas
    Replicas(ReplicasOptions),
    /// Crash a replica
    Crash(CrashOptions),
}

/// The help of `--store`. A constant, because rustdoc would read the brackets in a doc comment as links.
const STORE_HELP: &str = "Where the smiles are stored: sqlite:PATH or mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE; \
    to require TLS, append ?ssl-mode=required, verify_ca or verify_identity; the last two accept &ssl-ca=PATH; \
    default: a file in the platform's data directory";

/// The options of `smilingchat serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// Address of the page, the API and /ws; port 0 means any free port, which is logged
    #[arg(long, env = "SMILINGCHAT_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080",
          value_parser = address)]
    pub listen: SocketAddr,

    /// Address of /metrics, /livez and /readyz for operators
    #[arg(long, env = "SMILINGCHAT_OPS_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:9090",
          value_parser = address)]
    pub ops_listen: SocketAddr,

    /// The URL of the store; without one, a file in the platform's data directory
    #[arg(long, env = "SMILINGCHAT_STORE", value_name = "URL", hide_env_values = true, help = STORE_HELP)]
    pub store: Option<StoreUrl>,

    /// File with the MySQL password, such as a Docker or Kubernetes secret; overrides a password in the URL
    #[arg(long, env = "SMILINGCHAT_STORE_PASSWORD_FILE", value_name = "PATH")]
    pub store_password_file: Option<PathBuf>,

    /// Name of this replica; the replica's id begins with this name [default: the host name]
    #[arg(long, env = "SMILINGCHAT_REPLICA", value_name = "NAME", value_parser = name(1..=64))]
    pub replica: Option<String>,

    /// Platform that runs this replica; the page shows what brings a crashed replica back on this platform
    #[arg(long, env = "SMILINGCHAT_PLATFORM", default_value = "process")]
    pub platform: Platform,

    // Kubernetes allows 253 characters (RFC 1123).
    /// Name of the machine that this replica runs on, for the page
    #[arg(long, env = "SMILINGCHAT_NODE", value_name = "NAME", default_value = "", value_parser = name(0..=253))]
    pub node: String,

    /// Links that the page shows, such as dashboards, separated by commas; http and https only
    #[arg(long, env = "SMILINGCHAT_LINKS", value_name = "NAME=URL,…", default_value = "",
          value_parser = list(link))]
    pub links: List<Link>,

    /// Smiles per second that this replica admits, with a burst of a quarter of N; 0 means unlimited
    #[arg(long, env = "SMILINGCHAT_CAPACITY", value_name = "N", default_value_t = 100)]
    pub capacity: u32,

    /// Smiles per second that one session may send, and histories per second that it may request; 0 means unlimited
    #[arg(long, env = "SMILINGCHAT_SESSION_RATE", value_name = "N", default_value_t = 20)]
    pub session_rate: u32,

    /// Smiles that one session may send at once after a pause, and histories that it may request; 0 means unlimited
    #[arg(long, env = "SMILINGCHAT_SESSION_BURST", value_name = "N", default_value_t = 40)]
    pub session_burst: u32,

    /// Requests and upgrades per second from one client address; 0 means unlimited.
    /// Probes, /ping and the page's assets below /v/ do not count
    #[arg(long, env = "SMILINGCHAT_CLIENT_RATE", value_name = "N", default_value_t = 20)]
    pub client_rate: u32,

    /// Requests and upgrades that one client address may send at once after a pause; 0 means unlimited
    #[arg(long, env = "SMILINGCHAT_CLIENT_BURST", value_name = "N", default_value_t = 200)]
    pub client_burst: u32,

    /// Maximum number of concurrent sessions; further upgrades get 503
    #[arg(long, env = "SMILINGCHAT_MAX_SESSIONS", value_name = "N", default_value_t = 15_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sessions: u32,

    /// Networks of the proxies whose X-Forwarded-For header is trusted, separated by commas
    #[arg(long, env = "SMILINGCHAT_TRUSTED_PROXIES", value_name = "CIDR,…", default_value = "",
          value_parser = list(network))]
    pub trusted_proxies: List<IpNet>,

    /// Origins allowed besides the one that matches the request's Host header, separated by commas
    #[arg(long, env = "SMILINGCHAT_ALLOWED_ORIGINS", value_name = "ORIGIN,…", default_value = "",
          value_parser = list(origin))]
    pub allowed_origins: List<Url>,

    /// Whether this replica accepts and obeys crash requests (POST /api/crash)
    #[arg(long, env = "SMILINGCHAT_CRASH", value_name = "on|off", default_value = "on")]
    pub crash: Switch,

    /// File with the token that POST /api/crash requires
    #[arg(long, env = "SMILINGCHAT_CRASH_TOKEN_FILE", value_name = "PATH")]
    pub crash_token_file: Option<PathBuf>,

    /// Whether this replica hands sessions over to replicas with fewer sessions. Requires a proxy that routes each new
    /// session to any replica
    #[arg(long, env = "SMILINGCHAT_REBALANCE", value_name = "on|off", default_value = "off")]
    pub rebalance: Switch,

    /// Maximum time from SIGTERM to the end of the process, in seconds
    #[arg(long, env = "SMILINGCHAT_DRAIN_TIMEOUT", value_name = "SECONDS", default_value_t = 20)]
    pub drain_timeout: u32,

    /// Days for which a smile is kept
    #[arg(long, env = "SMILINGCHAT_RETENTION", value_name = "DAYS", default_value_t = 7,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub retention: u32,

    /// The ping interval and the timeouts of a session. Only tests change them.
    #[arg(skip)]
    pub session_times: SessionTimes,
}

/// The ping interval of a session, and the times after which the session considers its client gone or unable to read.
#[derive(Clone, Copy, Debug)]
pub struct SessionTimes {
    /// The time from one WebSocket ping to the next. The first ping comes after a random time: at least half of this
    /// interval, and at most all of it.
    pub ping_interval: Duration,
    /// The longest time from a ping to its pong. If the pong takes longer, the session is closed with 4001, unless the
    /// session was not reading from its socket or had stalled: then the time starts again.
    pub pong_timeout: Duration,
    /// The longest time for one write and its flush. If they take longer, the session is closed with 4000.
    pub write_timeout: Duration,
}

impl Default for SessionTimes {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
        }
    }
}

impl ServeOptions {
    /// The store that the options name, or a file in the platform's data directory.
    ///
    /// # Errors
    /// [`InvalidValue`] if no store is given and the user has no home directory, which can happen in a container; if a
    /// password file is given for an SQLite file; or if the password file is empty or cannot be read.
    pub fn store_url(&self) -> Result<StoreUrl, InvalidValue> {
        match &self.store {
            Some(StoreUrl::MySql(url)) => {
                // Every new connection reads the file; fail now if the file cannot be read or is empty.
                secret(self.store_password_file.as_deref(), "password (SMILINGCHAT_STORE_PASSWORD_FILE)")?;
                Ok(StoreUrl::MySql(MySqlUrl { password_file: self.store_password_file.clone(), ..url.clone() }))
            }
            _ if self.store_password_file.is_some() => {
                Err("an SQLite file has no password: omit --store-password-file (SMILINGCHAT_STORE_PASSWORD_FILE)"
                    .into())
            }
            Some(url) => Ok(url.clone()),
            None => ProjectDirs::from("", "", "smilingchat")
                .map(|directories| StoreUrl::Sqlite(directories.data_dir().join("smilingchat.db")))
                .ok_or_else(|| "this user has no data directory: give --store sqlite:PATH".into()),
        }
    }
}

/// An invalid value of an option. The message says in one line what is wrong, and often what to give instead.
#[derive(Clone, Debug, PartialEq, Eq, derive_more::From, thiserror::Error)]
#[from(forward)]
#[error("{0}")]
pub struct InvalidValue(String);

/// Reads the secret in `file`; without a file, returns `None`. Trims white space, such as the final line break that
/// editors add.
///
/// # Errors
/// [`InvalidValue`] if the file cannot be read or is empty. The message calls the secret `what`.
pub fn secret(file: Option<&Path>, what: &str) -> Result<Option<String>, InvalidValue> {
    let Some(file) = file else { return Ok(None) };
    let secret = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read the {what} in {}: {error}", file.display()))?;
    match secret.trim() {
        "" => Err(format!("there is no {what} in {}", file.display()).into()),
        secret => Ok(Some(secret.to_owned())),
    }
}

/// Reads the token for crash requests in `file`; without a file, returns `None`.
///
/// # Errors
/// [`InvalidValue`] if the file cannot be read or is empty, or if the token contains a line break or another control
/// character. The message names `variable`, the variable of the option.
pub fn crash_token(file: Option<&Path>, variable: &str) -> Result<Option<String>, InvalidValue> {
    let what = format!("token ({variable})");
    let token = secret(file, &what)?;
    if let Some(file) = file
        && token.as_ref().is_some_and(|token| token.contains(char::is_control))
    {
        let file = file.display();
        return Err(format!("the {what} in {file} contains a line break or another control character").into());
    }
    Ok(token)
}

/// The host name without the characters that a replica's name cannot contain, truncated to the maximum length of a
/// name; `replica` if nothing is left.
pub fn host_name() -> String {
    let name = gethostname::gethostname();
    let name: String = name.to_string_lossy().chars().filter(|&c| allowed_in_name(c)).take(64).collect();
    if name.is_empty() { "replica".to_owned() } else { name }
}

fn allowed_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn address(text: &str) -> Result<SocketAddr, InvalidValue> {
    let wrong = |_| "give ADDRESS:PORT, as in 127.0.0.1:8080; a host name is not accepted".into();
    text.parse().map_err(wrong)
}

/// If `length` includes 0, an empty variable counts as unset.
fn name(length: RangeInclusive<usize>) -> impl Fn(&str) -> Result<String, InvalidValue> + Clone {
    move |text| {
        let valid = length.contains(&text.len()) && text.chars().all(allowed_in_name);
        let wrong = || format!("a name must have 1 to {} characters from A-Z a-z 0-9 . _ -", length.end()).into();
        valid.then(|| text.to_owned()).ok_or_else(wrong)
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case", parse_err_ty = InvalidValue, parse_err_fn = no_switch)]
pub enum Switch {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

fn no_switch(_: &str) -> InvalidValue {
    "give on or off".into()
}

/// The values of one option. Through this alias, clap parses them as one argument; a field of type `Vec` would make the
/// option repeatable.
pub type List<T> = Vec<T>;

/// Skips empty values, so that an empty variable means an empty list.
fn list<T>(value: fn(&str) -> Result<T, InvalidValue>) -> impl Fn(&str) -> Result<List<T>, InvalidValue> + Clone {
    move |text| text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(value).collect()
}

/// A network in CIDR notation, or one address.
fn network(text: &str) -> Result<IpNet, InvalidValue> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("{text} is not a network such as 10.0.0.0/8").into())
}

/// Parses a web origin: scheme, host and port, without the scheme's default port (RFC 6454).
pub(crate) fn origin(text: &str) -> Result<Url, InvalidValue> {
    let bare = text.matches('/').count() == 2 && !text.contains(['?', '#', '@', '\\']);
    let url = Url::parse(text).ok().filter(|url| bare && matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| format!("{text} is not an origin such as https://chat.example").into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_option_has_an_environment_variable() {
        let commands = CommandLine::command();
        let serve = commands.find_subcommand("serve").unwrap();
        let simulate = commands.find_subcommand("simulate").unwrap();
        let check = commands.find_subcommand("check").unwrap();
        let replicas = commands.find_subcommand("replicas").unwrap();
        let crash = commands.find_subcommand("crash").unwrap();
        let mut options = 0;
        for (command, of) in [
            (&commands, ""),
            (serve, ""),
            (simulate, "SIMULATE_"),
            (check, "CHECK_"),
            (replicas, "REPLICAS_"),
            (crash, "CRASH_"),
        ] {
            for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
                let long = argument.get_long().unwrap();
                let expected = format!("SMILINGCHAT_{of}{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "--{long}");
                options += 1;
            }
        }
        assert!(options > 30, "only {options} options were found");
    }

    #[test]
    fn empty_lists_are_valid_and_invalid_values_are_refused() {
        let networks = list(network);
        assert_eq!(networks(""), Ok(Vec::new()));
        let read = networks("10.0.0.0/8, 192.0.2.7").unwrap();
        assert!(read[0].contains(&"10.1.2.3".parse::<IpAddr>().unwrap()));
        assert!(read[1].contains(&"192.0.2.7".parse::<IpAddr>().unwrap()));
        assert!(networks("10.0.0.0/99").is_err());
    }

    #[test]
    fn origins_omit_the_default_port_and_have_no_path() {
        let authority = |text: &str| origin(text).map(|origin| origin.authority().to_owned());
        assert_eq!(authority("https://chat.example:443").as_deref(), Ok("chat.example"));
        assert_eq!(authority("http://chat.example:808").as_deref(), Ok("chat.example:808"));
        assert_eq!(authority("http://[::1]:808").as_deref(), Ok("[::1]:808"));
        for wrong in ["null", "chat.example", "http://chat.example/", "http://a@b", "ftp://chat.example", "http://"] {
            assert!(origin(wrong).is_err(), "accepted {wrong}");
        }
    }
}
