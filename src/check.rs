//! `smilingchat check`: asks a replica once whether it is ready or, if the URL ends in `/livez`, whether it is alive.
//! Serves as a health check for container images without a shell.

use std::time::Duration;

use hyper::StatusCode;
use url::Url;

use crate::client::http::{self, RequestError};
use crate::config::CheckOptions;

const PATIENCE: Duration = Duration::from_secs(3);

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No connection, no complete answer within 3 s, a body of more than 8 MiB, or a URL that does not begin with
    /// `http://`.
    #[error(transparent)]
    NoAnswer(#[from] RequestError),
    /// The replica answered with a status other than 2xx. The fields are the URL, the status and the beginning of the
    /// body, at most 200 characters.
    #[error("GET {0}: {1} {2}")]
    NotReady(Url, StatusCode, String),
}

/// Asks the replica once whether it is ready.
///
/// # Errors
/// [`CheckError`] if the status of the answer is not 2xx, or if there is no complete answer.
pub async fn check(options: &CheckOptions) -> Result<(), CheckError> {
    let (status, body) = http::get(&options.url, PATIENCE).await?;
    if status.is_success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&body);
    Err(CheckError::NotReady(options.url.clone(), status, reason.trim().chars().take(200).collect()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn check_against(answer: &'static str) -> Result<(), CheckError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/readyz", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let outcome = check(&CheckOptions { url }).await;
        server.await.unwrap();
        outcome
    }

    #[tokio::test]
    async fn only_a_success_status_means_ready() {
        check_against("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let error = check_against("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\ndraining").await;
        assert!(error.unwrap_err().to_string().ends_with("503 Service Unavailable draining"));
        check_against("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n").await.unwrap_err();
    }
}
