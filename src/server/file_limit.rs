//! Raises the limit on open files, and divides it between sessions and everything else.
//!
//! Probes, requests and the store need files as well. Without a reserve for them, an orchestrator would consider a full
//! replica dead.

use rlimit::Resource;

use super::ServerError;

/// Number of files for the store, the listeners, the log output and the runtime. SQLite under load needs 25; the rest
/// is a reserve.
const OWN: u32 = 64;

/// Maximum number of concurrent HTTP connections of one listener. Sessions do not count: their connections no longer
/// serve HTTP.
const MAX_CONNECTIONS: u32 = 2048;

/// Returns the maximum number of concurrent sessions, and that of HTTP connections for each of the two listeners. An
/// unknown limit counts as 0.
pub(super) fn divide_files(max_sessions: u32) -> Result<(u32, u32), ServerError> {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    let limit = raised.or_else(|_| Resource::NOFILE.get_soft()).unwrap_or_default();
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let (sessions, connections) = divide(limit, max_sessions);
    if sessions == 0 {
        return Err(ServerError::TooFewFiles(limit));
    }
    if sessions < max_sessions {
        tracing::warn!(
            limit,
            max_sessions,
            sessions,
            "the limit on open files allows fewer sessions than --max-sessions; further sessions get 503. To raise the \
             limit, set ulimit -n, or nofile in the settings of the container or service"
        );
    }
    Ok((sessions, connections))
}

fn divide(limit: u32, max_sessions: u32) -> (u32, u32) {
    let connections = (limit / 8).min(MAX_CONNECTIONS);
    let sessions = limit.saturating_sub(OWN + 2 * connections).min(max_sessions);
    (sessions, connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_divided_within_the_limit() {
        for (limit, sessions, connections) in [
            (0, 0, 0),
            (64, 0, 8),
            (256, 128, 32),
            (1024, 704, 128),
            (16_384, 12_224, 2048),
            (20_000, 15_000, 2048),
            (u32::MAX, 15_000, 2048),
        ] {
            assert_eq!(divide(limit, 15_000), (sessions, connections), "a limit of {limit} files was divided wrongly");
        }
    }
}
