//! The `Origin` check: allows the server's own origin, the origins on the allow-list, and requests without an `Origin`
//! (RFC 6455, section 10.2).

use axum::http::{HeaderMap, HeaderName, header};
use url::Url;

use super::AppState;
use crate::config;
use crate::protocol::{ErrorCode, Refusal};

/// Clients can invent any number of origins, so at most this many refused origins are logged.
const MAX_LOGGED: usize = 100;

/// Logs each of the first [`MAX_LOGGED`] refused origins once, since the usual cause of a refusal is a proxy that
/// changes `Host`.
pub(super) fn check(app: &AppState, headers: &HeaderMap) -> Result<(), Refusal> {
    if is_own_or_allowed(headers, &app.options.allowed_origins) {
        return Ok(());
    }
    let (origin, host) = (text(headers, header::ORIGIN), text(headers, header::HOST));
    let mut logged = app.logged_origins.lock();
    if logged.len() < MAX_LOGGED && logged.insert(origin.clone()) {
        tracing::warn!(
            origin,
            host,
            "refused a request whose Origin neither matches the Host header nor is allowed. Configure the proxy to \
             pass Host unchanged, or add the origin to --allowed-origins"
        );
    }
    let message = format!(
        "this origin is not allowed: the page is from {origin}, and the Host header is {host}. A proxy must pass Host \
         unchanged; --allowed-origins adds origins"
    );
    Err(Refusal::permanent(ErrorCode::ForbiddenOrigin, message))
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.unwrap_or_default().chars().take(300).collect()
}

/// Most requests that do not come from a browser have no `Origin`. The comparison with `Host` ignores the scheme, since
/// a proxy may terminate TLS. `null`, a malformed `Origin` and several `Origin` headers are never allowed.
fn is_own_or_allowed(headers: &HeaderMap, allowed: &[Url]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let Ok(text) = origin.to_str() else { return false };
    let Ok(origin) = config::origin(text) else { return false };
    if origins.next().is_some() {
        return false;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(origin.authority())) || allowed.contains(&origin)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allowed(host: &str, origin: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        is_own_or_allowed(&headers, &["https://friend.example".parse().unwrap()])
    }

    #[test]
    fn own_listed_and_absent_origins_are_allowed() {
        assert!(is_own_or_allowed(&HeaderMap::new(), &[]));
        assert!(allowed("chat.example", "https://chat.example"));
        assert!(allowed("chat.example", "http://chat.example"));
        assert!(allowed("Chat.example:808", "http://chat.example:808"));
        assert!(allowed("chat.example", "https://friend.example"));
    }

    #[test]
    fn other_origins_are_foreign() {
        for origin in [
            "null",
            "http://evil.example",
            "http://friend.example",
            "http://chat.example:81",
            "http://chat.example.evil.example",
            "chat.example",
            "http://chat.example/",
        ] {
            assert!(!allowed("chat.example", origin), "{origin} was allowed");
        }
        assert!(!allowed("chat.example:8080", "http://chat.example"));
    }

    #[test]
    fn a_request_with_two_origin_headers_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("chat.example"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://chat.example"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(!is_own_or_allowed(&headers, &[]));
    }
}
