//! What a session sends because the log says so: smiles, acks, and what it missed.
//!
//! Owns the one place where a smile of the log becomes a frame, and the session's position moves.

use std::time::Instant;

use super::{CloseReason, End, Session};
use crate::hub::{OUTBOX, Outcome, Publication, Push, Ticket};
use crate::model::{Offset, Smile};
use crate::protocol::ServerFrame;
use crate::store::StoreError;
use crate::telemetry::observe_since;

/// Smiles in one read while catching up.
const PAGE: u32 = 200;

/// Frames that are written with one flush.
const FRAMES_PER_FLUSH: usize = 64;

impl Session {
    /// Writes what the outbox holds, and catches up when something did not fit into it.
    pub(super) async fn deliver(&mut self, first: Push) -> Result<(), End> {
        self.push(first).await?;
        self.drain_outbox().await?;
        let position = &self.context.position;
        if let Some((until, outcomes)) = self.subscription.take_lagged(|| position.get()) {
            // They must be known before the log is read, to tell this session's smiles from repeats of them.
            for outcome in outcomes {
                self.push(outcome).await?;
            }
            self.socket.flush().await?;
            Box::pin(self.catch_up(until)).await?;
        }
        Ok(())
    }

    /// Writes an outbox's worth. What comes after that waits for the next turn: the socket is to be read too.
    async fn drain_outbox(&mut self) -> Result<(), End> {
        for written in 1..=OUTBOX {
            let Some(push) = self.subscription.next_now() else { break };
            self.push(push).await?;
            if written % FRAMES_PER_FLUSH == 0 {
                self.socket.flush().await?;
            }
        }
        Ok(self.socket.flush().await?)
    }

    async fn push(&mut self, push: Push) -> Result<(), End> {
        match push {
            Push::Publication(publication) => self.publication(&publication).await,
            Push::Outcome(ticket, outcome) => self.outcome(ticket, outcome).await,
            Push::HandOver => {
                self.leave.get_or_insert((Instant::now(), CloseReason::Rebalance));
                Ok(())
            }
        }
    }

    async fn publication(&mut self, publication: &Publication) -> Result<(), End> {
        let smile = &publication.smile;
        if smile.offset <= self.position {
            return Ok(());
        }
        self.position = smile.offset;
        if let Some(ack) = self.answer_own(smile) {
            return Ok(self.socket.feed(ack).await?);
        }
        if let Some(admitted_at) = publication.admitted_at {
            observe_since(&self.context.metrics.delivery_seconds, admitted_at);
        }
        Ok(self.socket.feed(publication.frame()).await?)
    }

    /// The ack for a smile of this session that came back from the log, if it is one. It is answered with that.
    fn answer_own(&mut self, smile: &Smile) -> Option<String> {
        if smile.from != self.user {
            return None;
        }
        let admitted_at = self.pending.published(&smile.id)?;
        observe_since(&self.context.metrics.ack_seconds, admitted_at);
        Some(ServerFrame::Ack { id: smile.id.clone(), offset: smile.offset, duplicate: false }.encode())
    }

    async fn outcome(&mut self, ticket: Ticket, outcome: Outcome) -> Result<(), End> {
        let answer = match outcome {
            Outcome::Stored => {
                self.pending.stored(ticket);
                return Ok(());
            }
            Outcome::Duplicate(offset) => {
                let Some(sent) = self.pending.take(ticket) else { return Ok(()) };
                observe_since(&self.context.metrics.ack_seconds, sent.admitted_at);
                ServerFrame::Ack { id: sent.id, offset, duplicate: true }
            }
            Outcome::Refused(refusal) => {
                let Some(sent) = self.pending.take(ticket) else { return Ok(()) };
                self.context.metrics.error(refusal.code);
                ServerFrame::refusal(&refusal, sent.named.then(|| sent.id.as_str().to_owned()))
            }
        };
        Ok(self.socket.feed(answer.encode()).await?)
    }

    /// Sends what the log holds for this user from the session's position up to `until`.
    pub(super) async fn catch_up(&mut self, until: Offset) -> Result<(), End> {
        while self.position < until {
            let page = self.context.store.read_stream(&self.user, self.position, until, PAGE).await;
            let page = page.map_err(|error| match error {
                // It lagged for as long as smiles are kept. Resuming, it is told that it missed some.
                StoreError::Trimmed => End::Close(CloseReason::Slow),
                error => {
                    tracing::warn!(%error, user = %self.user, "a session cannot catch up; it is closed");
                    End::Close(CloseReason::TryAgainLater)
                }
            })?;
            for smile in page.smiles {
                self.publication(&Publication::new(smile, None)).await?;
                self.context.metrics.smiles_caught_up.inc();
            }
            self.socket.flush().await?;
            self.position = page.through;
        }
        Ok(())
    }
}
