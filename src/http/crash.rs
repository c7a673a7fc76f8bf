//! `POST /api/crash`: the button that really kills a replica, and who may press it.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{App, Refused, json};
use crate::protocol::{ErrorCode, from_json};
use crate::store::CrashMode;

/// The largest body that is read.
const MAX_BODY_BYTES: usize = 1024;

/// Whether and how replicas are made to crash.
#[derive(Clone, Debug)]
pub struct CrashButton {
    /// Whether there is such a button.
    pub enabled: bool,
    /// What must be known to press it.
    pub token: Option<String>,
}

#[derive(Deserialize)]
struct CrashRequest {
    replica: Option<String>,
    mode: Option<CrashMode>,
}

#[derive(Serialize)]
struct CrashAnswer {
    replica: String,
    mode: CrashMode,
}

/// As much of a body as is read of one that may be wrong in other ways.
#[derive(Deserialize)]
struct Named {
    replica: String,
}

/// Checks the request in the order of the contract, and lets a replica crash.
pub(super) async fn crash(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    app.origins.check(&head.headers)?;
    if !app.crash_button.enabled {
        return Err(switched_off("this replica"));
    }
    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    if let Ok(Named { replica }) = from_json(&body)
        && app.replica.is_spared(&replica).await
    {
        return Err(switched_off(&replica));
    }
    may_press(&app.crash_button, &head.headers)?;
    let CrashRequest { replica, mode } = read(&body)?;
    let mode = mode.unwrap_or_default();
    match app.replica.crash(replica.as_deref(), mode).await {
        Ok(Some(replica)) => Ok((StatusCode::ACCEPTED, json(&CrashAnswer { replica, mode })).into_response()),
        Ok(None) => {
            let message = "no such replica runs, or every one has been asked: GET /api/replicas lists them all";
            Err(Refused::permanent(StatusCode::NOT_FOUND, ErrorCode::UnknownReplica, message))
        }
        Err(error) => {
            app.context.metrics.store_failed(&error, "no replica can be chosen to crash");
            Err(Refused::store_unavailable())
        }
    }
}

fn switched_off(replica: &str) -> Refused {
    let message = format!("crashing is switched off at {replica} (--crash off)");
    Refused::permanent(StatusCode::CONFLICT, ErrorCode::CrashOff, message)
}

fn may_press(button: &CrashButton, headers: &HeaderMap) -> Result<(), Refused> {
    if let Some(token) = &button.token
        && !bears(headers, token)
    {
        let message = "this needs the header Authorization: Bearer TOKEN, with the token of this replica";
        return Err(Refused::permanent(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = "send the body as application/json";
        return Err(Refused::permanent(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::UnsupportedMediaType, message));
    }
    Ok(())
}

fn read(body: &Bytes) -> Result<CrashRequest, Refused> {
    let wrong = |why: &str| {
        let message = format!(r#"send {{}} or {{"replica":"ID","mode":"exit|hang|unready"}}: {why}"#);
        Refused::permanent(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message)
    };
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("the body is not a JSON object"));
    }
    from_json(body).map_err(|error| wrong(&error))
}

/// Whether the request bears the token. Takes the same time however much of it is right.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    let Some((scheme, given)) = bearer else { return false };
    let differences = given.iter().zip(token.as_bytes()).fold(0, |sum, (one, other)| sum | (one ^ other));
    scheme.eq_ignore_ascii_case(b"bearer ") && given.len() == token.len() && differences == 0
}
