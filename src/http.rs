//! HTTP: the page, the API, the probes, and the door to `/ws`.
//!
//! Owns routes, status codes and headers. Must not know what happens in a session, or how a smile is kept.

mod api;
mod client;
mod crash;
mod join;
mod origin;
mod page;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::config::{Link, Platform};
use crate::protocol::{ErrorBody, ErrorCode, Refusal, to_json};
use crate::replica::Replica;
use crate::session;

pub use client::ClientLimit;
pub use crash::CrashButton;
pub use origin::Origins;

/// Scripts, styles, pictures and connections from here only; nothing inline; in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The best takes seven times the CPU and saves a tenth of the bytes.
const COMPRESSION: CompressionLevel = CompressionLevel::Precise(6);

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    /// For the sessions.
    pub context: Arc<session::Context>,
    /// For readiness, the list and the crash button.
    pub replica: Arc<Replica>,
    /// How many more sessions there may be.
    pub session_permits: Arc<Semaphore>,
    /// The sessions that run.
    pub sessions: TaskTracker,
    /// Ends every session at once.
    pub cut: CancellationToken,
    /// Who may act from a browser.
    pub origins: Origins,
    /// Whether and how replicas are made to crash.
    pub crash_button: CrashButton,
    /// What runs this replica, for the page.
    pub platform: Platform,
    /// What the page links to.
    pub links: Vec<Link>,
}

/// Routes of the public listener. Everything but the probes, `/ping` and the files that the page names is limited per
/// client address. A first visit needs some sixty of these files, so that a few visitors behind one address would be left
/// without half of the page.
pub fn public(app: Arc<App>, limit: Option<&ClientLimit>) -> Router {
    let mut limited = Router::new()
        .route("/ws", get(upgrade::open))
        .route("/api/users", get(api::users))
        .route("/api/replicas", get(api::replicas))
        .route("/api/join.svg", get(join::code))
        .route("/api/crash", post(crash::crash))
        .fallback(page::asset)
        .method_not_allowed_fallback(method_not_allowed);
    if let Some(limit) = limit {
        limited = limit.before(limited);
    }
    let free = Router::new()
        .route("/v/{*file}", any(page::asset))
        .route("/ping", get(api::ping))
        .merge(probes())
        .method_not_allowed_fallback(method_not_allowed);
    let compression = CompressionLayer::new().quality(COMPRESSION);
    limited
        .merge(free)
        .layer(compression)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), finish))
        .with_state(app)
}

/// Routes of the operations listener.
pub fn operations(app: Arc<App>) -> Router {
    let not_found = || async {
        Refused::permanent(StatusCode::NOT_FOUND, ErrorCode::NotFound, "here are /metrics, /livez and /readyz")
    };
    Router::new()
        .route("/metrics", get(metrics))
        .merge(probes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

/// Routes of both listeners while the store is not open yet, which may take as long as its server takes to be there:
/// alive, not ready, and everything else later.
pub fn starting() -> Router {
    let not_ready = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting: waiting for the store\n") };
    Router::new().merge(liveness()).route("/readyz", get(not_ready)).fallback(async || Refused::store_unavailable())
}

fn probes() -> Router<Arc<App>> {
    Router::new().merge(liveness()).route("/readyz", get(readyz))
}

/// Liveness asks nothing: a database that is away must not get every replica restarted.
fn liveness<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/livez", get(|| async { "alive\n" }))
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.replica.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text_format = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, text_format)], app.context.metrics.render(app.context.hub.sessions())).into_response()
}

async fn method_not_allowed() -> Refused {
    let message = "this path does not take that method";
    Refused::permanent(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::MethodNotAllowed, message)
}

/// Adds what every answer carries, and counts it if it is a refusal.
async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(code) = response.extensions_mut().remove::<ErrorCode>() {
        app.context.metrics.error(code);
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A request that was refused: the status, and the same words a frame would get.
#[derive(Debug)]
struct Refused(StatusCode, Refusal);

impl Refused {
    fn permanent(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self(status, Refusal::permanent(code, message))
    }

    fn temporary(status: StatusCode, code: ErrorCode, message: impl Into<String>, retry_after: Duration) -> Self {
        Self(status, Refusal::temporary(code, message, retry_after))
    }

    fn store_unavailable() -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, Refusal::store_unavailable())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, refusal) = self;
        let mut response = (status, json(&ErrorBody::from(&refusal))).into_response();
        response.extensions_mut().insert(refusal.code);
        if let Some(milliseconds) = refusal.retry_after_ms() {
            // Whole seconds, never too short (RFC 9110, section 10.2.3).
            response.headers_mut().insert(header::RETRY_AFTER, milliseconds.div_ceil(1000).max(1).into());
        }
        response
    }
}

/// A JSON answer that no cache keeps.
fn json<T: serde::Serialize>(value: &T) -> impl IntoResponse + use<T> {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, to_json(value))
}
