//! HTTP: the page, the API, the probes, the metrics, and the upgrade of `/ws`.

mod api;
mod crash;
mod join;
mod origin;
mod page;
mod rate_limit;
mod upgrade;

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ServeOptions;
use crate::protocol::{ErrorCode, Refusal};
use crate::session;
use crate::store::Following;

pub(crate) use rate_limit::RateLimit;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) struct AppState {
    pub context: Arc<session::Context>,
    /// Tracks the running sessions and those that are about to open.
    pub sessions: TaskTracker,
    pub abort_sessions: CancellationToken,
    /// The limit on open files may have lowered `max_sessions`.
    pub options: ServeOptions,
    pub crash_token: Option<String>,
    pub logged_origins: Mutex<HashSet<String>>,
}

/// The rate limit per client address covers everything except the probes, `/ping` and the versioned assets. A first
/// visit loads about sixty assets, so a few visitors behind one address would otherwise exceed the limit.
pub(crate) fn public(app: Arc<AppState>, limit: Option<&RateLimit>) -> Router {
    let mut limited = Router::new()
        .route("/ws", get(upgrade::open))
        .route("/api/users", get(api::users))
        .route("/api/replicas", get(api::replicas))
        .route("/api/join.svg", get(join::code))
        .route("/api/crash", post(crash::crash))
        .fallback(page::asset)
        .method_not_allowed_fallback(method_not_allowed);
    if let Some(limit) = limit {
        limited = limit.layer(limited);
    }
    let free = Router::new()
        .route("/v/{*file}", get(page::asset))
        .route("/ping", get(api::ping))
        .merge(probes())
        .method_not_allowed_fallback(method_not_allowed);
    page::compressed(limited.merge(free))
        .layer(middleware::map_response_with_state(Arc::clone(&app), finish))
        .with_state(app)
}

pub(crate) fn operations(app: Arc<AppState>) -> Router {
    let not_found = async || Refusal::permanent(ErrorCode::NotFound, "no such path: try /metrics, /livez or /readyz");
    Router::new()
        .route("/metrics", get(metrics))
        .merge(probes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

/// Routes of both listeners until the store is open and the replica is registered.
pub(crate) fn starting() -> Router {
    let not_ready = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting: waiting for the store\n") };
    Router::new().merge(liveness()).route("/readyz", get(not_ready)).fallback(async || Refusal::store_unavailable())
}

fn probes() -> Router<Arc<AppState>> {
    Router::new().merge(liveness()).route("/readyz", get(readyz))
}

/// Liveness checks nothing: an outage of the database must not restart every replica.
fn liveness<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/livez", get(|| async { "alive\n" }))
}

async fn readyz(State(app): State<Arc<AppState>>) -> Result<&'static str, (StatusCode, String)> {
    let ready = app.context.replica.ready().map(|()| "ready\n");
    ready.map_err(|refusal| (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", refusal.message)))
}

async fn metrics(State(app): State<Arc<AppState>>) -> impl IntoResponse {
    let session::Context { metrics, hub, tail, .. } = &*app.context;
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.sessions.set(count(hub.sessions() as u64));
    metrics.index_behind.set(count(tail.index_lag()));
    metrics.ready.set(app.context.replica.ready().is_ok().into());
    metrics.following_binlog.set((tail.following() == Some(Following::Binlog)).into());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
}

async fn method_not_allowed() -> Refusal {
    Refusal::permanent(ErrorCode::MethodNotAllowed, "this path does not support the method")
}

/// Counts the error, if there is one, and adds the headers that the handler has not set. Only the handlers of the page,
/// its assets and the QR code set `Cache-Control`.
async fn finish(State(app): State<Arc<AppState>>, mut response: Response) -> Response {
    if let Some(code) = response.extensions_mut().remove::<ErrorCode>() {
        app.context.metrics.error(code);
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest | ErrorCode::NotASmile => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::ForbiddenOrigin => StatusCode::FORBIDDEN,
        ErrorCode::NotFound | ErrorCode::UnknownUser | ErrorCode::UnknownReplica => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::CrashOff => StatusCode::CONFLICT,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Overloaded | ErrorCode::Draining | ErrorCode::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // Whole seconds, rounded up (RFC 9110, section 10.2.3).
        let seconds = self.retry_after_ms.map(|milliseconds| milliseconds.div_ceil(1000));
        let retry_after = seconds.map(|seconds| [(header::RETRY_AFTER, HeaderValue::from(seconds))]);
        (status(self.code), Extension(self.code), retry_after, Json(self)).into_response()
    }
}
