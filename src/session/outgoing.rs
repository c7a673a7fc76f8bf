//! Sends what comes from the outbox: smiles, acks, and refusals of smiles that were not stored. Also reads from the
//! index the smiles that a session missed, and sends them.
//!
//! After `welcome`, only this file advances the session's offset.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::{CloseReason, End, Session};
use crate::hub::{Publication, Push, Queue};
use crate::model::{Offset, SmileId};
use crate::protocol::{Refusal, ServerFrame};
use crate::store::StoreError;

/// Maximum number of smiles that a session reads at once while it catches up.
const PAGE: usize = 200;

const FRAMES_PER_FLUSH: usize = 64;

/// A smile that was submitted to the log and waits for its answer.
///
/// An entry of the outbox with the same id answers the smile. A publication answers it only if the session's user is
/// the sender. If a session sends one id twice, each answer goes to one of the two frames. The client cannot tell which
/// answer belongs to which frame.
pub(super) struct SmileInFlight {
    pub(super) id: SmileId,
    /// Whether the client chose the id. An error repeats only an id that the client chose.
    pub(super) named: bool,
    pub(super) admitted_at: Instant,
}

/// Removes the oldest smile with this id.
fn take(in_flight: &mut VecDeque<SmileInFlight>, id: &SmileId) -> Option<SmileInFlight> {
    let index = in_flight.iter().position(|sent| sent.id == *id)?;
    in_flight.remove(index)
}

impl Session {
    pub(super) async fn deliver(&mut self, taken: Queue) -> Result<(), End> {
        self.write(taken.pushes.into_iter()).await?;
        if taken.lagged {
            // The log holds everything up to the cursor; later publications go to the outbox again.
            Box::pin(self.catch_up(self.context.tail.cursor())).await?;
        }
        Ok(())
    }

    /// Writes frames in groups, each with one flush and one timeout.
    async fn write(&mut self, mut pushes: impl ExactSizeIterator<Item = Push>) -> Result<(), End> {
        while pushes.len() > 0 {
            let now = Instant::now();
            let deadline = now + self.context.times.write_timeout;
            let written = async {
                for push in pushes.by_ref().take(FRAMES_PER_FLUSH) {
                    self.feed(push, now).await?;
                }
                self.socket.flush().await
            };
            tokio::time::timeout_at(deadline.into(), written).await.map_err(|_| End::ByServer(CloseReason::Slow))??;
        }
        Ok(())
    }

    async fn feed(&mut self, push: Push, now: Instant) -> Result<(), End> {
        let frame = match push {
            Push::Publication(publication) if publication.smile.offset <= self.offset => None,
            Push::Publication(publication) => Some(self.ack_or_smile(&publication, now)),
            Push::Duplicate(id, offset) => self.take_ack(&id, offset, true, now),
            Push::Refused(id) => self.take_refusal(&id),
            Push::Leave(reason) => {
                self.leave = Some(reason);
                None
            }
        };
        let Some(frame) = frame else { return Ok(()) };
        self.socket.feed(frame).await
    }

    fn ack_or_smile(&mut self, publication: &Publication, now: Instant) -> Bytes {
        let smile = &publication.smile;
        self.offset = smile.offset;
        let own = smile.from == self.user;
        if let Some(ack) = own.then(|| self.take_ack(&smile.id, smile.offset, false, now)).flatten() {
            return ack;
        }
        if let Some(admitted_at) = publication.admitted_at {
            self.context.metrics.delivery_seconds.observe((now - admitted_at).as_secs_f64());
        }
        publication.frame()
    }

    /// `None` if this session has no smile with this id in flight: the smile was answered already, or another session
    /// of the user sent it.
    fn take_ack(&mut self, id: &SmileId, offset: Offset, duplicate: bool, now: Instant) -> Option<Bytes> {
        let sent = take(&mut self.in_flight, id)?;
        self.context.metrics.ack_seconds.observe((now - sent.admitted_at).as_secs_f64());
        Some(ServerFrame::Ack { id: sent.id, offset, duplicate }.encode())
    }

    fn take_refusal(&mut self, id: &SmileId) -> Option<Bytes> {
        let sent = take(&mut self.in_flight, id)?;
        let refusal = Refusal::store_unavailable();
        self.context.metrics.error(refusal.code);
        Some(ServerFrame::refusal(refusal, sent.named.then(|| sent.id.as_str().to_owned())).encode())
    }

    /// Sends the user's stream after the session's offset up to `until`.
    pub(super) async fn catch_up(&mut self, until: Offset) -> Result<(), End> {
        while self.offset < until {
            let page = self.context.index.stream(&self.user, self.offset, until, PAGE).await;
            let page = page.map_err(|error| match error {
                // Retention has removed a part of the log that this session has not sent. The client learns of the gap
                // when it resumes.
                StoreError::Trimmed => End::ByServer(CloseReason::Slow),
                error => {
                    self.context.metrics.log_store_failure(&error, "a session cannot catch up; closing it");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_the_oldest_smile_with_its_id() {
        let sent = |(id, named)| SmileInFlight { id: SmileId::parse(id).unwrap(), named, admitted_at: Instant::now() };
        let mut in_flight: VecDeque<_> = [("a", true), ("b", true), ("a", false)].into_iter().map(sent).collect();
        let mut take = |id: &str| take(&mut in_flight, &SmileId::parse(id).unwrap()).map(|sent| sent.named);
        assert_eq!(
            [take("a"), take("c"), take("a"), take("a"), take("b")],
            [Some(true), None, Some(false), None, Some(true)]
        );
        assert!(in_flight.is_empty());
    }
}
