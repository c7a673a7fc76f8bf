//! `GET /api/join.svg?url=…`: an address as a QR code. The page sends the address of `join.html`.

use std::fmt::Write;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use qrcode::{Color, QrCode};
use serde::Deserialize;
use url::Url;

use crate::protocol::{ErrorCode, Refusal};

/// A longer address would make the code too fine for a camera at the back of a room.
const MAX_BYTES: usize = 300;

/// The width of the light margin that the QR code standard requires, in modules.
const MARGIN: usize = 4;

#[derive(Deserialize)]
pub(super) struct Address {
    url: String,
}

/// The page sends the address, since only the browser knows the scheme and the path that a proxy exposes. The host and
/// port of the address must be the `Host` of the request, so that the code cannot point to another site.
pub(super) async fn code(
    headers: HeaderMap,
    address: Result<Query<Address>, QueryRejection>,
) -> Result<Response, Refusal> {
    let bad = |message: String| Refusal::permanent(ErrorCode::BadRequest, message);
    let Query(Address { url }) = address.map_err(|error| bad(error.body_text()))?;
    let url = Url::parse(&url).map_err(|error| bad(format!("url must be the address of join.html: {error}")))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || !url.authority().eq_ignore_ascii_case(host) {
        return Err(bad(format!("{url} is not an address on {host}, the Host of this request")));
    }
    if url.as_str().len() > MAX_BYTES {
        return Err(bad(format!("url may have at most {MAX_BYTES} bytes")));
    }
    let code = QrCode::new(url.as_str()).map_err(|error| bad(format!("{url}: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")], image_of(&code))
        .into_response())
}

/// Draws each horizontal run of dark modules as one stroke. `qrcode` would draw each module separately, and its image
/// would take three times as many bytes after compression.
fn image_of(code: &QrCode) -> String {
    let side = code.width() + 2 * MARGIN;
    let mut strokes = String::new();
    for (row, modules) in code.to_colors().chunks(code.width()).enumerate() {
        let mut column = 0;
        for run in modules.chunk_by(Color::eq) {
            if run.contains(&Color::Dark) {
                // Writing to a string cannot fail.
                let _ = write!(strokes, "M{} {}h{}", column + MARGIN, row + MARGIN, run.len());
            }
            column += run.len();
        }
    }
    // A stroke is one module thick, so it extends half a module above and below its line.
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -.5 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0-.5h{side}v{side}H0z\"/><path stroke=\"#000\" d=\"{strokes}\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels per module in the test's picture.
    const SCALE: usize = 4;

    /// Draws the strokes of the image on a grid of modules, and decodes a picture of the grid as a scanner would.
    fn read(image: &str) -> String {
        let between =
            |start: &str, end: &str| image.split(start).nth(1).and_then(|rest| rest.split(end).next()).unwrap();
        let side: usize = between("viewBox=\"0 -.5 ", " ").parse().unwrap();
        let strokes = between("stroke=\"#000\" d=\"M", "\"");
        let mut dark = vec![false; side * side];
        for stroke in strokes.split('M') {
            let numbers: Vec<usize> = stroke.split([' ', 'h']).map(|number| number.parse().unwrap()).collect();
            let [column, row, length] = numbers[..] else { panic!("the stroke {stroke} is malformed") };
            dark[row * side + column..][..length].fill(true);
        }
        let grey = |x: usize, y: usize| if dark[y / SCALE * side + x / SCALE] { 0 } else { 255 };
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side * SCALE, side * SCALE, grey);
        picture.detect_grids()[0].decode().unwrap().1
    }

    #[test]
    fn the_code_of_an_address_decodes_to_the_address() {
        let long = format!("https://chat.example/{}/join.html", "deep/".repeat(50));
        for url in ["http://192.168.1.20:8080/join.html", "https://[2001:db8::1]/join.html", &long] {
            assert_eq!(read(&image_of(&QrCode::new(url).unwrap())), url);
        }
    }
}
