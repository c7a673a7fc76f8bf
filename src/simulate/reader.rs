//! Reads a user's stream again at the end of the run, from the lowest offset at which a seat of the user started.
//!
//! The ledger compares the smiles of this stream with those that it knows to be in the log.

use std::sync::Arc;

use super::Shared;
use super::ledger::Rereading;
use crate::client::{Client, Event, ResumePoint};

pub(super) async fn reread(rereading: Rereading, shared: Arc<Shared>) {
    let Rereading { stream, user, epoch, start, head } = rereading;
    let resume_point = ResumePoint { epoch: epoch.clone(), offset: start };
    let mut client = Client::resume(shared.urls_from(stream), user, shared.patience.client, resume_point);
    loop {
        let event = client.next().await;
        let last = match &event {
            Event::Welcomed { recovered, epoch: of_session, .. } => !recovered || *of_session != epoch,
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
