//! The page and its assets, embedded in the binary.
//!
//! The page links to its assets under `v/VERSION/`, and browsers may cache these assets for a year. The version is a
//! hash of all embedded files, so the browser of a returning visitor usually requests no asset again until an upgrade
//! changes the version.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use axum::body::{Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, middleware};
use foldhash::HashMap;
use headers::{HeaderMapExt, IfNoneMatch};
use parking_lot::Mutex;
use rust_embed::{EmbeddedFile, RustEmbed};
use tokio::sync::OnceCell;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::protocol::{ErrorCode, Refusal};

/// High, since each asset is compressed once. Brotli's level 11 would take several times the CPU time and save only a
/// few per cent more.
const COMPRESSION: CompressionLevel = CompressionLevel::Precise(9);

#[derive(RustEmbed)]
#[folder = "web/"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.svg"]
#[include = "js/*"]
struct Assets;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    for path in Assets::iter() {
        path.hash(&mut hasher);
        Assets::get(&path).map(|asset| asset.metadata.sha256_hash()).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
});

/// The hash of the embedded file that a response holds.
#[derive(Clone, PartialEq, Eq, Hash)]
struct FileHash([u8; 32]);

/// A file and the encoding of a response; `None` if the response is not compressed.
type Encoded = (FileHash, Option<HeaderValue>);

/// The body of each asset in each encoding that a client has requested.
static BODIES: LazyLock<Mutex<HashMap<Encoded, Arc<OnceCell<Bytes>>>>> = LazyLock::new(Mutex::default);

pub(super) fn compressed<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let compression = CompressionLayer::new().quality(COMPRESSION);
    routes.layer(compression).layer(middleware::map_response(compressed_once))
}

/// Replaces the body of an asset, which is compressed while it is read, with one that has been read.
async fn compressed_once(mut response: Response) -> Response {
    let Some(file) = response.extensions_mut().remove::<FileHash>() else { return response };
    let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
    let (parts, body) = response.into_parts();
    let read = Arc::clone(BODIES.lock().entry((file, encoding)).or_default());
    let read = read.get_or_init(async || to_bytes(body, usize::MAX).await.expect("memory should be readable")).await;
    Response::from_parts(parts, read.clone().into())
}

pub(super) async fn asset(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let versioned = path.strip_prefix("v/").and_then(|rest| rest.split_once('/'));
    let (version, path) = versioned.unwrap_or(("", if path.is_empty() { "index.html" } else { path }));
    let Some(asset) = Assets::get(path) else {
        return Refusal::permanent(ErrorCode::NotFound, "no such path").into_response();
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        return ([(header::ALLOW, "GET,HEAD")], super::method_not_allowed().await).into_response();
    }
    // During an upgrade, a page of another version may request its assets from this replica. Browsers must revalidate
    // these assets before they use them again.
    let caching = if version == *VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    // Weak, since all encodings share it (RFC 9110, section 8.8.3). The modification time is for debug builds, which
    // read assets from the disk.
    let tag = format!("W/\"{}-{}\"", *VERSION, asset.metadata.last_modified().unwrap_or_default());
    let known: Option<IfNoneMatch> = headers.typed_get();
    let is_known = known.zip(tag.parse().ok()).is_some_and(|(known, tag)| !known.precondition_passes(&tag));
    let fields = [
        (header::CONTENT_TYPE, format!("{}; charset=utf-8", asset.metadata.mimetype())),
        (header::CACHE_CONTROL, caching.to_owned()),
        (header::ETAG, tag),
        // The compression layer sets it too, but not in an answer without a body.
        (header::VARY, "accept-encoding".to_owned()),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    // The response to HEAD loses its body.
    let file = (method == Method::GET).then(|| Extension(FileHash(asset.metadata.sha256_hash())));
    (fields, file, text(&asset)).into_response()
}

fn text(asset: &EmbeddedFile) -> String {
    let text = String::from_utf8_lossy(&asset.data);
    match asset.metadata.mimetype() {
        "text/html" => stripped(&with_version(&text)),
        "text/javascript" | "text/css" => stripped(&text),
        _ => text.into_owned(),
    }
}

/// Links to other pages stay unchanged, since browsers must revalidate pages.
fn with_version(page: &str) -> String {
    let named = |page: String, path: &str| page.replace(&format!("\"{path}\""), &format!("\"v/{}/{path}\"", *VERSION));
    let assets = Assets::iter().filter(|path| !path.ends_with(".html"));
    assets.fold(page.to_owned(), |page, path| named(page, &path))
}

/// Strips whole-line comments (`//` and `/* … */`), indentation and empty lines, which are a fifth of the compressed
/// bytes. No string changes, since no string in `web/` spans lines.
fn stripped(source: &str) -> String {
    let mut within = false;
    let lines = source.split_inclusive('\n').map(|line| line.trim_start_matches(' '));
    let code = lines.filter(|line| {
        let line = line.trim_end();
        within |= line.starts_with("/*");
        let comment = within || line.starts_with("//");
        within &= !line.ends_with("*/");
        !comment && !line.is_empty()
    });
    code.collect()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn every_response_with_an_asset_in_one_encoding_shares_its_bytes() {
        let routes = compressed(Router::new().route("/v/{*file}", get(asset)).fallback(asset));
        let body = async |method: &str, path: &str, accepted: &str| {
            let request = Request::builder().method(method).uri(path).header(header::ACCEPT_ENCODING, accepted);
            let response = routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            to_bytes(response.into_body(), usize::MAX).await.unwrap()
        };
        let mut bodies = Vec::new();
        for accepted in ["br", "gzip", "identity"] {
            assert!(body("HEAD", "/v/1/style.css", accepted).await.is_empty());
            let first = body("GET", "/v/1/style.css", accepted).await;
            for path in ["/v/1/style.css", "/v/2/style.css", "/style.css"] {
                assert_eq!(body("GET", path, accepted).await.as_ptr(), first.as_ptr(), "{accepted}");
            }
            assert_ne!(body("GET", "/v/1/js/app.js", accepted).await, first);
            bodies.push(first);
        }
        assert!(!bodies[0].is_empty() && bodies.is_sorted_by_key(Bytes::len), "an encoding had another's body");
    }

    #[test]
    fn whole_line_comments_indentation_and_empty_lines_are_stripped() {
        let module =
            "// Header.\n\n/** One. */\nconst a = 1; // kept\n  /**\n   * Two.\n   */\n  f(`/**`, \"//\", a * b);\n";
        assert_eq!(stripped(module), "const a = 1; // kept\nf(`/**`, \"//\", a * b);\n");
    }
}
