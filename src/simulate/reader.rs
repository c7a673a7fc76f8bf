//! The second look: reads a user's part of the log once more, from before the run to its last smile.
//!
//! Owns one session that only reads. Must not judge what it reads; the ledger compares it with what was seen live.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::sleep;

use super::Shared;
use super::backoff::Backoff;
use super::connection::{Connection, Heard, Position};
use super::ledger::{Event, Rereading, Welcomed};
use crate::protocol::ServerFrame;

/// Reads until the head is reached, over as many connections as it takes.
pub(super) async fn reread(rereading: Rereading, shared: Arc<Shared>) {
    let stream = rereading.stream;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(stream as u64);
    let mut backoff = Backoff::default();
    let mut position = Position { epoch: rereading.epoch.clone(), offset: rereading.start };
    for attempt in 0_usize.. {
        let url = &shared.urls[(stream + attempt) % shared.urls.len()];
        let hint = match Connection::open(url, &rereading.user, Some(&position), &shared.patience).await {
            Ok(mut connection) => {
                if read(&mut connection, &rereading, &mut position, &shared).await {
                    return connection.close().await;
                }
                shared.note(stream, Event::ConnectionLost).await;
                None
            }
            Err(refusal) => {
                shared.note(stream, Event::NotConnected { cause: refusal.cause }).await;
                refusal.retry_after
            }
        };
        let wait: Duration = backoff.next(hint, &mut random);
        sleep(wait).await;
    }
}

/// Reads one session; true when there is nothing more to read, false when the connection is gone.
async fn read(connection: &mut Connection, rereading: &Rereading, position: &mut Position, shared: &Shared) -> bool {
    let resumed_from = Some(position.offset);
    loop {
        let event = match connection.next().await {
            Heard::Gone(_) => return false,
            Heard::NotAFrame(why) => Event::BreachOfContract(format!("not a frame: {why}")),
            Heard::Frame(ServerFrame::Welcome { replica, epoch, offset, recovered, .. }) => {
                let welcomed = Welcomed { replica, epoch, offset, recovered, resumed_from };
                shared.note(rereading.stream, Event::Welcomed(welcomed)).await;
                if !recovered {
                    return true;
                }
                continue;
            }
            Heard::Frame(ServerFrame::Smile(smile)) => {
                position.see_smile(smile.offset);
                Event::Received(smile)
            }
            Heard::Frame(_) => continue,
        };
        shared.note(rereading.stream, event).await;
        if position.offset >= rereading.head {
            return true;
        }
    }
}
