//! The simulated users of the store, asked from a replica.
//!
//! Owns the question. Must not know what the users will do.

use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use crate::http_client;
use crate::model::{User, UserName};
use crate::protocol;

const PATIENCE: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// The first users of the store are simulated; the rest are for people.
const SIMULATED: usize = 60;

/// Asks one replica after the other for the users, a few times over.
///
/// # Errors
/// Says what the last one answered when none gave the users.
pub(super) async fn users(urls: &[Url]) -> Result<Vec<UserName>, String> {
    let mut last = "no URL to ask".to_owned();
    for round in 0..ROUNDS {
        if round > 0 {
            sleep(PAUSE).await;
        }
        for url in urls {
            match ask(url).await {
                Ok(users) => return Ok(users),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

async fn ask(websocket: &Url) -> Result<Vec<UserName>, String> {
    let url = on_the_same_host(websocket, "/api/users").ok_or_else(|| format!("{websocket} has no host"))?;
    let (status, body) = http_client::get(&url, PATIENCE).await?;
    if !status.is_success() {
        return Err(format!("GET {url}: {status}"));
    }
    let users: Vec<User> = protocol::from_json(&body).map_err(|error| format!("GET {url}: not users: {error}"))?;
    Ok(users.into_iter().take(SIMULATED).map(|user| user.name).collect())
}

/// A path on the host of a WebSocket.
pub(super) fn on_the_same_host(websocket: &Url, path: &str) -> Option<Url> {
    let mut url = websocket.clone();
    url.set_scheme("http").ok()?;
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_are_on_the_same_host() {
        for (websocket, users) in [
            ("ws://127.0.0.1:8080/ws", "http://127.0.0.1:8080/api/users"),
            ("ws://[::1]:9/ws?user=anna#x", "http://[::1]:9/api/users"),
            ("ws://chat.example/ws", "http://chat.example/api/users"),
        ] {
            assert_eq!(on_the_same_host(&Url::parse(websocket).unwrap(), "/api/users").unwrap().as_str(), users);
        }
    }
}
