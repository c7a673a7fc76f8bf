//! Sends one request over plain HTTP/1.1, for the probe, the simulator and the commands of operators.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use url::{Position, Url};

/// The largest body that is read.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection, or an answer that breaks off or is too large.
    #[error("{request}: {source}")]
    Failed {
        /// Method and URL.
        request: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No complete answer within this time.
    #[error("{request}: no answer within {seconds} s")]
    TimedOut {
        /// Method and URL.
        request: String,
        /// The time limit.
        seconds: f64,
    },
}

/// Sends one GET request; returns status and body.
///
/// # Errors
/// [`RequestError`].
pub(crate) async fn get(url: &Url, patience: Duration) -> Result<(StatusCode, Bytes), RequestError> {
    ask(Method::GET, url, None, None, patience).await
}

/// Posts JSON once, with a bearer token if given; returns status and body.
///
/// # Errors
/// As [`get`].
pub(crate) async fn post(
    url: &Url,
    json: String,
    token: Option<&str>,
    patience: Duration,
) -> Result<(StatusCode, Bytes), RequestError> {
    ask(Method::POST, url, Some(json), token, patience).await
}

async fn ask(
    method: Method,
    url: &Url,
    json: Option<String>,
    token: Option<&str>,
    patience: Duration,
) -> Result<(StatusCode, Bytes), RequestError> {
    let request = format!("{method} {url}");
    match timeout(patience, exchange(method, url, json, token)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(RequestError::Failed { request, source }),
        Err(_) => Err(RequestError::TimedOut { request, seconds: patience.as_secs_f64() }),
    }
}

async fn exchange(
    method: Method,
    url: &Url,
    json: Option<String>,
    token: Option<&str>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    if url.scheme() != "http" {
        return Err("only http:// is supported".into());
    }
    let host = url.host_str().ok_or("it names no host")?;
    // The brackets of an IPv6 address belong to the URL, not to the address.
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((address, url.port_or_known_default().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(method)
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, &url[Position::BeforeHost..Position::AfterPort]);
    if json.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::<Bytes>::from(json.unwrap_or_default()))?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await?.to_bytes();
        Ok((status, body))
    };
    // Polling the connection drives the exchange. It is dropped after the answer.
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        end = &mut connection => {
            end?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Answers one connection with `answer` and returns the request it got.
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
    async fn status_and_body_come_back() {
        for answer in [
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\nhello",
        ] {
            let (url, request) = serve_once(answer).await;
            let (status, body) = get(&url, PATIENCE).await.unwrap();
            assert_eq!((status.as_u16(), body.as_ref()), (503, b"hello".as_slice()));
            let request = request.await.unwrap();
            assert!(request.starts_with("GET /readyz?a=b HTTP/1.1\r\n"), "{request}");
            let host = format!("host: 127.0.0.1:{}\r\n", url.port().unwrap());
            assert!(request.contains(&host), "{request}");
        }
    }

    #[tokio::test]
    async fn failures_name_the_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let error = get(&silent, Duration::from_millis(50)).await.unwrap_err().to_string();
        assert!(error.contains(silent.as_str()) && error.contains("no answer within 0.05 s"), "{error}");
        drop(listener);
        let error = get(&silent, PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains(silent.as_str()), "{error}");
        let error = get(&Url::parse("https://127.0.0.1/").unwrap(), PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("only http://"), "{error}");
    }
}
