//! This replica among the others: its place, its lease, its readiness, and its death on request.
//!
//! Owns the answer to "may this replica be counted on?". Must not know how it is asked, or what a session does.

mod balance;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::balance::Balance;
use crate::hub::Hub;
use crate::limits::Capacity;
use crate::store::{
    CrashMode, LEASE, NewReplica, Registration, ReplicaRecord, ReplicaState, ReplicaStatus, Store, StoreError,
};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// From one renewal of the lease to the next.
const RENEWAL: Duration = Duration::from_secs(1);

/// Looks at whether another replica wants this one to fail, in the time of one renewal.
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

/// Why nobody was made to crash.
#[derive(Debug)]
pub enum NoVictim {
    /// No such replica, or it is lost already.
    Unknown,
    /// The store cannot say who there is.
    Store(StoreError),
}

/// This replica.
#[derive(Debug)]
pub struct Replica {
    store: Store,
    registration: Registration,
    /// When the last renewal that succeeded was begun: from then on the lease counts, whatever the answer took.
    renewed_at: Mutex<Instant>,
    /// Whether the last renewal failed, which is said once.
    not_renewed: AtomicBool,
    draining: AtomicBool,
    unready: AtomicBool,
    vitals: Vitals,
    /// Whether it fails when another replica asks for it.
    obeys: bool,
}

/// What a replica tells of itself with each renewal, or is judged by.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Whether the tail keeps up.
    pub position: Tail,
    /// How many sessions there are.
    pub hub: Arc<Hub>,
    /// How many smiles it admits.
    pub capacity: Arc<Capacity>,
    /// Where readiness is shown.
    pub metrics: Arc<Metrics>,
}

impl Replica {
    /// Takes a place among the replicas. `obeys`: it fails when another replica asks for it.
    ///
    /// # Errors
    /// When the store does not give one.
    pub async fn register(
        store: Store,
        replica: NewReplica,
        vitals: Vitals,
        obeys: bool,
    ) -> Result<Arc<Self>, StoreError> {
        let begun = Instant::now();
        let registration = store.register(replica).await?;
        Ok(Arc::new(Self {
            store,
            registration,
            renewed_at: Mutex::new(begun),
            not_renewed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            unready: AtomicBool::new(false),
            vitals,
            obeys,
        }))
    }

    /// The id of this replica.
    #[must_use]
    pub fn id(&self) -> String {
        self.registration.id()
    }

    /// Whether this replica may be counted on. Asks no database.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn ready(&self) -> Result<(), NotReady> {
        let renewed_at = *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if self.draining.load(Ordering::Relaxed) {
            Err(NotReady::Draining)
        } else if self.unready.load(Ordering::Relaxed) {
            Err(NotReady::Unready)
        } else if renewed_at.elapsed() > LEASE {
            Err(NotReady::LeaseLost)
        } else if !self.vitals.position.keeps_up() {
            Err(NotReady::Behind)
        } else {
            Ok(())
        }
    }

    /// Renews the lease until `stop`, and does what else the rows of the replicas ask for: fails on request, and hands over
    /// sessions to emptier replicas. What it has begun it finishes.
    pub async fn keep_lease(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(RENEWAL / LOOKS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut renewed_at, mut counted) = (None::<Instant>, 0);
        let mut balance = Balance::default();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (now, admitted) = (Instant::now(), self.vitals.capacity.admitted());
            let passed = renewed_at.map(|at| now.duration_since(at));
            // By the clock, since looking may take its time.
            if passed.is_none_or(|passed| passed + RENEWAL / LOOKS / 2 >= RENEWAL) {
                let seconds = passed.unwrap_or(RENEWAL).as_secs_f64();
                let per_second = (admitted - counted) as f64 / seconds;
                (renewed_at, counted) = (Some(now), admitted);
                self.renew((per_second * 10.0).round() / 10.0).await;
                self.vitals.metrics.ready.set(self.ready().is_ok().into());
                self.hand_over(&mut balance).await;
            }
            self.fail_on_request().await;
        }
    }

    async fn renew(&self, smiles_per_second: f64) {
        let begun = Instant::now();
        let status = ReplicaStatus {
            sessions: u32::try_from(self.vitals.hub.sessions()).unwrap_or(u32::MAX),
            smiles_per_second,
            draining: self.takes_no_more(),
            following: self.vitals.position.following(),
        };
        let renewed = self.store.renew(&self.registration, status).await;
        let failed_before = self.not_renewed.swap(renewed.is_err(), Ordering::Relaxed);
        match renewed {
            Ok(()) => {
                *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = begun;
                if failed_before {
                    tracing::info!("the lease is renewed again");
                }
            }
            Err(error) if !failed_before => tracing::warn!(%error, "the lease could not be renewed; trying again"),
            Err(_) => {}
        }
    }

    async fn fail_on_request(&self) {
        match self.store.take_crash_request(&self.registration).await {
            Ok(Some(mode)) if self.obeys => self.fail(mode),
            Ok(Some(_)) => tracing::warn!("another replica asked this one to fail, which is switched off here"),
            Ok(None) => {}
            // The next renewal says so.
            Err(error) => tracing::debug!(%error, "the store does not say whether this replica is to fail"),
        }
    }

    /// Hands over what this replica has above the mean.
    async fn hand_over(&self, balance: &mut Balance) {
        if !self.store.is_shared() || self.ready().is_err() {
            return;
        }
        // This is no reason to be late with the lease.
        let Ok(Ok(replicas)) = tokio::time::timeout(RENEWAL / 2, self.store.replicas()).await else { return };
        let (hub, now) = (&self.vitals.hub, Instant::now());
        let surplus = balance.surplus(&replicas, &self.id(), hub.sessions(), 0, now);
        // The others must know before the sessions come, or they might move them on.
        if surplus > 0 && self.store.hands_over(&self.registration).await.is_ok() {
            let sessions = hub.hand_over(surplus);
            balance.handed_over(sessions, now);
            self.vitals.metrics.sessions_handed_over.inc_by(sessions as u64);
            tracing::debug!(sessions, "sessions are handed over to emptier replicas");
        }
    }

    /// Every replica that runs or was lost lately, with what is fresh about this one.
    ///
    /// # Errors
    /// When the store cannot say.
    pub async fn list(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let mut replicas = self.store.replicas().await?;
        let id = self.id();
        if let Some(own) = replicas.iter_mut().find(|replica| replica.id == id) {
            own.sessions = u32::try_from(self.vitals.hub.sessions()).unwrap_or(u32::MAX);
            own.following = self.vitals.position.following();
            if self.takes_no_more() {
                own.state = ReplicaState::Draining;
            }
        }
        Ok(replicas)
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
        self.renew(0.0).await;
    }

    /// Gives the place up.
    pub async fn leave(&self) {
        if let Err(error) = self.store.unregister(&self.registration).await {
            tracing::warn!(%error, "this replica could not sign off; it will be shown as lost");
        }
    }

    /// Makes a replica fail: the one named, or the one that has been up longest. Says which.
    ///
    /// # Errors
    /// When there is no such replica, or nobody can tell.
    pub async fn crash(&self, victim: Option<&str>, mode: CrashMode) -> Result<String, NoVictim> {
        let replicas = self.store.replicas().await.map_err(NoVictim::Store)?;
        let mut alive = replicas.into_iter().filter(|replica| replica.state != ReplicaState::Lost);
        let victim = alive.find(|replica| victim.is_none_or(|id| id == replica.id)).ok_or(NoVictim::Unknown)?;
        if victim.id == self.id() {
            self.fail(mode);
        } else if !self.store.request_crash(&victim.id, mode).await.map_err(NoVictim::Store)? {
            return Err(NoVictim::Unknown);
        }
        Ok(victim.id)
    }

    /// Fails as it was asked to, after the time it takes to answer.
    fn fail(&self, mode: CrashMode) {
        tracing::error!(replica = self.id(), ?mode, "this replica was asked to crash");
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
