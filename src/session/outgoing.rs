//! Outgoing frames that come from the log: smiles, acks, and the smiles that a session missed.
//!
//! Only this file advances the session's offset.

use std::time::Instant;

use bytes::Bytes;

use super::{CloseReason, End, Session};
use crate::hub::{Outcome, Publication, Push, Taken};
use crate::model::{Offset, Smile, SmileId};
use crate::protocol::ServerFrame;
use crate::store::StoreError;
use crate::telemetry::observe;

/// Smiles in one read while catching up.
const PAGE: usize = 200;

/// Frames written with one flush.
const FRAMES_PER_FLUSH: usize = 64;

impl Session {
    /// Writes the contents of the outbox, and catches up if the outbox overflowed.
    pub(super) async fn deliver(&mut self, taken: Taken) -> Result<(), End> {
        self.write(taken.pushes.into_iter()).await?;
        if taken.lagged {
            // The log holds everything up to the cursor; later publications go to the outbox again.
            Box::pin(self.catch_up(self.context.tail.cursor())).await?;
        }
        Ok(())
    }

    /// Writes frames in groups: one flush and one timeout for each.
    async fn write(&mut self, mut pushes: impl ExactSizeIterator<Item = Push>) -> Result<(), End> {
        while pushes.len() > 0 {
            let now = Instant::now();
            let deadline = now + self.context.times.write_timeout;
            let written = async {
                for push in pushes.by_ref().take(FRAMES_PER_FLUSH) {
                    self.push(push, now).await?;
                }
                self.socket.flush().await
            };
            tokio::time::timeout_at(deadline.into(), written).await.map_err(|_| End::ByServer(CloseReason::Slow))??;
        }
        Ok(())
    }

    async fn push(&mut self, push: Push, now: Instant) -> Result<(), End> {
        match push {
            Push::Publication(publication) => self.publication(&publication, now).await,
            Push::Outcome(id, outcome) => self.outcome(&id, outcome, now).await,
            Push::HandOver => {
                self.leave.get_or_insert((Instant::now(), CloseReason::Rebalance));
                Ok(())
            }
        }
    }

    async fn publication(&mut self, publication: &Publication, now: Instant) -> Result<(), End> {
        let smile = &publication.smile;
        if smile.offset <= self.offset {
            return Ok(());
        }
        self.offset = smile.offset;
        if let Some(ack) = self.answer_own(smile, now) {
            return self.socket.feed(ack).await;
        }
        if let Some(admitted_at) = publication.admitted_at {
            observe(&self.context.metrics.delivery_seconds, now - admitted_at);
        }
        self.socket.feed(publication.frame()).await
    }

    /// Returns the ack if this session sent the smile and still waits for the answer.
    fn answer_own(&mut self, smile: &Smile, now: Instant) -> Option<Bytes> {
        if smile.from != self.user {
            return None;
        }
        let sent = self.in_flight.take(&smile.id)?;
        observe(&self.context.metrics.ack_seconds, now - sent.admitted_at);
        Some(ServerFrame::Ack { id: sent.id, offset: smile.offset, duplicate: false }.encode())
    }

    /// Answers a smile that will not be published, unless the same id from another session of this user was published
    /// meanwhile.
    async fn outcome(&mut self, id: &SmileId, outcome: Outcome, now: Instant) -> Result<(), End> {
        let Some(sent) = self.in_flight.take(id) else { return Ok(()) };
        let answer = match outcome {
            Outcome::Duplicate(offset) => {
                observe(&self.context.metrics.ack_seconds, now - sent.admitted_at);
                ServerFrame::Ack { id: sent.id, offset, duplicate: true }
            }
            Outcome::Refused(refusal) => {
                self.context.metrics.error(refusal.code);
                ServerFrame::refusal(&refusal, sent.named.then(|| sent.id.as_str().to_owned()))
            }
        };
        self.socket.feed(answer.encode()).await
    }

    /// Sends the user's stream after the session's offset up to `until`.
    pub(super) async fn catch_up(&mut self, until: Offset) -> Result<(), End> {
        while self.offset < until {
            let page = self.context.index.stream(&self.user, self.offset, until, PAGE).await;
            let page = page.map_err(|error| match error {
                // Retention removed smiles that this session has not sent. The client learns of the gap when it
                // resumes.
                StoreError::Trimmed => End::ByServer(CloseReason::Slow),
                error => {
                    self.context.metrics.store_failed(&error, "a session cannot catch up; it is closed");
                    End::ByServer(CloseReason::TryAgainLater)
                }
            })?;
            self.context.metrics.smiles_caught_up.inc_by(page.smiles.len() as u64);
            self.write(page.smiles.into_iter().map(Push::Publication)).await?;
            self.offset = page.through;
        }
        Ok(())
    }
}
