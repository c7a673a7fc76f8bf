//! One replica after the other is made to crash while a run is under way.
//!
//! Owns the asking. Which replica it is, the server picks; what it costs, the ledger reckons.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::interval;
use url::Url;

use super::Shared;
use super::ledger::Event;
use crate::http_client;
use crate::protocol;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Crashed {
    replica: String,
}

/// Has a replica crash every so often, for ever.
pub(super) async fn crash_every(every: Duration, shared: Arc<Shared>) {
    let mut ticks = interval(every);
    // The first tick comes at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let at = shared.now();
        let event = match crash_one(&shared.urls).await {
            Ok(replica) => Event::Crashed { replica },
            Err(cause) => Event::NotCrashed { cause },
        };
        shared.note_at(0, at, event).await;
    }
}

/// Asks one after the other until one answers: who goes down, or why nobody does.
async fn crash_one(urls: &[Url]) -> Result<String, String> {
    let mut last = "no URL to ask".to_owned();
    for url in urls {
        let url = super::directory::on_the_same_host(url, "/api/crash").ok_or_else(|| format!("{url} has no host"))?;
        match http_client::post(&url, "{}".to_owned(), PATIENCE).await {
            Ok((status, body)) if status.is_success() => {
                let crashed: Crashed = protocol::from_json(&body)?;
                return Ok(crashed.replica);
            }
            Ok((status, _)) => last = format!("POST {url}: {status}"),
            Err(error) => last = error,
        }
    }
    Err(last)
}
