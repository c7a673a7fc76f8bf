//! This replica: its place in the cluster or alone, its readiness, and its death on request.
//!
//! Owns the answer to "may this replica be counted on?". Must not know how it is asked, or what a session does.

mod handover;
mod lease;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::handover::Handover;
use self::lease::Lease;
use crate::hub::Hub;
use crate::limits::Capacity;
use crate::model::Timestamp;
use crate::store::{CrashMode, Membership, NewReplica, ReplicaRecord, ReplicaState, ReplicaStatus, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// From one renewal of the lease to the next.
const RENEWAL: Duration = Duration::from_secs(1);

/// How often the list of replicas is read in the time of one renewal. Requests to crash are found there.
const LOOKS: u32 = 4;

/// Time for the answer to a crash to reach the client before the process is gone.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// More tasks than any machine has cores, to stop every worker of the runtime.
const STOPPERS: usize = 1024;

/// Why a replica takes no sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// It is leaving.
    Draining,
    /// Somebody asked for it.
    Unready,
    /// It could not renew its lease.
    LeaseLost,
    /// It has not published what is in the log.
    Behind,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draining => "draining: this replica is leaving",
            Self::Unready => "unready: somebody asked for it; restart this replica",
            Self::LeaseLost => "lease lost: the store did not take this replica's renewal",
            Self::Behind => "behind: this replica has not published all of the log yet",
        })
    }
}

/// This replica.
#[derive(Debug)]
pub struct Replica {
    id: String,
    place: Place,
    vitals: Vitals,
    /// Whether it hands sessions over to emptier replicas.
    rebalance: bool,
    /// Smiles per second that it admitted lately.
    smiles_per_second: Mutex<f64>,
    draining: AtomicBool,
    unready: AtomicBool,
    /// How it was last asked to fail.
    crash: Mutex<Option<CrashMode>>,
}

/// Where a replica stands.
#[derive(Debug)]
enum Place {
    /// It has the store to itself, so there is no lease to lose.
    Alone { replica: NewReplica, started_at: Timestamp, since: Instant },
    /// It shares the store, and counts for as long as it renews its lease.
    Shared(Lease),
}

/// What a replica tells of itself, or is judged by.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Whether the tail is current.
    pub tail: Tail,
    /// How many sessions there are.
    pub hub: Arc<Hub>,
    /// How many smiles it admits.
    pub capacity: Arc<Capacity>,
    /// Where readiness is shown.
    pub metrics: Arc<Metrics>,
}

impl Replica {
    /// Takes a place. `rebalance`: this replica hands sessions over to emptier ones.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when a shared store does not give one.
    pub async fn join(
        membership: Membership,
        replica: NewReplica,
        vitals: Vitals,
        rebalance: bool,
    ) -> Result<Arc<Self>, StoreError> {
        let (id, place) = match membership {
            Membership::Alone { number } => {
                (replica.id(number), Place::Alone { replica, started_at: Timestamp::now(), since: Instant::now() })
            }
            Membership::Shared(cluster) => {
                let lease = Lease::take(cluster, replica).await?;
                (lease.id(), Place::Shared(lease))
            }
        };
        Ok(Arc::new(Self {
            id,
            place,
            vitals,
            rebalance,
            smiles_per_second: Mutex::default(),
            draining: AtomicBool::new(false),
            unready: AtomicBool::new(false),
            crash: Mutex::default(),
        }))
    }

    /// The id of this replica.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this replica may be counted on. Asks no database.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn ready(&self) -> Result<(), NotReady> {
        if self.draining.load(Ordering::Relaxed) {
            Err(NotReady::Draining)
        } else if self.unready.load(Ordering::Relaxed) {
            Err(NotReady::Unready)
        } else if matches!(&self.place, Place::Shared(lease) if !lease.is_held()) {
            Err(NotReady::LeaseLost)
        } else if !self.vitals.tail.is_current() {
            Err(NotReady::Behind)
        } else {
            Ok(())
        }
    }

    /// Measures, renews the lease, fails on request and hands sessions over, until `stop`. Finishes what it has begun.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(RENEWAL / LOOKS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut renewed_at, mut counted) = (None::<Instant>, 0);
        let mut handover = Handover::default();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (now, admitted) = (Instant::now(), self.vitals.capacity.admitted());
            let passed = renewed_at.map(|at| now.duration_since(at));
            // By the clock, since reading the list may take its time.
            let is_due = passed.is_none_or(|passed| passed + RENEWAL / LOOKS / 2 >= RENEWAL);
            if is_due {
                let seconds = passed.unwrap_or(RENEWAL).as_secs_f64();
                let per_second = (admitted - counted) as f64 / seconds;
                *lock(&self.smiles_per_second) = (per_second * 10.0).round() / 10.0;
                (renewed_at, counted) = (Some(now), admitted);
            }
            if let Place::Shared(lease) = &self.place {
                self.keep(lease, is_due, &mut handover).await;
            }
            self.vitals.metrics.ready.set(self.ready().is_ok().into());
        }
    }

    /// What a replica does four times a second that shares its store; `is_due` says that a second has passed.
    async fn keep(&self, lease: &Lease, is_due: bool, handover: &mut Handover) {
        if is_due {
            lease.renew(self.status()).await;
            lease.forget_lost().await;
        }
        let Ok(replicas) = lease.read().await else { return };
        if let Some(mode) = replicas.iter().find(|replica| replica.id == self.id).and_then(|own| own.crash) {
            self.fail(mode);
        }
        if is_due && self.rebalance && self.ready().is_ok() {
            let Vitals { hub, metrics, .. } = &self.vitals;
            let sessions = handover.hand_over(&replicas, &self.id, hub, Instant::now());
            metrics.sessions_handed_over.inc_by(sessions as u64);
        }
    }

    fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            sessions: u32::try_from(self.vitals.hub.sessions()).unwrap_or(u32::MAX),
            smiles_per_second: *lock(&self.smiles_per_second),
            draining: self.takes_no_more(),
            following: self.vitals.tail.following(),
        }
    }

    /// Every replica that runs or was lost lately, with what is fresh about this one. Asks no database.
    #[must_use]
    pub fn list(&self) -> Vec<ReplicaRecord> {
        let status = self.status();
        let mut replicas = match &self.place {
            Place::Alone { replica, started_at, since } => vec![alone(&self.id, replica, *started_at, *since)],
            Place::Shared(lease) => lease.replicas(),
        };
        let own = replicas.iter_mut().find(|replica| replica.id == self.id && replica.state != ReplicaState::Lost);
        if let Some(own) = own {
            own.sessions = status.sessions;
            own.smiles_per_second = status.smiles_per_second;
            own.following = status.following;
            own.state = if status.draining { ReplicaState::Draining } else { ReplicaState::Ready };
        }
        replicas
    }

    /// Whether it was told to take no more sessions.
    fn takes_no_more(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.unready.load(Ordering::Relaxed)
    }

    /// Takes no more sessions from here on.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.vitals.metrics.ready.set(0);
    }

    /// Tells the other replicas at once, instead of with the next renewal.
    pub async fn announce(&self) {
        if let Place::Shared(lease) = &self.place {
            lease.renew(self.status()).await;
        }
    }

    /// Gives the place up.
    pub async fn leave(&self) {
        if let Place::Shared(lease) = &self.place {
            lease.give_up().await;
        }
    }

    /// Whether crashing is switched off at the replica of that id. Asks the database only about a replica that is not on
    /// the list yet.
    pub async fn is_spared(&self, named: &str) -> bool {
        let Place::Shared(lease) = &self.place else { return false };
        let find = |replicas: Vec<ReplicaRecord>| replicas.into_iter().find(|replica| replica.id == named);
        let found = match find(lease.replicas()) {
            None => lease.read().await.ok().and_then(find),
            found => found,
        };
        found.is_some_and(|replica| !replica.obeys)
    }

    /// Makes a replica fail: the one of that id, or else, of those that are ready, heard of lately and not asked yet, the
    /// one that has been up longest. Says which; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when a shared store does not answer.
    pub async fn crash(&self, named: Option<&str>, mode: CrashMode) -> Result<Option<String>, StoreError> {
        let victim = match &self.place {
            Place::Alone { .. } => {
                let is_victim = match named {
                    Some(id) => id == self.id,
                    None => self.ready().is_ok() && lock(&self.crash).is_none(),
                };
                is_victim.then(|| self.id.clone())
            }
            Place::Shared(lease) => lease.request_crash(named, mode).await?,
        };
        if victim.as_ref() == Some(&self.id) {
            self.fail(mode);
        }
        Ok(victim)
    }

    /// Fails as it was asked to, unless it has begun to already, after the time it takes to answer.
    fn fail(&self, mode: CrashMode) {
        if lock(&self.crash).replace(mode) == Some(mode) {
            return;
        }
        tracing::error!(replica = self.id, ?mode, "this replica was asked to crash");
        match mode {
            CrashMode::Exit => drop(tokio::spawn(async {
                tokio::time::sleep(LAST_WORDS).await;
                std::process::abort();
            })),
            CrashMode::Hang => drop(tokio::spawn(async {
                tokio::time::sleep(LAST_WORDS).await;
                hang();
            })),
            CrashMode::Unready => self.unready.store(true, Ordering::Relaxed),
        }
    }
}

/// The record of a replica that has the store to itself. It renews nothing, so its heartbeat is always fresh.
fn alone(id: &str, replica: &NewReplica, started_at: Timestamp, since: Instant) -> ReplicaRecord {
    ReplicaRecord {
        id: id.to_owned(),
        name: replica.name.clone(),
        host: replica.host.clone(),
        node: replica.node.clone(),
        state: ReplicaState::Ready,
        started_at,
        uptime_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        heartbeat_age_ms: 0,
        sessions: 0,
        smiles_per_second: 0.0,
        capacity: replica.capacity,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        following: None,
        obeys: replica.obeys,
        crash: None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stops every worker of the runtime, so that nothing in this process answers, its timers and signals included.
fn hang() {
    let runtime = tokio::runtime::Handle::current();
    // From a thread outside, tasks go to the queue that every worker takes from.
    std::thread::spawn(move || {
        for _ in 0..STOPPERS {
            runtime.spawn(async {
                loop {
                    std::thread::park();
                }
            });
        }
    });
}
