//! The page and its assets, embedded in the binary.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::Refused;
use crate::protocol::ErrorCode;

#[derive(RustEmbed)]
#[folder = "web/"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.svg"]
#[include = "js/*"]
struct Assets;

/// Any path that is nothing else: an asset, or 404. Caches keep assets and ask each time whether they changed.
pub(super) async fn asset(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let Some(asset) = Assets::get(path) else {
        return Refused::permanent(StatusCode::NOT_FOUND, ErrorCode::NotFound, "there is nothing here").into_response();
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        return super::method_not_allowed().await.into_response();
    }
    let tag = entity_tag(&asset.metadata.sha256_hash());
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response =
        if known { StatusCode::NOT_MODIFIED.into_response() } else { asset.data.into_owned().into_response() };
    let mime = HeaderValue::from_str(&format!("{}; charset=utf-8", asset.metadata.mimetype()));
    for (name, value) in [
        (header::CONTENT_TYPE, mime),
        (header::ETAG, HeaderValue::from_str(&tag)),
        (header::CACHE_CONTROL, Ok(HeaderValue::from_static("no-cache"))),
    ] {
        if let Ok(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The strong entity tag of an asset (RFC 9110, section 8.8.3): half of its SHA-256 tells any two apart.
fn entity_tag(hash: &[u8; 32]) -> String {
    let half = hash.iter().take(16).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    format!("\"{half:032x}\"")
}
