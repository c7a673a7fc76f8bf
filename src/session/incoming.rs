//! What a session does with a text frame: decode, check, admit, hand on, or refuse.
//!
//! Owns the order of those checks and the words of the refusals that depend on more than the frame.

use std::time::Instant;

use super::pending::Sent;
use super::{CloseReason, End, Session};
use crate::limits::{Behind, Denied, admit};
use crate::model::{Faces, NewSmile, Offset, SmileId, UserName};
use crate::protocol::{ClientFrame, ErrorCode, Refusal, ServerFrame};

impl Session {
    /// Does what a text frame asks for. Ends the session only when its faults are too many.
    pub(super) async fn frame(&mut self, text: &str) -> Result<(), End> {
        match ClientFrame::decode(text) {
            Ok(ClientFrame::Smile { id, to, smile }) => match self.smile(id.as_ref(), &to, &smile) {
                Ok(()) => Ok(()),
                Err(refusal) => self.refuse(&refusal, id.map(|id| id.as_str().to_owned())).await,
            },
            Ok(ClientFrame::History { with, before, limit }) => {
                match Box::pin(self.history(&with, before, limit)).await {
                    Ok(history) => Ok(self.socket.send(history.encode()).await?),
                    Err(refusal) => self.refuse(&refusal, None).await,
                }
            }
            Ok(ClientFrame::Ping) => Ok(self.socket.send(ServerFrame::Pong.encode()).await?),
            Ok(ClientFrame::Help) => Ok(self.socket.send(ServerFrame::help(&self.user).encode()).await?),
            Err(bad) => self.refuse(&Refusal::permanent(ErrorCode::BadRequest, bad.message), bad.id).await,
        }
    }

    /// Puts a smile in line for the log, or says why not. Nothing is charged for a smile that is refused.
    fn smile(&mut self, id: Option<&SmileId>, to: &UserName, smile: &str) -> Result<(), Refusal> {
        let to = self.peer(to, "a smile to yourself goes nowhere: name another user")?;
        let faces = Faces::parse(smile)
            .map_err(|not_a_smile| Refusal::permanent(ErrorCode::NotASmile, not_a_smile.to_string()))?;

        let now = Instant::now();
        let room = self.context.log.room(now).map_err(|behind| match behind {
            Behind::Slow(wait) => {
                let message = "this replica's store is behind; send the same id again";
                Refusal::temporary(ErrorCode::Overloaded, message, wait)
            }
            Behind::Away => Refusal::store_unavailable(),
        })?;
        admit(&mut self.smiles, &self.context.capacity, now).map_err(|denied| match denied {
            Denied::BySession(wait) => {
                let message = "this session sends faster than it may; send the same id again";
                Refusal::temporary(ErrorCode::RateLimited, message, wait)
            }
            Denied::ByCapacity(wait) => {
                let message = "this replica is at its capacity; send the same id again";
                Refusal::temporary(ErrorCode::Overloaded, message, wait)
            }
        })?;

        let named = id.is_some();
        let id = id.cloned().unwrap_or_else(SmileId::random);
        self.pending.sent(Sent { id: id.clone(), named, admitted_at: now });
        room.submit(NewSmile { id, from: self.user.clone(), to, faces }, now, self.subscription.outbox());
        Ok(())
    }

    /// Older smiles of one conversation. Each costs the store a read, so they are limited like smiles, by themselves.
    async fn history(&mut self, with: &UserName, before: Option<Offset>, limit: u32) -> Result<ServerFrame, Refusal> {
        let with = self.peer(with, "there is no conversation with yourself: name another user")?;
        let now = Instant::now();
        let wait = self.histories.wait(now);
        if !wait.is_zero() {
            let message = "this session asks faster than it may; ask again later";
            return Err(Refusal::temporary(ErrorCode::RateLimited, message, self.histories.ask_back(now, wait)));
        }
        self.histories.take(now);
        match self.context.index.conversation((&self.user, &with), before, limit as usize).await {
            Ok((smiles, more)) => Ok(ServerFrame::History { with, smiles, more }),
            Err(error) => {
                self.context.metrics.store_failed(&error, "a history cannot be read");
                Err(Refusal::store_unavailable())
            }
        }
    }

    /// The other user that a frame names.
    fn peer(&self, name: &UserName, to_oneself: &str) -> Result<UserName, Refusal> {
        if *name == self.user {
            return Err(Refusal::permanent(ErrorCode::BadRequest, to_oneself));
        }
        self.context.store.user(name.as_str()).cloned().ok_or_else(Refusal::unknown_user)
    }

    /// Answers one frame with an error, and ends the session when that was one too many.
    async fn refuse(&mut self, refusal: &Refusal, id: Option<String>) -> Result<(), End> {
        self.context.metrics.error(refusal.code);
        self.socket.send(ServerFrame::refusal(refusal, id).encode()).await?;
        let too_many = match refusal.code {
            ErrorCode::BadRequest => self.faults.bad_request(),
            ErrorCode::RateLimited => self.faults.rate_limited(Instant::now()),
            _ => false,
        };
        if too_many { Err(End::Close(CloseReason::Policy)) } else { Ok(()) }
    }
}
