//! Who may act from a browser: the page itself, and the origins on the allow-list (RFC 6455, section 10.2).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use super::Refused;
use crate::config::Origin;
use crate::protocol::ErrorCode;

/// The most origins that are logged: anybody can make up more.
const LOGGED: usize = 100;

/// The allow-list, and which origins were refused.
#[derive(Debug)]
pub struct Origins {
    allowed: Vec<Origin>,
    logged: Mutex<HashSet<String>>,
}

impl Origins {
    /// With these origins allowed besides the request's own.
    #[must_use]
    pub fn new(allowed: Vec<Origin>) -> Self {
        Self { allowed, logged: Mutex::default() }
    }

    /// Refuses a request with a foreign `Origin`, and logs the first of each: mostly that is the page itself, behind a proxy
    /// that changes `Host`.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if is_own_or_allowed(headers, &self.allowed) {
            return Ok(());
        }
        let (origin, host) = (text(headers, header::ORIGIN), text(headers, header::HOST));
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < LOGGED && logged.insert(origin.clone()) {
            let advice = "a browser was refused: its Origin is not the Host that arrived. Let the proxy pass Host on \
                unchanged, or name the origin in --allowed-origins";
            tracing::warn!(origin, host, advice);
        }
        let message = format!(
            "this origin is not allowed here: the page is from {origin}, and the Host that arrived is {host}. A proxy must \
             pass Host on unchanged; --allowed-origins names other origins"
        );
        Err(Refused::permanent(StatusCode::FORBIDDEN, ErrorCode::ForbiddenOrigin, message))
    }
}

/// A header as it can be shown: as much of it as a name has.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.unwrap_or_default().chars().take(300).collect()
}

/// Whether the `Origin` of a request is absent (no browser), the request's own, or allowed. The scheme of the own one is
/// not compared, since TLS may end before us. `null` is foreign.
fn is_own_or_allowed(headers: &HeaderMap, allowed: &[Origin]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let Ok(text) = origin.to_str() else { return false };
    let Ok(origin) = text.parse::<Origin>() else { return false };
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
    fn the_own_host_and_the_list_are_allowed() {
        assert!(is_own_or_allowed(&HeaderMap::new(), &[]));
        assert!(allowed("chat.example", "https://chat.example"));
        assert!(allowed("chat.example", "http://chat.example"));
        assert!(allowed("Chat.example:808", "http://chat.example:808"));
        assert!(allowed("chat.example", "https://friend.example"));
    }

    #[test]
    fn everything_else_is_foreign() {
        for origin in [
            "null",
            "http://evil.example",
            "http://friend.example",
            "http://chat.example:81",
            "http://chat.example.evil.example",
            "chat.example",
            "http://chat.example/",
        ] {
            assert!(!allowed("chat.example", origin), "{origin}");
        }
        assert!(!allowed("chat.example:8080", "http://chat.example"));
    }

    #[test]
    fn two_origins_are_foreign() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("chat.example"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://chat.example"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(!is_own_or_allowed(&headers, &[]));
    }
}
