//! Crashes one replica after another while smiles are sent.
//!
//! The server picks the replica that crashes; the ledger measures the effect.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::ledger::Event;
use super::{Course, Shared};
use crate::client::api::{self, ApiError};
use crate::protocol::CrashRequest;

/// Requests a crash at the end of every interval until sending ends. A request whose answer takes longer than the
/// interval delays later requests. Returns after the answer to the last request.
pub(super) async fn crash_every(
    every: Duration,
    token: Option<String>,
    shared: Arc<Shared>,
    mut course: watch::Receiver<Course>,
) {
    let began = Instant::now();
    let end = began + shared.plan.duration();
    let mut ticks = interval_at(began + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let tick = tokio::select! {
            biased;
            _ = course.wait_for(|course| course.end.is_some()) => return,
            tick = ticks.tick() => tick,
        };
        if tick >= end {
            return;
        }
        let at = shared.now();
        let event = match crash_one(&shared, token.as_deref()).await {
            Ok(replica) => Event::Crashed { replica },
            Err(error) => Event::NotCrashed { cause: error.to_string() },
        };
        shared.note_at(0, at, event).await;
    }
}

/// Returns the id of the replica that crashes, which need not be the replica that accepts the request.
async fn crash_one(shared: &Shared, token: Option<&str>) -> Result<String, ApiError> {
    let mut last = ApiError::NoUrl;
    for url in &shared.urls {
        match api::crash(url, &CrashRequest::default(), token).await {
            Ok(crashed) => return Ok(crashed.replica),
            Err(error) => last = error,
        }
    }
    Err(last)
}
