//! `GET /api/join.svg?url=…`: the address of `join.html` as a QR code.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use qrcode::render::svg;
use qrcode::{QrCode, QrResult};
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
    let image = image_of(url.as_str()).map_err(|error| bad(format!("{url}: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")], image).into_response())
}

/// The code with the light margin that the standard demands. A module is one unit wide; the page scales the image.
fn image_of(text: &str) -> QrResult<String> {
    Ok(QrCode::new(text)?.render::<svg::Color<'_>>().module_dimensions(1, 1).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The width of a module in the test's picture, in pixels.
    const SCALE: usize = 4;

    /// What a camera reads in the image, whose dark modules are drawn on a grid of pixels.
    fn read(image: &str) -> String {
        let between =
            |start: &str, end: &str| image.split(start).nth(1).and_then(|rest| rest.split(end).next()).unwrap();
        let side: usize = between("viewBox=\"0 0 ", " ").parse().unwrap();
        let mut dark = vec![false; side * side];
        for module in between("fill=\"#000\" d=\"M", "\"").split('M') {
            let numbers: Vec<usize> = module.split([' ', 'h']).filter_map(|number| number.parse().ok()).collect();
            let [column, row] = numbers[..] else { panic!("{module}") };
            dark[row * side + column] = true;
        }
        let grey = |x: usize, y: usize| if dark[y / SCALE * side + x / SCALE] { 0 } else { 255 };
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side * SCALE, side * SCALE, grey);
        picture.detect_grids()[0].decode().unwrap().1
    }

    #[test]
    fn a_camera_reads_the_address() {
        let long = format!("https://chat.example/{}/join.html", "deep/".repeat(50));
        for url in ["http://192.168.1.20:8080/join.html", "https://[2001:db8::1]/join.html", &long] {
            assert_eq!(read(&image_of(url).unwrap()), url);
        }
    }
}
