//! Reads a user's stream once more after the run, from before its start to its last smile.
//!
//! The ledger compares the result with what the sessions received live.

use std::sync::Arc;

use super::Shared;
use super::ledger::Rereading;
use crate::client::{Client, Event, ResumePoint};

/// Reads until the head is reached, over as many connections as it takes.
pub(super) async fn reread(rereading: Rereading, shared: Arc<Shared>) {
    let Rereading { stream, user, epoch, start, head } = rereading;
    let resume_point = ResumePoint { epoch, offset: start };
    let mut client = Client::resume(shared.urls_from(stream), user, shared.patience.client, resume_point);
    loop {
        let event = client.next().await;
        let last = match &event {
            Event::Welcomed { recovered, .. } => !recovered,
            Event::Received(smile) => smile.offset >= head,
            Event::Ended => true,
            _ => false,
        };
        shared.tell(stream, event).await;
        if last {
            return client.close().await;
        }
    }
}
