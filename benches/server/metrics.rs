//! Reads the servers' `/metrics`.

use std::time::Duration;

use crate::client::get;
use crate::process::Server;

/// The gauge of the index lag, in smiles.
const INDEX_BEHIND: &str = "smilingchat_index_behind";

/// The number of appends since the servers started, and the number of smiles in these appends.
pub(crate) async fn appends(servers: &[Server]) -> (f64, f64) {
    let (mut appends, mut smiles) = (0.0, 0.0);
    for server in servers {
        appends += value(server, "smilingchat_append_smiles_count").await.unwrap_or_default();
        smiles += value(server, "smilingchat_append_smiles_sum").await.unwrap_or_default();
    }
    (appends, smiles)
}

pub(crate) async fn index_behind(servers: &[Server]) -> Option<f64> {
    let mut most = None;
    for server in servers {
        most = value(server, INDEX_BEHIND).await.into_iter().chain(most).reduce(f64::max);
    }
    most
}

/// Waits until the index has caught up or has made no progress for about a second.
pub(crate) async fn index_settled(servers: &[Server]) {
    const INTERVAL: Duration = Duration::from_millis(100);
    const WITHOUT_PROGRESS: u32 = 10;
    let (mut last, mut without_progress) = (f64::INFINITY, 0);
    while let Some(behind) = index_behind(servers).await {
        without_progress = if behind < last { 0 } else { without_progress + 1 };
        if behind <= 0.0 || without_progress == WITHOUT_PROGRESS {
            return;
        }
        last = behind;
        tokio::time::sleep(INTERVAL).await;
    }
}

pub(crate) async fn sessions(server: &Server) -> usize {
    value(server, "smilingchat_sessions").await.expect("the server should report its open sessions") as usize
}

/// `None` if the server does not report the metric. The echo and the peers have no metrics.
async fn value(server: &Server, name: &str) -> Option<f64> {
    let answer = get(server.operations?, "/metrics").await;
    let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}
