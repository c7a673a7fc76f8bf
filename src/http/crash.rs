//! `POST /api/crash`: crashes a replica for real.

use std::fmt::Display;
use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{AppState, json};
use crate::protocol::{CrashAnswer, CrashRequest, ErrorCode, Refusal, from_json};

const MAX_BODY_BYTES: usize = 1024;

/// The settings of the crash button.
#[derive(Clone, Debug)]
pub(crate) struct CrashButton {
    /// Whether this replica obeys crash requests.
    pub enabled: bool,
    /// The bearer token that requests need, if any.
    pub token: Option<String>,
}

/// The replica in a body that may otherwise be invalid.
#[derive(Deserialize)]
struct Named {
    replica: String,
}

/// Checks the request in the order that the protocol defines, and crashes a replica.
pub(super) async fn crash(State(app): State<Arc<AppState>>, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    app.origins.check(&head.headers)?;
    if !app.crash_button.enabled {
        return Err(switched_off("this replica"));
    }
    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    if let Ok(Named { replica }) = from_json(&body)
        && app.replica.refuses_crash(&replica).await
    {
        return Err(switched_off(&replica));
    }
    authorize(&app.crash_button, &head.headers)?;
    let CrashRequest { replica, mode } = read(&body)?;
    let mode = mode.unwrap_or_default();
    match app.replica.crash(replica.as_deref(), mode).await {
        Ok(Some(replica)) => Ok((StatusCode::ACCEPTED, json(&CrashAnswer { replica, mode })).into_response()),
        Ok(None) => {
            let message = "no such replica runs, or all have been asked to crash: GET /api/replicas lists them";
            Err(Refusal::permanent(ErrorCode::UnknownReplica, message))
        }
        Err(error) => {
            app.context.metrics.store_failed(&error, "cannot choose a replica to crash");
            Err(Refusal::store_unavailable())
        }
    }
}

fn switched_off(replica: &str) -> Refusal {
    let message = format!("crashing is switched off at {replica} (--crash off)");
    Refusal::permanent(ErrorCode::CrashOff, message)
}

fn authorize(button: &CrashButton, headers: &HeaderMap) -> Result<(), Refusal> {
    if let Some(token) = &button.token
        && !has_token(headers, token)
    {
        let message = "this request needs the header Authorization: Bearer TOKEN, with the token of this replica";
        return Err(Refusal::permanent(ErrorCode::Unauthorized, message));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = "send the body as application/json";
        return Err(Refusal::permanent(ErrorCode::UnsupportedMediaType, message));
    }
    Ok(())
}

fn read(body: &Bytes) -> Result<CrashRequest, Refusal> {
    let wrong = |why: &dyn Display| {
        let message = format!(r#"send {{}} or {{"replica":"ID","mode":"exit|hang|unready"}}: {why}"#);
        Refusal::permanent(ErrorCode::BadRequest, message)
    };
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong(&"the body is not a JSON object"));
    }
    from_json(body).map_err(|error| wrong(&error))
}

/// Whether the request has the bearer token. Compares in constant time.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    let Some((scheme, given)) = bearer else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && given.ct_eq(token.as_bytes()).into()
}
