//! The files that the system lets this process open: raises their limit, and divides them.
//!
//! Sessions are not all that needs a file: probes, requests and the store must get theirs when the sessions are many, or
//! whoever watches over the replicas takes the full ones for dead.

use rlimit::Resource;

use super::ServerError;

/// For the store, the listeners, the log and the runtime. 25 were counted under load on SQLite; the rest is reserve.
const OWN: u64 = 64;

/// Connections of one listener that speak HTTP at the same time, sessions aside: they have left HTTP by then.
const MOST_CONNECTIONS: u64 = 2048;

/// How many of each there may be at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileBudget {
    /// Sessions.
    pub(super) sessions: usize,
    /// Connections of each of the two listeners that speak HTTP.
    pub(super) connections: usize,
}

/// Raises the limit as far as it goes, and says when that leaves room for fewer sessions than are wanted.
///
/// # Errors
/// When there is no room for a single one.
pub(super) fn file_budget(max_sessions: u32) -> Result<FileBudget, ServerError> {
    let limit = rlimit::increase_nofile_limit(u64::MAX).or_else(|error| {
        tracing::warn!(%error, "the limit of open files stays as it is");
        Resource::NOFILE.get_soft()
    });
    let limit =
        limit.map_err(|error| ServerError::Options(format!("the limit of open files is not known: {error}")))?;
    let file_budget = divide(limit, max_sessions);
    if file_budget.sessions == 0 {
        return Err(ServerError::Options(format!(
            "a process may open {limit} files here, which leaves none for sessions: raise the limit, with ulimit -n say"
        )));
    }
    if file_budget.sessions < max_sessions as usize {
        tracing::warn!(
            limit,
            max_sessions,
            sessions = file_budget.sessions,
            "the limit of open files leaves room for fewer sessions than --max-sessions; more are answered 503. To raise it, \
             set ulimit -n, or nofile in the container's or service's settings"
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
    fn every_file_is_given_out_once() {
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
