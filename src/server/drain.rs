//! The drain before a shutdown: closes the sessions in groups.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::AppState;
use crate::protocol::CloseReason;

/// Interval between two groups of leaving sessions, so that their clients do not all reconnect at once.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

const GROUP: usize = 50;

/// The part of the drain timeout reserved for requests in progress and for closing the store.
pub(super) const CLOSE_RESERVE: Duration = Duration::from_secs(1);

/// Aborts the sessions that remain [`CLOSE_RESERVE`] before the deadline. The caller waits for their end.
pub(super) async fn drain(app: Arc<AppState>, deadline: Instant) {
    let timeout = deadline.duration_since(Instant::now());
    let sessions = app.context.hub.sessions();
    tracing::info!(sessions, timeout_seconds = timeout.as_secs_f64().round(), "draining");
    app.context.replica.start_draining();
    app.sessions.close();
    let group = drain_group(sessions, timeout);
    let last_sessions = deadline.checked_sub(CLOSE_RESERVE).unwrap_or(deadline);
    // Wait and announce at the same time: a hanging store must not delay the end of the sessions.
    let leaving = async { tokio::join!(app.sessions.wait(), app.context.replica.announce()) };
    let mut leaving = pin!(tokio::time::timeout_at(last_sessions.into(), leaving));
    // Each pass asks one group to leave. A handshake in progress may still open a session, so the passes continue until
    // `leaving` has completed or timed out.
    loop {
        app.context.hub.ask_to_leave(group, CloseReason::Restart);
        if tokio::time::timeout(DRAIN_INTERVAL, leaving.as_mut()).await.is_ok() {
            break;
        }
    }
    if !app.sessions.is_empty() {
        tracing::warn!(sessions = app.sessions.len(), "the time to drain has passed; aborting the remaining sessions");
        app.abort_sessions.cancel();
    }
}

/// The number of sessions in a group: [`GROUP`], or as many as it takes to ask all sessions within half the timeout.
fn drain_group(sessions: usize, timeout: Duration) -> usize {
    let groups = timeout.as_millis() / 2 / DRAIN_INTERVAL.as_millis();
    sessions.div_ceil(usize::try_from(groups).unwrap_or(usize::MAX).max(1)).max(GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_drain_fit_into_half_the_timeout() {
        let group = |sessions, seconds| drain_group(sessions, Duration::from_secs(seconds));
        assert_eq!(group(0, 20), 50);
        assert_eq!(group(1000, 20), 50);
        assert_eq!(group(15_000, 20), 150);
        assert_eq!(group(15_000, 0), 15_000);
    }
}
