//! Sends one request over plain HTTP/1.1: for [`crate::check`] and for the functions of [`super::api`].

use std::error::Error;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header, http};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Duration, timeout};
use url::Url;

const MAX_BODY_BYTES: usize = 8 << 20;

/// Why a request has no answer: for example, no connection, or no complete answer in time.
#[derive(Debug, thiserror::Error)]
#[error("{request}: {cause}")]
pub struct RequestError {
    /// Method and URL.
    request: String,
    #[source]
    cause: Box<dyn Error + Send + Sync>,
}

type Answer = Result<(StatusCode, Bytes), RequestError>;

pub(crate) async fn get(url: &Url, patience: Duration) -> Answer {
    send(format!("GET {url}"), Request::get(url.as_str()).body(Full::default()), patience).await
}

pub(crate) async fn post(url: &Url, json: String, token: Option<&str>, patience: Duration) -> Answer {
    let mut request = Request::post(url.as_str()).header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    send(format!("POST {url}"), request.body(json.into()), patience).await
}

async fn send(name: String, request: http::Result<Request<Full<Bytes>>>, patience: Duration) -> Answer {
    let exchange = async {
        let request = request?;
        if request.uri().scheme_str() != Some("http") {
            return Err("only http:// is supported".into());
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.map_err(|error| root(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await?.to_bytes();
        Ok((status, body))
    };
    let answer = timeout(patience, exchange).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs_f64()).into()));
    answer.map_err(|cause| RequestError { request: name, cause })
}

/// The message of the root cause. The HTTP client's own message names only the step that failed.
fn root(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source()).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Starts a server that answers one connection with `answer`. Returns its URL, and a task that returns the request.
    async fn serve_once(answer: &'static str) -> (Url, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/readyz?a=b", listener.local_addr().unwrap())).unwrap();
        let request = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (url, request)
    }

    #[tokio::test]
    async fn status_and_body_are_returned() {
        for answer in [
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\nhello",
        ] {
            let (url, request) = serve_once(answer).await;
            let (status, body) = get(&url, PATIENCE).await.unwrap();
            assert_eq!((status.as_u16(), body.as_ref()), (503, b"hello".as_slice()));
            let request = request.await.unwrap();
            assert!(request.starts_with("GET /readyz?a=b HTTP/1.1\r\n"), "the request line was wrong: {request}");
            let host = format!("host: 127.0.0.1:{}\r\n", url.port().unwrap());
            assert!(request.contains(&host), "the Host header was wrong: {request}");
        }
    }

    #[tokio::test]
    async fn failures_name_the_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let error = get(&silent, Duration::from_millis(50)).await.unwrap_err().to_string();
        assert!(
            error.contains(silent.as_str()) && error.contains("no answer within 0.05 s"),
            "the error did not name the URL or the time limit: {error}"
        );
        drop(listener);
        let error = get(&silent, PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains(silent.as_str()), "the error did not name the URL: {error}");
        let error = get(&Url::parse("https://127.0.0.1/").unwrap(), PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("only http://"), "the error did not name the scheme: {error}");
    }
}
