//! `/ws`: the checks before a session, and the upgrade.
//!
//! Uses tungstenite and hyper directly instead of axum's extractor. A session needs tungstenite's typed errors for
//! exact close codes, and the raw connection for a close frame that reaches the client.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::TryFutureExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{AppState, origin};
use crate::model::{Offset, UserName};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{self, End, Socket, Start};

const RETRY_HINT: Duration = Duration::from_secs(1);

const HEAD_RETRY: Duration = Duration::from_millis(10);

const HEAD_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Debug, Deserialize)]
struct Query {
    #[serde(default)]
    user: String,
    after: Option<String>,
    epoch: Option<String>,
}

pub(super) async fn open(State(app): State<Arc<AppState>>, mut request: Request) -> Result<Response, Refusal> {
    let opening = check(&app, request.uri(), request.headers()).await?;
    match accept(&mut request) {
        Ok(response) => {
            start(&app, hyper::upgrade::on(&mut request), opening);
            Ok(response)
        }
        Err(error) => Ok(upgrade_required(&error.to_string(), request.headers())),
    }
}

/// The answer to a handshake (RFC 6455, section 4.2.1). tungstenite reads only the first line of `Connection`, and only
/// one protocol in `Upgrade`, so each of these lists is replaced by the item that matters.
fn accept(request: &mut Request) -> Result<Response, Error> {
    let headers = request.headers_mut();
    for (name, item) in [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")] {
        let lines = headers.get_all(&name).iter().filter_map(|line| line.to_str().ok());
        if lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(item)) {
            headers.insert(name, HeaderValue::from_static(item));
        }
    }
    create_response_with_body(request, Body::empty)
}

/// A session that may begin: its user, where it starts, and its place among the sessions.
type Opening = (UserName, Start, TaskTrackerToken);

async fn check(app: &AppState, uri: &Uri, headers: &HeaderMap) -> Result<Opening, Refusal> {
    let (query, after) = read(uri)?;
    origin::check(app, headers)?;
    let user = app.context.store.user(&query.user).cloned().ok_or_else(Refusal::unknown_user)?;
    app.context.replica.ready()?;
    // Take the place before checking whether it was free, so that concurrent requests cannot take the same place.
    let place = app.sessions.token();
    if app.sessions.len() > app.options.max_sessions as usize {
        return Err(Refusal::temporary(ErrorCode::Overloaded, "this replica is full; try another one", RETRY_HINT));
    }
    let start = match after {
        Some(after) => resume_from(app, after, query.epoch.as_deref()).await?,
        None => Start::Fresh,
    };
    Ok((user, start, place))
}

/// `after` may be a whole number of any length: a number that is too large for an offset is beyond the head of any log.
fn read(uri: &Uri) -> Result<(Query, Option<Offset>), Refusal> {
    let bad = |message: String| Refusal::permanent(ErrorCode::BadRequest, message);
    let axum::extract::Query(query) = axum::extract::Query::<Query>::try_from_uri(uri)
        .map_err(|error| bad(format!("the query cannot be read: {error}")))?;
    if query.user.is_empty() {
        return Err(bad("user is missing: connect to /ws?user=NAME".to_owned()));
    }
    let Some(after) = &query.after else { return Ok((query, None)) };
    if after.is_empty() || !after.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad("after must be a whole number: the offset to resume from".to_owned()));
    }
    if query.epoch.is_none() {
        return Err(bad("after needs epoch: the epoch of the session that the offset comes from".to_owned()));
    }
    let after = Offset(after.parse().unwrap_or(u64::MAX));
    Ok((query, Some(after)))
}

/// A session resumes if the log holds all smiles after the offset `after`: the epoch is the log's, and `after` is
/// neither beyond the head nor below the last trimmed offset. Waits at most about [`HEAD_TIMEOUT`] for the head to
/// reach `after`.
async fn resume_from(app: &AppState, after: Offset, epoch: Option<&str>) -> Result<Start, Refusal> {
    if epoch != Some(app.context.tail.epoch.as_str()) {
        return Ok(Start::NotRecovered);
    }
    let asked = Instant::now();
    loop {
        let log = app.context.store.log_state().await.map_err(|error| {
            app.context.metrics.log_store_failure(&error, "cannot read the state of the log to resume a session")
        })?;
        let within = after <= log.head.max(app.context.tail.cursor());
        if within || asked.elapsed() > HEAD_TIMEOUT {
            let complete = within && log.trimmed <= after && epoch == Some(log.epoch.as_str());
            return Ok(if complete { Start::Recovered(after) } else { Start::NotRecovered });
        }
        // Another replica may have sent this offset to the client before this replica's queries show the commit.
        tokio::time::sleep(HEAD_RETRY).await;
    }
}

/// The session holds its place until it ends, so that a drain waits for it.
fn start(app: &AppState, upgrade: OnUpgrade, (user, start, place): Opening) {
    let context = Arc::clone(&app.context);
    let abort_sessions = app.abort_sessions.clone();
    tokio::spawn(async move {
        let connection = upgrade.map_ok(Upgraded::downcast::<TokioIo<TcpStream>>);
        let Some(Ok(Ok(connection))) = abort_sessions.run_until_cancelled(connection).await else {
            tracing::debug!("a handshake was not completed");
            return;
        };
        let metrics = Arc::clone(&context.metrics);
        // Pinned, so that `run_until_cancelled` borrows the future. If the future were moved, the task would hold its
        // memory twice.
        let session = pin!(async {
            // Copy the bytes that hyper has read, so that its buffer is freed before the session starts.
            let (stream, read) = (connection.io.into_inner(), connection.read_buf.to_vec());
            drop(connection.read_buf);
            let socket = Socket::new(stream, read, context.times.write_timeout).await;
            session::run(context, socket, user, start).await
        });
        let code = match abort_sessions.run_until_cancelled(session).await.unwrap_or(End::Broken) {
            End::Broken => "0".to_owned(),
            End::ByServer(reason) => reason.code().to_string(),
            // Normal, going away, no code (RFC 6455, section 7.4.1).
            End::ByClient(code @ (1000 | 1001 | 1005)) => code.to_string(),
            // One label for all other codes, so that clients cannot create an unlimited number of time series.
            End::ByClient(_) => "other".to_owned(),
        };
        metrics.closes.with_label_values(&[&code]).inc();
        drop(place);
    });
}

/// The body of the answer to a GET without a WebSocket handshake. Browsers send no `Origin` with a same-origin GET, so
/// the page compares `host` with its own host to diagnose refused sockets.
#[derive(Serialize)]
struct UpgradeRequired {
    #[serde(flatten)]
    error: Refusal,
    host: String,
}

fn upgrade_required(error: &str, headers: &HeaderMap) -> Response {
    let error = Refusal::permanent(ErrorCode::UpgradeRequired, format!("this is a WebSocket address: {error}"));
    let body = Json(UpgradeRequired { error, host: origin::text(headers, header::HOST) });
    let fields = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
    (StatusCode::UPGRADE_REQUIRED, fields, Extension(ErrorCode::UpgradeRequired), body).into_response()
}
