//! `POST /api/crash`: makes a replica exit, hang or become unready.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::time::{Instant, timeout_at};

use super::{AppState, origin};
use crate::config::Switch;
use crate::protocol::{CrashAnswer, CrashRequest, ErrorCode, Refusal, from_json};
use crate::store::StoreError;

const MAX_BODY_BYTES: usize = 1024;

/// Time limit for all queries of one request. Shorter than the 2 s for which the proxy waits for an answer.
const STORE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The replica that a body names. The body must be valid JSON, but its other fields may be invalid.
#[derive(Deserialize)]
struct Named {
    replica: String,
}

/// Checks the request in the order that the protocol defines.
pub(super) async fn crash(State(app): State<Arc<AppState>>, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    origin::check(&app, &head.headers)?;
    if app.options.crash == Switch::Off {
        return Err(switched_off("this replica"));
    }
    let body = to_bytes(body, MAX_BODY_BYTES).await;
    let deadline = Instant::now() + STORE_TIMEOUT;
    if let Ok(body) = &body
        && let Ok(Named { replica }) = from_json(body)
        && timeout_at(deadline, app.context.replica.refuses_crash(&replica)).await.unwrap_or(false)
    {
        return Err(switched_off(&replica));
    }
    if app.crash_token.as_ref().is_some_and(|token| !has_token(&head.headers, token)) {
        let message = "this request needs the header Authorization: Bearer TOKEN, with the token of this replica";
        return Err(Refusal::permanent(ErrorCode::Unauthorized, message));
    }
    if !is_json(&head.headers) {
        return Err(wrong_body(ErrorCode::UnsupportedMediaType, "the content type is missing or different"));
    }
    let bad = |why: &str| wrong_body(ErrorCode::BadRequest, why);
    let body = body.map_err(|_| bad(&format!("the body has more than {MAX_BODY_BYTES} bytes or was cut off")))?;
    // Serde also deserializes a struct from an array of its fields' values; the protocol allows only an object.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad("the body is not an object"));
    }
    let CrashRequest { replica, mode } = from_json(&body).map_err(|error| bad(&error.to_string()))?;
    let mode = mode.unwrap_or_default();
    let crashed = timeout_at(deadline, app.context.replica.request_crash(replica.as_deref(), mode)).await;
    let crashed = crashed.unwrap_or_else(|_| Err(StoreError::Unavailable("MySQL did not answer in time".into())));
    let crashed = crashed.map_err(|error| app.context.metrics.log_store_failure(&error, "cannot request a crash"));
    let replica = crashed?.ok_or_else(|| {
        let message = "no such replica is running, or none can crash now: GET /api/replicas lists the replicas";
        Refusal::permanent(ErrorCode::UnknownReplica, message)
    })?;
    Ok((StatusCode::ACCEPTED, Json(CrashAnswer { replica, mode })).into_response())
}

fn switched_off(replica: &str) -> Refusal {
    let message = format!("crash requests are disabled on {replica} (--crash off)");
    Refusal::permanent(ErrorCode::CrashOff, message)
}

/// axum's `Json` also accepts the types that end with `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn wrong_body(code: ErrorCode, why: &str) -> Refusal {
    let message = format!(r#"send {{}} or {{"replica":"ID","mode":"exit|hang|unready"}} as application/json: {why}"#);
    Refusal::permanent(code, message)
}

/// The comparison takes the same time wherever the tokens differ.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    let Some((scheme, given)) = bearer else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && given.ct_eq(token.as_bytes()).into()
}
