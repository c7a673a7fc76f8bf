//! What the integration tests share: the real program, the browser that drives its page, and waiting for a condition.
//!
//! Owns how a test starts things and how long it is patient. Must not know what any one test is about.

pub(crate) mod misbehaving;
pub(crate) mod server_process;
pub(crate) mod webdriver;

use std::time::{Duration, Instant};

/// How long a test waits for what must come: far longer than it ever takes, so that only a fault uses it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// From one look at a condition to the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The outcome of `future`, which must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}

/// Looks until the condition holds, which it must.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
