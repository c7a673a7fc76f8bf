//! `GET /api/join.svg?url=…`: the address at which the audience joins, as a QR code.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Deserialize;
use url::Url;

use super::Refused;
use crate::protocol::ErrorCode;

/// The longest address: the code stays coarse enough for a camera at the back of the room.
const LONGEST: usize = 300;

#[derive(Deserialize)]
pub(super) struct Address {
    url: String,
}

/// The page gives the address, since only the browser knows its scheme and its path behind a proxy. It must be on the host
/// that the request came to, so that nobody can show a code of ours that leads elsewhere.
pub(super) async fn code(
    headers: HeaderMap,
    address: Result<Query<Address>, QueryRejection>,
) -> Result<Response, Refused> {
    let bad = |message: String| Refused::permanent(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message);
    let Query(Address { url }) = address.map_err(|error| bad(error.body_text()))?;
    let url = Url::parse(&url).map_err(|error| bad(format!("url is the address of join.html: {error}")))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || !url.authority().eq_ignore_ascii_case(host) {
        return Err(bad(format!("{url} is not an address on {host}, which is the Host that arrived")));
    }
    if url.as_str().len() > LONGEST {
        return Err(bad(format!("an address has at most {LONGEST} bytes")));
    }
    let code = QrCode::new(url.as_str()).map_err(|error| bad(format!("{url}: {error}")))?;
    let image = code.render::<svg::Color<'_>>().build();
    Ok(([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")], image).into_response())
}
