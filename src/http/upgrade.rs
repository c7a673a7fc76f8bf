//! `/ws`: everything that is checked before a session exists, in the order of the contract.
//!
//! The handshake is the WebSocket library's and the connection hyper's, without axum's extractor between: a session
//! needs the typed errors of the one, for exact close codes, and the bytes of the other, for a close that arrives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::{App, Refused, json, origin};
use crate::model::{OFFSET_LIMIT, Offset};
use crate::protocol::{ErrorBody, ErrorCode, Refusal};
use crate::replica::NotReady;
use crate::session::{self, Ended, Opening, Socket};

/// When to try another replica, or this one again, after it had no place.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(1);

/// How long to wait before looking again for an offset that lies beyond the end of the log, and for how long in all.
const NOT_YET: Duration = Duration::from_millis(10);
const NOT_YET_AT_MOST: Duration = Duration::from_millis(100);

#[derive(Debug, Default, Deserialize)]
struct Query {
    user: Option<String>,
    after: Option<String>,
    epoch: Option<String>,
}

/// `GET /ws`
pub(super) async fn open(State(app): State<Arc<App>>, mut request: Request) -> Response {
    match check(&app, request.uri(), request.headers()).await {
        Ok((opening, permit)) => match create_response_with_body(&request, Body::empty) {
            Ok(response) => {
                start(&app, hyper::upgrade::on(&mut request), opening, permit);
                response
            }
            Err(error) => no_handshake(&error.to_string(), request.headers()),
        },
        Err(refused) => refused.into_response(),
    }
}

async fn check(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<(Opening, OwnedSemaphorePermit), Refused> {
    let query = read(uri)?;
    let after = position(&query)?;
    app.origins.check(headers)?;
    let user = app.context.store.user(query.user.as_deref().unwrap_or_default()).cloned();
    let user = user.ok_or_else(|| Refused(StatusCode::NOT_FOUND, Refusal::unknown_user()))?;
    app.replica.ready().map_err(not_ready)?;
    let permit = Arc::clone(&app.session_permits).try_acquire_owned().map_err(|_| {
        let message = "this replica holds as many sessions as it may; try another";
        Refused::temporary(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Overloaded, message, RETRY_AFTER_FULL)
    })?;
    let resume = match after {
        Some(after) => resume_from(app, after, query.epoch.as_deref()).await?,
        None => None,
    };
    Ok((Opening { user, resume, asked_to_resume: after.is_some() }, permit))
}

fn read(uri: &Uri) -> Result<Query, Refused> {
    let bad = |message: String| Refused::permanent(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message);
    let axum::extract::Query(query) = axum::extract::Query::<Query>::try_from_uri(uri)
        .map_err(|error| bad(format!("the query cannot be read: {error}")))?;
    match query.user {
        Some(ref user) if !user.is_empty() => Ok(query),
        _ => Err(bad("say who you are: /ws?user=NAME".to_owned())),
    }
}

/// The offset to resume from. One that no log can reach is a whole number too; it lies beyond the end.
fn position(query: &Query) -> Result<Option<Offset>, Refused> {
    let bad = |message| Refused::permanent(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message);
    let Some(after) = &query.after else { return Ok(None) };
    if after.is_empty() || !after.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad("after is a whole number: the highest offset you have seen"));
    }
    if query.epoch.is_none() {
        return Err(bad("after needs epoch: the one of the welcome that the offset came with"));
    }
    Ok(Some(Offset(after.parse().unwrap_or(OFFSET_LIMIT).min(OFFSET_LIMIT))))
}

/// `after`, when everything above it can be sent: same log, not beyond its end, nothing removed in between.
async fn resume_from(app: &App, after: Offset, epoch: Option<&str>) -> Result<Option<Offset>, Refused> {
    if epoch != Some(app.context.epoch.as_str()) {
        return Ok(None);
    }
    let asked = Instant::now();
    loop {
        let log = app.context.store.log_state().await.map_err(|error| {
            app.context.metrics.store_failed(&error, "a session cannot resume");
            Refused::store_unavailable()
        })?;
        let within = after <= log.head.max(app.context.tail.cursor());
        if within || asked.elapsed() > NOT_YET_AT_MOST {
            return Ok((within && log.trimmed <= after).then_some(after));
        }
        // Another replica may have sent it before a query shows it.
        tokio::time::sleep(NOT_YET).await;
    }
}

fn not_ready(reason: NotReady) -> Refused {
    let code = match reason {
        NotReady::Draining | NotReady::Unready => ErrorCode::Draining,
        NotReady::LeaseLost => ErrorCode::StoreUnavailable,
        NotReady::Behind => ErrorCode::Overloaded,
    };
    Refused::temporary(StatusCode::SERVICE_UNAVAILABLE, code, reason.to_string(), RETRY_AFTER_FULL)
}

/// Runs the session once the handshake is answered. It is tracked from before, so that a drain waits for it.
fn start(app: &App, upgrade: OnUpgrade, opening: Opening, permit: OwnedSemaphorePermit) {
    let context = Arc::clone(&app.context);
    let cut = app.cut.clone();
    app.sessions.spawn(async move {
        let metrics = Arc::clone(&context.metrics);
        let session = async {
            let connection = upgrade.await.map(hyper::upgrade::Upgraded::downcast::<TokioIo<TcpStream>>);
            let Ok(Ok(connection)) = connection else {
                tracing::debug!("a client left during the handshake");
                return Ended::Broken;
            };
            // The buffer of HTTP must not live as long as the session.
            let (stream, read) = (connection.io.into_inner(), connection.read_buf.to_vec());
            drop(connection.read_buf);
            let socket = Socket::new(stream, read, context.times.write_timeout).await;
            session::run(context, socket, opening).await
        };
        let ended = tokio::select! {
            ended = session => ended,
            () = cut.cancelled() => Ended::Broken,
        };
        match ended {
            Ended::ByClient(code) => metrics.closed_by_client(code),
            Ended::ByServer(reason) => metrics.closed_by_server(reason),
            Ended::Broken => metrics.connection_broke(),
        }
        drop(permit);
    });
}

/// The answer to a plain GET. A browser sends no `Origin` with one: the page compares `host` with its own to find out why its
/// sockets are refused.
#[derive(Serialize)]
struct NoHandshake {
    #[serde(flatten)]
    error: ErrorBody,
    host: String,
}

fn no_handshake(error: &str, headers: &HeaderMap) -> Response {
    let message = format!("this is a WebSocket address: {error}");
    let error = ErrorBody { code: ErrorCode::UpgradeRequired, message, retry_after_ms: None };
    let body = json(&NoHandshake { error, host: origin::text(headers, header::HOST) });
    let mut response = (StatusCode::UPGRADE_REQUIRED, body).into_response();
    response.extensions_mut().insert(ErrorCode::UpgradeRequired);
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}
