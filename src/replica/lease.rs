//! The lease of this replica in its cluster, and the list of replicas as it was last read.
//!
//! Owns when the lease counts as held. Must not know what the replica does with the list.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lock;
use crate::store::{Cluster, CrashMode, LEASE, NewReplica, Registration, ReplicaRecord, ReplicaStatus, StoreError};

/// Between two looks for replicas that were lost long ago.
const BETWEEN_ROUNDS: Duration = Duration::from_mins(1);

/// A place among the replicas of a shared store.
#[derive(Debug)]
pub(super) struct Lease {
    cluster: Cluster,
    registration: Registration,
    /// When the last renewal that succeeded was begun: from then on the lease counts, whatever the answer took.
    renewed_at: Mutex<Instant>,
    /// Whether the last renewal failed, which is logged once.
    not_renewed: AtomicBool,
    /// When it last removed replicas that were lost long ago.
    forgot_at: Mutex<Option<Instant>>,
    /// All replicas, and when they were asked for.
    seen: Mutex<(Vec<ReplicaRecord>, Instant)>,
}

impl Lease {
    /// Registers, and reads the list.
    pub(super) async fn take(cluster: Cluster, replica: NewReplica) -> Result<Self, StoreError> {
        let begun = Instant::now();
        let registration = cluster.register(replica).await?;
        let seen = (cluster.replicas().await?, begun);
        Ok(Self {
            cluster,
            registration,
            renewed_at: Mutex::new(begun),
            not_renewed: AtomicBool::new(false),
            forgot_at: Mutex::default(),
            seen: Mutex::new(seen),
        })
    }

    pub(super) fn id(&self) -> String {
        self.registration.id()
    }

    /// Whether the last renewal is recent enough.
    pub(super) fn is_held(&self) -> bool {
        lock(&self.renewed_at).elapsed() <= LEASE
    }

    pub(super) async fn renew(&self, status: ReplicaStatus) {
        let begun = Instant::now();
        let renewed = self.cluster.renew(&self.registration, status).await;
        let failed_before = self.not_renewed.swap(renewed.is_err(), Ordering::Relaxed);
        match renewed {
            Ok(()) => {
                *lock(&self.renewed_at) = begun;
                if failed_before {
                    tracing::info!("the lease is renewed again");
                }
            }
            Err(error) if !failed_before => tracing::warn!(%error, "the lease could not be renewed; trying again"),
            Err(_) => {}
        }
    }

    /// Removes replicas that were lost long ago, once a minute. Every replica does.
    pub(super) async fn forget_lost(&self) {
        if lock(&self.forgot_at).is_some_and(|at| at.elapsed() < BETWEEN_ROUNDS) {
            return;
        }
        *lock(&self.forgot_at) = Some(Instant::now());
        if let Err(error) = self.cluster.forget_lost().await {
            tracing::debug!(%error, "replicas that were lost long ago could not be removed");
        }
    }

    /// Reads all replicas, and keeps them for [`Lease::replicas`].
    pub(super) async fn read(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let begun = Instant::now();
        let replicas = self.cluster.replicas().await?;
        *lock(&self.seen) = (replicas.clone(), begun);
        Ok(replicas)
    }

    /// All replicas as they were last read. Their ages go on, so without a new reading all of them are lost in the end.
    pub(super) fn replicas(&self) -> Vec<ReplicaRecord> {
        let (replicas, at) = &*lock(&self.seen);
        replicas.iter().map(|replica| replica.clone().after(at.elapsed())).collect()
    }

    pub(super) async fn request_crash(
        &self,
        named: Option<&str>,
        mode: CrashMode,
    ) -> Result<Option<String>, StoreError> {
        self.cluster.request_crash(named, mode).await
    }

    pub(super) async fn give_up(&self) {
        if let Err(error) = self.cluster.unregister(&self.registration).await {
            tracing::warn!(%error, "this replica could not sign off; it will be shown as lost");
        }
    }
}
