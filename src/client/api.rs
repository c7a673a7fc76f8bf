//! The HTTP API of a replica: users, replicas, and crash requests.
//!
//! Each request goes to the host and port of the given URL. The path, the query and the fragment of that URL are
//! ignored.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;
use thiserror::Error;
use url::Url;

use super::http;
pub use super::http::RequestError;
use crate::model::{Epoch, Offset, User};
use crate::protocol::{self, BadJson, CrashAnswer, CrashRequest, Refusal};

const PATIENCE: Duration = Duration::from_secs(5);

/// Why a request failed.
#[derive(Debug, Error)]
pub enum ApiError {
    /// There is no replica to ask.
    #[error("no replica URL is given")]
    NoUrl,
    /// No connection, no complete answer within 5 s, a body of more than 8 MiB, a URL that begins with neither
    /// `http://` nor `ws://`, or a token that a header cannot contain.
    #[error(transparent)]
    NoAnswer(#[from] RequestError),
    /// The replica, or a proxy in front of it, refused the request.
    #[error("{request}: {status}: {message}")]
    Refused {
        /// Method and URL.
        request: String,
        /// The status of the answer.
        status: StatusCode,
        /// The message of the answer, or a statement that it has none.
        message: String,
    },
    /// The answer does not have the expected shape, so it probably does not come from a replica.
    #[error("{request}: the answer does not look like a replica's: {source}")]
    Unreadable {
        /// Method and URL.
        request: String,
        /// Why the answer cannot be decoded.
        source: BadJson,
    },
}

/// The answer to `GET /api/replicas`.
#[derive(Clone, Debug, Deserialize)]
pub struct ReplicaList {
    /// Every running replica, and those lost within the last 10 minutes. A lost replica may stay in the list for about
    /// a minute longer.
    pub replicas: Vec<Replica>,
    /// Id of the replica that answered.
    #[serde(rename = "self")]
    pub this: String,
    /// Identity of the log.
    pub epoch: Epoch,
    /// The highest offset in the log, as far as the replica that answered knows.
    pub head: Offset,
}

/// One replica.
#[derive(Clone, Debug, Deserialize)]
pub struct Replica {
    /// The id, which is never reused.
    pub id: String,
    /// The host name of the replica's machine or container.
    pub host: String,
    /// `ready`, `draining` or `lost`.
    pub state: String,
    /// Milliseconds since the replica registered.
    pub uptime_ms: u64,
    /// Milliseconds since the replica last renewed its lease; 0 on SQLite.
    pub heartbeat_age_ms: u64,
    /// The number of open sessions; 0 if the replica is lost.
    pub sessions: u32,
    /// Smiles per second that the replica recently admitted; 0 if the replica is lost.
    pub smiles_per_second: f64,
    /// The maximum number of smiles per second that the replica admits; 0 means unlimited.
    pub capacity: u32,
    /// The version of the replica's program.
    pub version: String,
}

/// Requests the list of users.
///
/// # Errors
/// See [`ApiError`].
pub async fn users(url: &Url) -> Result<Vec<User>, ApiError> {
    let url = endpoint(url, "/api/users");
    let request = format!("GET {url}");
    read(&request, &success(&request, http::get(&url, PATIENCE).await)?)
}

/// Requests the list of replicas. Returns it both decoded and as the JSON of the answer.
///
/// # Errors
/// See [`ApiError`].
pub async fn replicas(url: &Url) -> Result<(ReplicaList, Bytes), ApiError> {
    let url = endpoint(url, "/api/replicas");
    let request = format!("GET {url}");
    let body = success(&request, http::get(&url, PATIENCE).await)?;
    Ok((read(&request, &body)?, body))
}

/// Requests a crash of a replica. Returns the id of the replica and the crash mode once the request is accepted.
/// `token` is the content of the file that `serve --crash-token-file` names, without the white space around it.
///
/// # Errors
/// See [`ApiError`].
pub async fn crash(url: &Url, crash: &CrashRequest, token: Option<&str>) -> Result<CrashAnswer, ApiError> {
    let url = endpoint(url, "/api/crash");
    let request = format!("POST {url}");
    let answer = http::post(&url, protocol::to_json(crash), token, PATIENCE).await;
    read(&request, &success(&request, answer)?)
}

fn endpoint(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    if url.scheme() == "ws" {
        // Never fails: both schemes are special (URL Standard).
        let _ = url.set_scheme("http");
    }
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    url
}

fn success(request: &str, answer: Result<(StatusCode, Bytes), RequestError>) -> Result<Bytes, ApiError> {
    let (status, body) = answer?;
    if status.is_success() {
        return Ok(body);
    }
    let message = protocol::from_json(&body).map_or_else(
        |_| "the answer gives no reason; is this the address of a replica?".to_owned(),
        |body: Refusal| body.message,
    );
    Err(ApiError::Refused { request: request.to_owned(), status, message })
}

fn read<'body, T: Deserialize<'body>>(request: &str, body: &'body Bytes) -> Result<T, ApiError> {
    protocol::from_json(body).map_err(|source| ApiError::Unreadable { request: request.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_on_the_host_of_the_url() {
        for (url, users) in [
            ("ws://127.0.0.1:8080/ws", "http://127.0.0.1:8080/api/users"),
            ("ws://[::1]:9/ws?user=anna#x", "http://[::1]:9/api/users"),
            ("ws://chat.example/ws", "http://chat.example/api/users"),
            ("http://chat.example:808", "http://chat.example:808/api/users"),
            ("https://chat.example", "https://chat.example/api/users"),
        ] {
            assert_eq!(endpoint(&Url::parse(url).unwrap(), "/api/users").as_str(), users);
        }
    }
}
