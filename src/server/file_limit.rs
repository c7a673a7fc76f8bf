//! The limit of open files: raises it, and divides the files between sessions and everything else.
//!
//! Probes, requests and the store need files as well. Without a reserve an orchestrator would take a full replica for
//! dead.

use rlimit::Resource;

use super::ServerError;

/// Files for the store, the listeners, the log and the runtime. SQLite under load needs 25; the rest is a reserve.
const OWN: u64 = 64;

/// Concurrent HTTP connections of one listener. Sessions do not count: they have left HTTP.
const MOST_CONNECTIONS: u64 = 2048;

/// The maximum numbers of concurrent sessions and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileBudget {
    pub(super) sessions: usize,
    /// HTTP connections of each of the two listeners.
    pub(super) connections: usize,
}

/// Raises the limit as far as possible. Logs a warning if it allows fewer than `max_sessions` sessions.
///
/// # Errors
/// [`ServerError::TooFewFiles`] if the limit allows no session, [`ServerError::FileLimit`] if it is unknown.
pub(super) fn file_budget(max_sessions: u32) -> Result<FileBudget, ServerError> {
    let limit = rlimit::increase_nofile_limit(u64::MAX).or_else(|error| {
        tracing::warn!(%error, "cannot raise the limit of open files");
        Resource::NOFILE.get_soft()
    });
    let limit = limit.map_err(ServerError::FileLimit)?;
    let file_budget = divide(limit, max_sessions);
    if file_budget.sessions == 0 {
        return Err(ServerError::TooFewFiles(limit));
    }
    if file_budget.sessions < max_sessions as usize {
        tracing::warn!(
            limit,
            max_sessions,
            sessions = file_budget.sessions,
            "the limit of open files allows fewer sessions than --max-sessions; further ones get 503. To raise it, set \
             ulimit -n, or nofile in the settings of the container or service"
        );
    }
    Ok(file_budget)
}

fn divide(limit: u64, max_sessions: u32) -> FileBudget {
    let connections = (limit / 8).min(MOST_CONNECTIONS);
    let sessions = limit.saturating_sub(OWN + 2 * connections).min(max_sessions.into());
    let number = |files| usize::try_from(files).unwrap_or(usize::MAX);
    FileBudget { sessions: number(sessions), connections: number(connections) }
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
            (u64::MAX, 15_000, 2048),
        ] {
            assert_eq!(divide(limit, 15_000), FileBudget { sessions, connections }, "{limit}");
        }
    }
}
