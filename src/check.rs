//! `smilingchat check`: asks a replica once whether it is ready, for images without a shell.
//!
//! Owns the meaning of the answer. Must not know how readiness comes about.

use std::time::Duration;

use crate::config::CheckOptions;
use crate::http_client;

const PATIENCE: Duration = Duration::from_secs(3);

/// Asks once.
///
/// # Errors
/// Says in one line why it is not ready: the answer was not 2xx, or there was none within 3 s.
pub async fn check(options: &CheckOptions) -> Result<(), String> {
    let (status, body) = http_client::get(&options.url, PATIENCE).await?;
    if status.is_success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&body);
    Err(format!("GET {}: {status} {}", options.url, reason.trim().chars().take(200).collect::<String>()))
}
