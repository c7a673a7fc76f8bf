//! `GET /api/join.svg?url=…`: the address of `join.html` as a QR code.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Deserialize;
use url::Url;

use crate::protocol::{ErrorCode, Refusal};

/// The maximum length of the address: a longer one makes the code too fine for a camera at the back of the room.
const MAX_BYTES: usize = 300;

#[derive(Deserialize)]
pub(super) struct Address {
    url: String,
}

/// The page sends the address, since only the browser knows its scheme and its path behind a proxy. The address must be
/// on the `Host` of the request, so that the code cannot lead to a foreign site.
pub(super) async fn code(
    headers: HeaderMap,
    address: Result<Query<Address>, QueryRejection>,
) -> Result<Response, Refusal> {
    let bad = |message: String| Refusal::permanent(ErrorCode::BadRequest, message);
    let Query(Address { url }) = address.map_err(|error| bad(error.body_text()))?;
    let url = Url::parse(&url).map_err(|error| bad(format!("url is the address of join.html: {error}")))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || !url.authority().eq_ignore_ascii_case(host) {
        return Err(bad(format!("{url} is not an address on {host}, the Host of this request")));
    }
    if url.as_str().len() > MAX_BYTES {
        return Err(bad(format!("url may have at most {MAX_BYTES} bytes")));
    }
    let code = QrCode::new(url.as_str()).map_err(|error| bad(format!("{url}: {error}")))?;
    let image = code.render::<svg::Color<'_>>().build();
    Ok(([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")], image).into_response())
}
