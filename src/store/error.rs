//! The errors of the store, and what each failed append means for its batch.

/// An error of the store.
#[derive(Debug, derive_more::From, thiserror::Error)]
pub enum StoreError {
    /// The store does not answer, answers with an error, or holds data that this replica cannot use.
    #[error("the store is not available: {0}")]
    #[from(sqlx::Error, std::io::Error)]
    Unavailable(#[source] Error),
    /// This replica cannot follow the binary log of its server until an operator intervenes.
    #[error("{0}")]
    CannotFollow(String),
    /// Retention has removed smiles after the offset from which the reader wants to continue.
    #[error("retention has removed smiles that were still to be read")]
    Trimmed,
    /// The log was deleted or replaced, or has lost its end, so this replica must exit. A serving replica first tries
    /// to begin a new epoch, so that clients do not resume with old offsets.
    #[error("the log in the store differs from the one at startup, is gone or lacks its end: was a backup restored?")]
    Replaced,
    /// The store cannot be opened.
    #[error("{0}")]
    CannotOpen(String),
}

/// The cause of a failure: an error from a library, or a message.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// This attempt did not store the batch and will not. If an earlier attempt is in doubt, the batch may still be in
    /// the log.
    #[error("the store did not accept a batch: {0}")]
    NotStored(#[source] Error),
    /// The file of the store was deleted or replaced, before the append or during it. Only SQLite reports this.
    #[error("the file of the store was deleted or replaced")]
    Replaced,
    /// The batch may be in the log, or may still be added to it. Append the same batch again to find out.
    #[error("the store did not say whether it stored a batch: {0}")]
    InDoubt(#[source] Error),
}
