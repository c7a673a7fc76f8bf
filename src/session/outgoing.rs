//! What a session sends because the log says so: smiles, acks, and what it missed.
//!
//! Here alone a smile of the log becomes a frame, and the session's position moves.

use std::time::Instant;

use super::{CloseReason, End, Session, SocketError};
use crate::hub::{Outcome, Publication, Push, Taken};
use crate::model::{Offset, Smile, SmileId};
use crate::protocol::ServerFrame;
use crate::store::StoreError;
use crate::telemetry::observe;

/// Smiles in one read while catching up.
const PAGE: usize = 200;

/// Frames that are written with one flush.
const FRAMES_PER_FLUSH: usize = 64;

impl Session {
    /// Writes what was in the outbox, and catches up when something did not fit into it.
    pub(super) async fn deliver(&mut self, taken: Taken) -> Result<(), End> {
        self.write(taken.pushes.into_iter()).await?;
        if taken.lagged {
            // Publications arrive again since the outbox was taken, and everything up to the cursor is in the log.
            Box::pin(self.catch_up(self.context.tail.cursor())).await?;
        }
        Ok(())
    }

    /// Writes the frames of these, a few with one flush and one look at the clock.
    async fn write(&mut self, mut pushes: impl ExactSizeIterator<Item = Push>) -> Result<(), End> {
        while pushes.len() > 0 {
            let now = Instant::now();
            let deadline = now + self.context.times.write_timeout;
            let written = async {
                for push in pushes.by_ref().take(FRAMES_PER_FLUSH) {
                    self.push(push, now).await?;
                }
                self.socket.flush().await.map_err(End::from)
            };
            tokio::time::timeout_at(deadline.into(), written).await.map_err(|_| SocketError::Stuck)??;
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
        if smile.offset <= self.position {
            return Ok(());
        }
        self.position = smile.offset;
        if let Some(ack) = self.answer_own(smile, now) {
            return Ok(self.socket.feed(ack).await?);
        }
        if let Some(admitted_at) = publication.admitted_at {
            observe(&self.context.metrics.delivery_seconds, now - admitted_at);
        }
        Ok(self.socket.feed(publication.frame()).await?)
    }

    /// The ack for a smile that this session waits for, if it is one.
    fn answer_own(&mut self, smile: &Smile, now: Instant) -> Option<String> {
        if smile.from != self.user {
            return None;
        }
        let sent = self.pending.take(&smile.id)?;
        observe(&self.context.metrics.ack_seconds, now - sent.admitted_at);
        Some(ServerFrame::Ack { id: sent.id, offset: smile.offset, duplicate: false }.encode())
    }

    /// Answers a smile that will not be published. Another session of this user may have had the same id published
    /// meanwhile, which was the answer.
    async fn outcome(&mut self, id: &SmileId, outcome: Outcome, now: Instant) -> Result<(), End> {
        let Some(sent) = self.pending.take(id) else { return Ok(()) };
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
        Ok(self.socket.feed(answer.encode()).await?)
    }

    /// Sends what the log holds for this user from the session's position up to `until`.
    pub(super) async fn catch_up(&mut self, until: Offset) -> Result<(), End> {
        while self.position < until {
            let page = self.context.index.stream(&self.user, self.position, until, PAGE).await;
            let page = page.map_err(|error| match error {
                // It lagged for as long as smiles are kept. Resuming, it is told that it missed some.
                StoreError::Trimmed => End::Close(CloseReason::Slow),
                error => {
                    self.context.metrics.store_failed(&error, "a session cannot catch up; it is closed");
                    End::Close(CloseReason::TryAgainLater)
                }
            })?;
            self.context.metrics.smiles_caught_up.inc_by(page.smiles.len() as u64);
            self.write(page.smiles.into_iter().map(Push::Publication)).await?;
            self.position = page.through;
        }
        Ok(())
    }
}
