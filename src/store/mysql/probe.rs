//! Finds out which MySQL server the address of the store points to, and whether that server answers.
//!
//! A probe is one connection. While the server answers, a probe is opened about every 3 s, and earlier when an answer
//! is overdue. While the server is silent, the pause between two probes grows from 1 s to 8 s.

use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sqlx::{Connection, Error};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connections::{ANSWER_TIMEOUT, timed_out, within};
use super::server::MySqlServer;

/// Pause before the next probe if no answer becomes overdue, in addition to [`PAUSE`]. While an old primary still
/// accepts writes, no open connection shows that the address now points to a new primary.
const INTERVAL: Duration = Duration::from_secs(3);

/// Shortest pause between two probes, however many answers are overdue.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that does not answer a probe within this time counts as silent. The next probe then starts, since the
/// address may now point to another server.
const SILENT: Duration = Duration::from_secs(1);

/// Longest pause between two probes of a silent server. The pause grows with the silence, since a frozen server keeps
/// every probe in its queue, and counts all of them as connections when it resumes.
const LONGEST: Duration = Duration::from_secs(8);

/// Time limit of a probe. A probe keeps waiting when the next one starts, so a server that resumes answers the waiting
/// probe immediately.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// Pause after a silence before the other connections are opened. Within tens of milliseconds, a server that resumes
/// accepts every connection in its queue, and closes the abandoned ones.
const SETTLING: Duration = Duration::from_millis(250);

/// Probes the server until the store is dropped.
pub(super) async fn run(server: Weak<MySqlServer>, mut overdue: watch::Receiver<bool>) {
    loop {
        let _ = timeout(INTERVAL, overdue.wait_for(|overdue| *overdue)).await;
        if until_it_answers(&server).await.is_none() {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Starts one probe after another until the server answers. Any error other than a timeout counts as an answer. Returns
/// `None` once the store is dropped.
async fn until_it_answers(server: &Weak<MySqlServer>) -> Option<()> {
    // A panic in a probe counts as an answer.
    let (since, mut probes) = (Instant::now(), JoinSet::new());
    loop {
        let server = server.upgrade()?;
        let target = Arc::clone(&server);
        probes.spawn(async move { within(GIVEN_UP, target.open()).await });
        let answer = async {
            while let Some(answer) = probes.join_next().await {
                if !matches!(&answer, Ok(Err(error)) if timed_out(error)) {
                    return answer;
                }
            }
            pending().await
        };
        let pause = since.elapsed().clamp(SILENT, LONGEST);
        if let Ok(answer) = timeout(pause, answer).await {
            if since.elapsed() > SILENT {
                sleep(SETTLING).await;
            }
            server.overdue.send_replace(false);
            if let Ok(Ok(session)) = answer {
                // Best effort: without the close, MySQL logs a note about an aborted connection.
                let _ = within::<_, Error>(ANSWER_TIMEOUT, session.connection.close()).await;
            }
            return Some(());
        }
        server.overdue.send_replace(true);
    }
}
