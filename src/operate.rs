//! `smilingchat replicas` lists the replicas, and `smilingchat crash` makes one of them fail.

use std::io::{self, Write};

use jiff::SignedDuration;

use crate::client::api::{self, ApiError, Replica, ReplicaList};
use crate::config::{CrashOptions, InvalidValue, ReplicasOptions, crash_token};
use crate::protocol::{CrashMode, CrashRequest};

const COLUMNS: [&str; 8] = ["REPLICA", "HOST", "STATE", "UP", "SESSIONS", "SMILES/S", "CAPACITY", "VERSION"];

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The token file cannot be read, or contains no valid token.
    #[error(transparent)]
    Token(#[from] InvalidValue),
    /// The list of replicas could not be read.
    #[error(transparent)]
    NoList(#[from] ApiError),
    /// The crash request failed.
    #[error("{0}{advice}", advice = advice(.0))]
    NotCrashed(#[source] ApiError),
    /// Standard output cannot be written, for example because it is closed.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Prints the replicas as a table, or as the unchanged JSON of the server.
///
/// # Errors
/// [`OperateError`], if the list cannot be read or printed.
pub async fn replicas(options: &ReplicasOptions) -> Result<(), OperateError> {
    let (list, json) = api::replicas(&options.url).await?;
    say(&if options.json { String::from_utf8_lossy(&json).into_owned() } else { table(&list) })
}

/// Requests a crash, and prints the id of the replica and what happens to it.
///
/// # Errors
/// [`OperateError`], if the token file contains no valid token, the request fails or the line cannot be printed.
pub async fn crash(options: &CrashOptions) -> Result<(), OperateError> {
    let token = crash_token(options.token_file.as_deref(), "SMILINGCHAT_CRASH_TOKEN_FILE")?;
    let request = CrashRequest { replica: options.replica.clone(), mode: Some(options.mode) };
    let crashed = api::crash(&options.url, &request, token.as_deref()).await.map_err(OperateError::NotCrashed)?;
    say(&match crashed.mode {
        CrashMode::Hang => format!("{} hangs: its process keeps running but does not answer", crashed.replica),
        CrashMode::Unready => {
            format!("{} is not ready and accepts no new sessions until it is restarted", crashed.replica)
        }
        CrashMode::Exit => format!("{} crashes: its process exits at once", crashed.replica),
    })
}

fn advice(error: &ApiError) -> &'static str {
    match error {
        ApiError::Refused { status, .. } if status.as_u16() == 401 => "; pass the token file with --token-file",
        ApiError::Refused { status, .. } if status.as_u16() == 404 => "; `smilingchat replicas` lists the ids",
        _ => "",
    }
}

fn say(text: &str) -> Result<(), OperateError> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

fn table(list: &ReplicaList) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(list.replicas.iter().map(row));
    let widths: [usize; COLUMNS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let line = |row: &[String; COLUMNS.len()]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let table: String = rows.iter().map(line).collect();
    format!("{table}head of the log {}, epoch {}, answered by {}", list.head, list.epoch.as_str(), list.this)
}

fn row(replica: &Replica) -> [String; COLUMNS.len()] {
    let Replica { id, host, state, sessions, smiles_per_second, capacity, version, .. } = replica;
    let seconds = |milliseconds: u64| {
        format!("{:#}", SignedDuration::from_secs(i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX)))
    };
    let state = match &**state {
        "lost" => format!("lost for {}", seconds(replica.heartbeat_age_ms)),
        state => state.to_owned(),
    };
    let capacity = if *capacity == 0 { "unlimited".to_owned() } else { capacity.to_string() };
    let up = seconds(replica.uptime_ms);
    let (sessions, smiles) = (sessions.to_string(), format!("{smiles_per_second:.1}"));
    [id.clone(), host.clone(), state, up, sessions, smiles, capacity, version.clone()]
}

#[cfg(test)]
mod tests {
    use crate::protocol;

    use super::*;

    #[test]
    fn columns_fit_their_contents() {
        let list = br#"{"self":"be1.17","epoch":"e","head":5,"replicas":[
            {"id":"be1.17","host":"a","state":"ready","uptime_ms":3723999,"heartbeat_age_ms":20,"sessions":12,
             "smiles_per_second":99.96,"capacity":100,"version":"0.1.0"},
            {"id":"backend-2.4","host":"node-b","state":"lost","uptime_ms":0,"heartbeat_age_ms":9000,"sessions":0,
             "smiles_per_second":0.0,"capacity":0,"version":"0.1.0"}]}"#;
        let expected = "\
REPLICA      HOST    STATE        UP        SESSIONS  SMILES/S  CAPACITY   VERSION
be1.17       a       ready        1h 2m 3s  12        100.0     100        0.1.0
backend-2.4  node-b  lost for 9s  0s        0         0.0       unlimited  0.1.0
head of the log 5, epoch e, answered by be1.17";
        assert_eq!(table(&protocol::from_json(list).unwrap()), expected);
    }
}
