//! The page and its assets, embedded in the binary.
//!
//! The page links its assets below `v/VERSION/`, where browsers cache them forever. The version is a hash of all
//! assets, so a returning visitor loads one file until an upgrade.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use headers::{ETag, HeaderMapExt, IfNoneMatch};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::protocol::{ErrorCode, Refusal};

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

/// Serves an asset, or 404.
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
    // During an upgrade the page may load assets of another version from this replica; those must not be cached.
    let caching = if version == *VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mime = HeaderValue::from_str(&format!("{}; charset=utf-8", asset.metadata.mimetype()));
    let tag = entity_tag(&asset);
    let known = |tag| headers.typed_get().is_some_and(|known: IfNoneMatch| !known.precondition_passes(tag));
    let mut response = match &tag {
        Some(tag) if known(tag) => StatusCode::NOT_MODIFIED.into_response(),
        _ => body(asset).into_response(),
    };
    if let (Some(tag), Ok(mime)) = (tag, mime) {
        response.headers_mut().typed_insert(tag);
        response.headers_mut().insert(header::CONTENT_TYPE, mime);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

fn body(asset: EmbeddedFile) -> Body {
    match asset.metadata.mimetype() {
        "text/html" => with_version(&String::from_utf8_lossy(&asset.data)).into(),
        "text/javascript" | "text/css" => stripped(&String::from_utf8_lossy(&asset.data)).into(),
        _ => asset.data.into_owned().into(),
    }
}

fn with_version(page: &str) -> String {
    let named = |page: String, path: &str| page.replace(&format!("\"{path}\""), &format!("\"v/{}/{path}\"", *VERSION));
    Assets::iter().fold(page.to_owned(), |page, path| named(page, &path))
}

/// Strips whole-line comments, `//` and `/* … */`, and the indentation: a fifth of the compressed bytes. No string of the
/// page spans lines.
fn stripped(source: &str) -> String {
    let mut within = false;
    let lines = source.split_inclusive('\n').map(|line| line.trim_start_matches(' '));
    let code = lines.filter(|line| {
        let line = line.trim_end();
        within |= line.starts_with("/*");
        let comment = within || line.starts_with("//");
        within &= !line.ends_with("*/");
        !comment
    });
    code.collect()
}

/// The entity tag of an asset: weak, since all encodings share it (RFC 9110, section 8.8.3). It includes the version,
/// which is part of the page.
fn entity_tag(asset: &EmbeddedFile) -> Option<ETag> {
    let hash = asset.metadata.sha256_hash();
    let half = hash.iter().take(16).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    format!("W/\"{half:032x}{}\"", *VERSION).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_line_comments_and_indentation_are_stripped() {
        let module =
            "// Header.\n\n/** One. */\nconst a = 1; // kept\n  /**\n   * Two.\n   */\n  f(`/**`, \"//\", a * b);\n";
        assert_eq!(stripped(module), "\nconst a = 1; // kept\nf(`/**`, \"//\", a * b);\n");
    }
}
