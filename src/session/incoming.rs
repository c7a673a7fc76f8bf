//! Incoming text frames: decodes and checks each frame, then submits its smile to the log or answers the frame.

use std::time::Instant;

use super::outgoing::SmileInFlight;
use super::{CloseReason, End, Session};
use crate::limits::admit;
use crate::model::{Faces, NewSmile, Offset, SmileId, UserName};
use crate::protocol::{ClientFrame, DEFAULT_HISTORY_LIMIT, ErrorCode, Refusal, ServerFrame};

impl Session {
    /// Fails only if the write of an answer fails or times out, or once the session has exceeded its fault budget.
    pub(super) async fn frame(&mut self, text: &str) -> Result<(), End> {
        match ClientFrame::decode(text) {
            Ok(ClientFrame::Smile { id, to, smile }) => match self.smile(id.as_ref(), &to, &smile) {
                Ok(()) => Ok(()),
                Err(refusal) => self.refuse(refusal, id.map(|id| id.as_str().to_owned())).await,
            },
            Ok(ClientFrame::History { with, before, limit }) => {
                match Box::pin(self.history(&with, before, limit.unwrap_or(DEFAULT_HISTORY_LIMIT))).await {
                    Ok(history) => Box::pin(self.socket.send_large(history.encode())).await,
                    Err(refusal) => self.refuse(refusal, None).await,
                }
            }
            Ok(ClientFrame::Ping) => self.socket.send(ServerFrame::Pong.encode()).await,
            Ok(ClientFrame::Help) => self.socket.send(ServerFrame::help(&self.user).encode()).await,
            Err(bad) => self.refuse(Refusal::permanent(ErrorCode::BadRequest, bad.message), bad.id).await,
        }
    }

    /// A refused smile costs no tokens.
    fn smile(&mut self, id: Option<&SmileId>, to: &UserName, smile: &str) -> Result<(), Refusal> {
        let to = self.peer(to, "you cannot send a smile to yourself: name another user")?;
        let faces = Faces::parse(smile).map_err(|why| Refusal::permanent(ErrorCode::NotASmile, why))?;

        let now = Instant::now();
        let named = id.is_some();
        let id = id.cloned().unwrap_or_else(SmileId::random);
        let new = NewSmile { id: id.clone(), from: self.user.clone(), to, faces };
        let by_rate = || admit(&mut self.smiles, &self.context.replica.capacity, now);
        self.context.queue.submit(new, now, &self.subscription.outbox, by_rate)?;
        // Not too late: the session takes answers from its outbox only after it has handled this frame.
        self.in_flight.push_back(SmileInFlight { id, named, admitted_at: now });
        Ok(())
    }

    /// Each history may read from the store, so histories are limited too: by a bucket of their own, with the same rate
    /// and burst as the bucket for smiles.
    async fn history(&mut self, with: &UserName, before: Option<Offset>, limit: u32) -> Result<ServerFrame, Refusal> {
        let with = self.peer(with, "you have no conversation with yourself: name another user")?;
        let now = Instant::now();
        let wait = self.histories.wait(now);
        if !wait.is_zero() {
            let message = "this session exceeds its rate limit for histories; ask again later";
            return Err(Refusal::temporary(ErrorCode::RateLimited, message, self.histories.retry_hint(now, wait)));
        }
        self.histories.take(now);
        let read = self.context.index.history((&self.user, &with), before, limit as usize).await;
        let (smiles, more) =
            read.map_err(|error| self.context.metrics.log_store_failure(&error, "a history cannot be read"))?;
        Ok(ServerFrame::History { with, smiles, more })
    }

    fn peer(&self, name: &UserName, to_oneself: &str) -> Result<UserName, Refusal> {
        if *name == self.user {
            return Err(Refusal::permanent(ErrorCode::BadRequest, to_oneself));
        }
        self.context.store.user(name.as_str()).cloned().ok_or_else(Refusal::unknown_user)
    }

    async fn refuse(&mut self, refusal: Refusal, id: Option<String>) -> Result<(), End> {
        let code = refusal.code;
        self.context.metrics.error(code);
        self.socket.send(ServerFrame::refusal(refusal, id).encode()).await?;
        let too_many = match code {
            ErrorCode::BadRequest => self.faults.bad_request(),
            ErrorCode::RateLimited => self.faults.rate_limited(Instant::now()),
            _ => false,
        };
        if too_many { Err(End::ByServer(CloseReason::Policy)) } else { Ok(()) }
    }
}
