//! This replica: its lease, its readiness, the handover of sessions, and crashes on request.

mod handover;
mod lease;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::handover::Handover;
use self::lease::Lease;
use crate::config::{ServeOptions, Switch, host_name};
use crate::hub::Hub;
use crate::limits::Bucket;
use crate::model::Timestamp;
use crate::protocol::{CrashMode, ErrorCode, Refusal};
use crate::store::{Registration, ReplicaInfo, ReplicaRecord, ReplicaState, ReplicaStatus, Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

const RENEWAL: Duration = Duration::from_secs(1);

/// Pause between two reads of the list of replicas.
const READ_INTERVAL: Duration = Duration::from_millis(250);

/// Delay before a crash, so that the HTTP response still reaches the client.
const CRASH_DELAY: Duration = Duration::from_millis(50);

/// Number of tasks that each block a worker: more than the runtime has workers, and more than the queue of one worker
/// holds (256). The surplus goes to the global queue, which every worker polls.
const BLOCKING_TASKS: usize = 1024;

const RETRY_HINT: Duration = Duration::from_secs(1);

pub(crate) struct Replica {
    pub id: String,
    registration: Registration,
    started_at: Timestamp,
    /// `None` on SQLite: the only replica of a store needs no lease.
    lease: Option<Lease>,
    tail: Arc<Tail>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// The bucket of all smiles that this replica admits.
    pub capacity: Mutex<Bucket>,
    rebalance: bool,
    /// Admitted smiles, as last measured.
    smiles_per_second: Mutex<f64>,
    draining: AtomicBool,
    /// The mode of the last crash request that this replica obeyed.
    crash: Mutex<Option<CrashMode>>,
}

impl Replica {
    /// Creates the replica. On a shared store, registers it and reads the list of replicas.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when a shared store does not accept the registration or does not return the list.
    pub(crate) async fn join(
        options: &ServeOptions,
        store: &Store,
        tail: Arc<Tail>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, StoreError> {
        let info = ReplicaInfo {
            name: options.replica.clone().unwrap_or_else(host_name),
            host: host_name(),
            node: Some(options.node.clone()).filter(|node| !node.is_empty()),
            capacity: options.capacity,
            obeys: options.crash == Switch::On,
        };
        let (registration, lease) = match store {
            Store::Sqlite(file) => (Registration { number: file.starts, info, at: Instant::now() }, None),
            Store::MySql(mysql) => {
                let registration = mysql.register(info).await?;
                let lease = Lease::new(Arc::clone(mysql), &registration).await?;
                (registration, Some(lease))
            }
        };
        Ok(Arc::new(Self {
            id: registration.id(),
            registration,
            started_at: Timestamp::now(),
            lease,
            tail,
            hub,
            metrics,
            capacity: Mutex::new(Bucket::new(options.capacity, (options.capacity / 4).max(1), Instant::now())),
            rebalance: options.rebalance == Switch::On,
            smiles_per_second: Mutex::default(),
            draining: AtomicBool::new(false),
            crash: Mutex::default(),
        }))
    }

    /// Checks whether this replica is ready, without querying the store.
    ///
    /// # Errors
    /// The refusal that a new session gets, with the first reason why the replica is not ready.
    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        let (code, reason) = if self.draining.load(Ordering::Relaxed) {
            (ErrorCode::Draining, "draining: this replica is shutting down")
        } else if self.is_unready() {
            (ErrorCode::Draining, "unready: a crash request made this replica unready; restart it")
        } else if self.lease.as_ref().is_some_and(|lease| !lease.is_held()) {
            (ErrorCode::StoreUnavailable, "lease lost: the store did not accept this replica's renewal")
        } else if !self.tail.is_current() {
            (ErrorCode::Overloaded, "behind: this replica has not published all of the log yet")
        } else {
            return Ok(());
        };
        Err(Refusal::temporary(code, reason, RETRY_HINT))
    }

    fn is_unready(&self) -> bool {
        *self.crash.lock() == Some(CrashMode::Unready)
    }

    /// Renews the lease, hands sessions over and obeys crash requests until `stop` is cancelled. A renewal or a read
    /// that has begun by then is completed. On SQLite, only measures the rate of admitted smiles.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.renew(&stop), self.obey_crash_requests(&stop));
    }

    async fn renew(&self, stop: &CancellationToken) {
        let (mut measured_at, mut counted) = (Instant::now(), 0);
        let mut handover = Handover::default();
        while stop.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_some() {
            let (now, admitted) = (Instant::now(), self.capacity.lock().taken);
            let per_second = (admitted - counted) as f64 / now.duration_since(measured_at).as_secs_f64();
            *self.smiles_per_second.lock() = (per_second * 10.0).round() / 10.0;
            (measured_at, counted) = (now, admitted);
            let Some(lease) = &self.lease else { continue };
            lease.renew(&self.registration, self.status()).await;
            if self.rebalance && self.ready().is_ok() {
                let sessions = handover.hand_over(&lease.replicas(), &self.id, &self.hub, Instant::now());
                self.metrics.sessions_handed_over.inc_by(sessions as u64);
            }
        }
    }

    async fn obey_crash_requests(&self, stop: &CancellationToken) {
        let Some(lease) = &self.lease else { return };
        while stop.run_until_cancelled(tokio::time::sleep(READ_INTERVAL)).await.is_some() {
            if let Ok(replicas) = lease.read().await
                && let Some(own) = replicas.iter().find(|replica| replica.id == self.id)
                && let Some(mode) = own.crash
            {
                self.fail(mode);
            }
        }
    }

    fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            sessions: u32::try_from(self.hub.sessions()).unwrap_or(u32::MAX),
            smiles_per_second: *self.smiles_per_second.lock(),
            draining: self.draining.load(Ordering::Relaxed) || self.is_unready(),
            behind: !self.tail.is_current(),
            following: self.tail.following(),
        }
    }

    /// Lists the replicas that are running or were lost recently, without querying the store. The state and the status
    /// of this replica are current, unless it is lost.
    pub(crate) fn list(&self) -> Vec<ReplicaRecord> {
        let mut replicas = self.lease.as_ref().map_or_else(|| vec![self.standalone_record()], Lease::replicas);
        let own = replicas.iter_mut().find(|replica| replica.id == self.id && replica.state != ReplicaState::Lost);
        if let Some(own) = own {
            own.status = self.status();
            own.state = if own.status.draining { ReplicaState::Draining } else { ReplicaState::Ready };
        }
        replicas
    }

    /// The record of a replica on SQLite. The replica has no lease to renew, so its heartbeat age is always 0.
    fn standalone_record(&self) -> ReplicaRecord {
        ReplicaRecord {
            id: self.id.clone(),
            info: self.registration.info.clone(),
            state: ReplicaState::Ready,
            started_at: self.started_at,
            uptime_ms: u64::try_from(self.registration.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            heartbeat_age_ms: 0,
            status: ReplicaStatus::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            crash: *self.crash.lock(),
        }
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Renews the lease immediately, so that the other replicas see the current status. On SQLite, does nothing.
    pub(crate) async fn announce(&self) {
        if let Some(lease) = &self.lease {
            lease.renew(&self.registration, self.status()).await;
        }
    }

    pub(crate) async fn unregister(&self) {
        if let Some(lease) = &self.lease
            && let Err(error) = lease.store.unregister(&self.registration).await
        {
            tracing::warn!(%error, "could not remove this replica's registration; the replica will be listed as lost");
        }
    }

    /// Whether crash requests are disabled on the replica with the id `named`. Queries the store only for an id that is
    /// not in the last list. Returns `false` on SQLite, for an unknown id, and if the query fails.
    pub(crate) async fn refuses_crash(&self, named: &str) -> bool {
        let Some(lease) = &self.lease else { return false };
        let mut replicas = lease.replicas();
        if replicas.iter().all(|replica| replica.id != named) {
            replicas = lease.read().await.unwrap_or_default();
        }
        replicas.iter().any(|replica| replica.id == named && !replica.info.obeys)
    }

    /// Requests a crash of one replica in this mode: the one with the longest uptime among those for which
    /// [`ReplicaRecord::can_crash`] is true, given `named`. If that is another replica, it finds the request when it
    /// next reads the list. Returns the id of the chosen replica; `None` if there is none to choose.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when a shared store does not answer; a request may have been stored nevertheless.
    pub(crate) async fn request_crash(
        &self,
        named: Option<&str>,
        mode: CrashMode,
    ) -> Result<Option<String>, StoreError> {
        let victim = match &self.lease {
            None => self.list().into_iter().find(|replica| replica.can_crash(named)).map(|replica| replica.id),
            Some(lease) => lease.store.request_crash(named, mode).await?,
        };
        if victim.as_ref() == Some(&self.id) {
            self.fail(mode);
        }
        Ok(victim)
    }

    /// Does nothing if this replica already fails in this mode.
    fn fail(&self, mode: CrashMode) {
        if self.crash.lock().replace(mode) == Some(mode) {
            return;
        }
        tracing::error!(replica = self.id, ?mode, "this replica was asked to crash");
        tokio::spawn(async move {
            tokio::time::sleep(CRASH_DELAY).await;
            match mode {
                CrashMode::Exit => std::process::abort(),
                CrashMode::Hang => hang(),
                CrashMode::Unready => {}
            }
        });
    }
}

/// Blocks every worker of the runtime, so that this process answers nothing and does not react to SIGTERM.
fn hang() {
    for _ in 0..BLOCKING_TASKS {
        tokio::spawn(async {
            loop {
                std::thread::park();
            }
        });
    }
}
