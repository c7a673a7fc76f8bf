//! The lease of this replica, and the list of replicas from the last successful read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::store::{LEASE, MySql, Registration, ReplicaRecord, ReplicaStatus, StoreError};

pub(super) struct Lease {
    pub(super) store: Arc<MySql>,
    /// When the last successful renewal began. The store counts the lease from this moment or a later moment.
    renewed_at: Mutex<Instant>,
    /// Whether the expiry of the lease has been logged.
    logged: AtomicBool,
    /// The list of replicas from the last successful read, and a time no later than the start of that read.
    last_read: Mutex<(Vec<ReplicaRecord>, Instant)>,
}

impl Lease {
    /// Creates the lease after the registration, which counts as its first renewal, and reads the list of replicas.
    pub(super) async fn new(store: Arc<MySql>, registration: &Registration) -> Result<Self, StoreError> {
        let last_read = (store.replicas().await?, registration.at);
        Ok(Self {
            store,
            renewed_at: Mutex::new(registration.at),
            logged: AtomicBool::new(false),
            last_read: Mutex::new(last_read),
        })
    }

    pub(super) fn is_held(&self) -> bool {
        self.renewed_at.lock().elapsed() <= LEASE
    }

    pub(super) async fn renew(&self, registration: &Registration, status: ReplicaStatus) {
        let begun = Instant::now();
        let renewed = self.store.renew(registration, status).await;
        match renewed {
            Ok(()) => {
                *self.renewed_at.lock() = begun;
                if self.logged.swap(false, Ordering::Relaxed) {
                    tracing::info!("the lease had expired; it has been renewed");
                }
            }
            // A failure matters only once the lease has expired.
            Err(error) if !self.is_held() && !self.logged.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the lease could not be renewed and has expired; trying again");
            }
            Err(_) => {}
        }
    }

    /// Reads all replicas, and caches them for [`Lease::replicas`].
    pub(super) async fn read(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let begun = Instant::now();
        let replicas = self.store.replicas().await?;
        *self.last_read.lock() = (replicas.clone(), begun);
        Ok(replicas)
    }

    /// The cached replicas, aged by the time since the last successful read began. Without new reads, all of them
    /// eventually count as lost.
    pub(super) fn replicas(&self) -> Vec<ReplicaRecord> {
        let (replicas, at) = &*self.last_read.lock();
        replicas.iter().map(|replica| replica.clone().after(at.elapsed())).collect()
    }
}
