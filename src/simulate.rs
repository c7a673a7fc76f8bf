//! `smilingchat simulate`: simulated users that smile at each other, and a ledger of every smile.
//!
//! A run opens the sessions, sends smiles, settles, closes the sessions, reads the log again and reports. The simulator
//! knows the server only through the wire protocol, so it can test any implementation of that protocol.
//!
//! Each seat of the plan is a task with one WebSocket at a time. The tasks put their events into one bounded queue, and
//! [`conduct`] records them in the ledger in batches.

pub mod ledger;
pub mod plan;
pub mod progress;
pub mod report;

mod crasher;
mod directory;
mod latency;
mod reader;
mod user;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, interval, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use self::ledger::{Entry, Event, Ledger, StreamNumber, Welcomed};
use self::plan::{Plan, RunId};
use self::progress::Progress;
use self::report::{Circumstances, Report};
use self::user::User;
use crate::client::{self, api::ApiError};
use crate::config::{InvalidValue, SimulateOptions, crash_token};
use crate::model::OFFSET_LIMIT;
use crate::protocol;

const QUEUE_LIMIT: usize = 8192;

const BATCH: usize = 1024;

/// The maximum number of users whose streams are read again at the same time.
const READERS: usize = 32;

/// The maximum duration of a stage: more than the longest `--duration`, and short enough to add to an [`Instant`].
const LONGEST_STAGE: Duration = Duration::from_hours(24 * 365);

/// The time limits of the simulator.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The time limits of each client.
    pub client: client::Patience,
    /// A stage other than sending ends after this time without a smile, an ack, a permanent refusal or a new session.
    pub quiet: Duration,
    /// The time limit of each of these stages: opening the sessions, settling, and reading the log again. While readers
    /// receive smiles that they have not received before, reading the log again has no time limit.
    pub settle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { client: client::Patience::default(), quiet: Duration::from_secs(30), settle: Duration::from_mins(2) }
    }
}

/// Why no run started.
#[derive(Debug, Error)]
pub enum SimulationError {
    /// No replica listed the users.
    #[error("no replica listed the users; is the server running? {0}")]
    NoDirectory(#[source] ApiError),
    /// The store has fewer than two users.
    #[error("a conversation needs two users, but the number of users in the store is {0}")]
    TooFewUsers(usize),
    /// An interrupt came before the first smile was sent, while no session was open.
    #[error("interrupted before the run began")]
    Interrupted,
    /// The file with the token for crash requests cannot be read, or contains no valid token.
    #[error(transparent)]
    NoToken(#[from] InvalidValue),
    /// A replica listed the users, but no session was open at the end of the first stage.
    #[error("no session is open, so no smile can be sent: {0}")]
    NoSession(String),
}

impl SimulationError {
    /// The exit status of the command: 1 if the store has too few users, which breaks the contract; 2 if the token file
    /// is unreadable or contains no valid token; 3 if nothing could be tested.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::TooFewUsers(_) => 1,
            Self::NoToken(_) => 2,
            Self::NoDirectory(_) | Self::Interrupted | Self::NoSession(_) => 3,
        }
    }
}

/// Runs a simulation as a command: shows progress on standard error and prints the report on standard output. Returns
/// the exit status.
///
/// Each Ctrl-C ends the current stage. While the sessions are being opened, Ctrl-C also skips the next stage, sending,
/// or ends the command if no session is open yet. Before the first stage, Ctrl-C ends the command.
///
/// # Errors
/// [`SimulationError`], if no run started.
pub async fn run(options: &SimulateOptions) -> Result<u8, SimulationError> {
    let interrupt = Arc::new(Notify::new());
    let on_interrupt = Arc::clone(&interrupt);
    let listening = tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            on_interrupt.notify_one();
        }
    });
    let report = conduct(options, Patience::default(), Progress::on_standard_error(), interrupt).await;
    listening.abort();
    let report = report?;
    let text = if options.json { protocol::to_json(&report) } else { report.to_string() };
    // Best effort: the exit status carries the verdict, even if standard output is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(report.exit_status())
}

/// Runs a simulation and returns its report. A notification of `interrupt` has the effect of Ctrl-C in [`run`].
///
/// # Errors
/// [`SimulationError`], if no run started.
pub async fn conduct(
    options: &SimulateOptions,
    patience: Patience,
    progress: Progress,
    interrupt: Arc<Notify>,
) -> Result<Report, SimulationError> {
    let token = crash_token(options.crash_token_file.as_deref(), "SMILINGCHAT_SIMULATE_CRASH_TOKEN_FILE")?;
    let users = tokio::select! {
        users = directory::users(&options.url) => users.map_err(SimulationError::NoDirectory)?,
        () = interrupt.notified() => return Err(SimulationError::Interrupted),
    };
    // A random seed is below 2^53, so that a program that parses JSON numbers as floating point reads the exact seed in
    // the report.
    let seed = options.seed.unwrap_or_else(|| rand::random_range(0..OFFSET_LIMIT));
    let plan = Plan::new(seed, options, &users).ok_or(SimulationError::TooFewUsers(users.len()))?;
    let (plan, run) = (Arc::new(plan), RunId::random());
    progress.say(&format!("seed {seed}, run {}, {} sessions", run.as_str(), plan.seats()));
    let (sender, entries) = mpsc::channel(QUEUE_LIMIT);
    let ledger = Ledger::new(Arc::clone(&plan), run.clone());
    let started = Instant::now();
    let shared = Arc::new(Shared { plan, run, urls: options.url.clone(), patience, started, ledger: sender });
    let (course, follow) = watch::channel(Course::default());
    let mut seats = JoinSet::new();
    for seat in 0..shared.plan.seats() {
        seats.spawn(User::new(seat, Arc::clone(&shared), follow.clone()).run());
    }
    let mut conductor = Conductor {
        shared,
        ledger,
        entries,
        batch: Vec::with_capacity(BATCH),
        course,
        progress,
        ticks: interval(Duration::from_millis(100)),
        interrupt,
        crash_every: (options.crash_every > 0.0).then(|| Duration::from_secs_f64(options.crash_every)),
        token,
    };
    let report = conductor.lead(seed).await;
    drop(conductor);
    // Users close their own sessions. Dropping `seats` aborts the users that take too long.
    let _ = timeout(patience.client.silence, async { while seats.join_next().await.is_some() {} }).await;
    report
}

struct Shared {
    plan: Arc<Plan>,
    run: RunId,
    urls: Vec<Url>,
    patience: Patience,
    started: Instant,
    ledger: mpsc::Sender<Entry>,
}

impl Shared {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The URLs of the replicas, rotated by `place` so that the clients spread over them.
    fn urls_from(&self, place: usize) -> Vec<Url> {
        let mut urls = self.urls.clone();
        urls.rotate_left(place % self.urls.len());
        urls
    }

    /// Queues an event of a client for the ledger, and waits while the queue is full.
    async fn tell(&self, stream: StreamNumber, event: client::Event) {
        let event = match event {
            client::Event::Welcomed { replica, epoch, offset, recovered, resumed_from } => {
                Event::Welcomed(Welcomed { replica, epoch, offset, recovered, resumed_from })
            }
            client::Event::Answering => Event::Answering,
            client::Event::Sending(id) => match self.run.beat_of(&id) {
                Some(beat) => Event::Written(beat),
                None => return,
            },
            client::Event::Acked { id, offset, duplicate } => Event::Acked { id, offset, duplicate },
            client::Event::Received(smile) => Event::Received(smile),
            client::Event::Refused { id, code } => Event::Refused { id, code },
            client::Event::NotConnected { cause, .. } => Event::NotConnected { cause },
            client::Event::Breach(breach) => Event::BreachOfContract(breach),
            client::Event::Lost { since, .. } => {
                let at = since.duration_since(self.started);
                return self.note_at(stream, at, Event::ConnectionLost).await;
            }
            client::Event::Ended => return,
        };
        self.note(stream, event).await;
    }

    async fn note(&self, stream: StreamNumber, event: Event) {
        self.note_at(stream, self.now(), event).await;
    }

    async fn note_at(&self, stream: StreamNumber, at: Duration, event: Event) {
        // Fails only after the run, when the queue is closed.
        let _ = self.ledger.send(Entry { stream, at, event }).await;
    }
}

/// The times count from the start of the run.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// When sending begins.
    begin: Option<Duration>,
    /// When sending ends. Later beats are dropped.
    end: Option<Duration>,
    /// Whether users give up refused smiles instead of sending them again.
    give_up: bool,
    /// Whether users close their sessions and stop.
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StageEnd {
    /// The condition of the stage holds.
    Done,
    /// The stage made no progress for too long.
    Quiet,
    /// The time limit of the stage passed.
    Late,
    Interrupted,
}

/// Runs the stages and keeps the ledger.
struct Conductor {
    shared: Arc<Shared>,
    ledger: Ledger,
    entries: mpsc::Receiver<Entry>,
    batch: Vec<Entry>,
    course: watch::Sender<Course>,
    progress: Progress,
    ticks: Interval,
    interrupt: Arc<Notify>,
    crash_every: Option<Duration>,
    token: Option<String>,
}

impl Conductor {
    async fn lead(&mut self, seed: u64) -> Result<Report, SimulationError> {
        let Patience { quiet, settle, .. } = self.shared.patience;
        let gathered = self.stage("opening sessions", quiet, settle, Ledger::all_live).await;
        if self.ledger.live() == 0 {
            if gathered == StageEnd::Interrupted {
                return Err(SimulationError::Interrupted);
            }
            let causes = &self.ledger.counts().refused_upgrades;
            let causes: Vec<_> = causes.iter().map(|(cause, count)| format!("{cause} ({count})")).collect();
            let why = if causes.is_empty() { "all sessions were lost".to_owned() } else { causes.join(", ") };
            return Err(SimulationError::NoSession(why));
        }
        let begin = self.shared.now();
        self.course.send_modify(|course| course.begin = Some(begin));
        let mut requests = None;
        if gathered != StageEnd::Interrupted {
            requests = self.crash_every.map(|every| {
                let course = self.course.subscribe();
                let crashes = crasher::crash_every(every, self.token.take(), Arc::clone(&self.shared), course);
                AbortOnDropHandle::new(tokio::spawn(crashes))
            });
            self.stage("sending", Duration::MAX, self.shared.plan.duration(), |_| false).await;
        }
        let end = self.shared.now();
        self.course.send_modify(|course| course.end = Some(end));
        self.settle(requests).await;
        let reread_users = self.read_again().await;
        self.progress.finish();
        let circumstances = Circumstances {
            seed,
            run: self.shared.run.as_str().to_owned(),
            sessions: self.shared.plan.seats(),
            seconds: end.saturating_sub(begin).as_secs_f64(),
            reread_users,
        };
        Ok(Report::new(&self.ledger, circumstances))
    }

    /// Waits until the run settles, and stops the users. A replica at its maximum number of sessions accepts no readers
    /// before the users have closed their sessions.
    async fn settle(&mut self, requests: Option<AbortOnDropHandle<()>>) {
        let Patience { client, quiet, settle } = self.shared.patience;
        // The ledger must list a crash that was requested just before sending ended.
        let all_answered = || requests.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        let settled = self.stage("settling", quiet, settle, |ledger| all_answered() && ledger.settled()).await;
        if settled != StageEnd::Done {
            self.ledger.cut_settling(settled == StageEnd::Quiet);
            self.course.send_modify(|course| course.give_up = true);
            if self.stage("giving up", quiet, client.silence, Ledger::given_up_and_answered).await
                == StageEnd::Interrupted
            {
                self.ledger.cut_settling(false);
            }
        }
        self.course.send_modify(|course| course.over = true);
        self.stage("closing sessions", quiet, client.silence, Ledger::stopped).await;
    }

    /// Returns the number of readers with nothing left to read.
    async fn read_again(&mut self) -> usize {
        let Patience { quiet, settle, .. } = self.shared.patience;
        let mut users: Vec<_> = (0..self.shared.plan.seats()).map(|seat| self.shared.plan.user(seat).clone()).collect();
        users.sort_unstable();
        users.dedup();
        let places = Arc::new(Semaphore::new(READERS));
        let mut readers = JoinSet::new();
        for rereading in users.iter().filter_map(|user| self.ledger.begin_reread(user)) {
            let (shared, places) = (Arc::clone(&self.shared), Arc::clone(&places));
            readers.spawn(async move {
                let _place = places.acquire().await;
                reader::reread(rereading, shared).await;
            });
        }
        let all_read = |ledger: &Ledger| ledger.reread() == ledger.readers();
        let end = loop {
            let read = self.ledger.read();
            let end = self.stage("reading the log again", quiet, settle, all_read).await;
            if end != StageEnd::Late || self.ledger.read() == read {
                break end;
            }
        };
        let complete = self.ledger.reread();
        self.ledger.end_reread(end == StageEnd::Quiet);
        complete
    }

    /// Records events in the ledger until `done` holds, [`Ledger::movement`] has not changed for `quiet`, `most` or
    /// [`LONGEST_STAGE`] has passed, or an interrupt comes.
    async fn stage(&mut self, name: &str, quiet: Duration, most: Duration, done: impl Fn(&Ledger) -> bool) -> StageEnd {
        let began = Instant::now();
        let limit = began + most.min(LONGEST_STAGE);
        let (mut moved_at, mut movement) = (began, self.ledger.movement());
        loop {
            if done(&self.ledger) {
                return StageEnd::Done;
            }
            tokio::select! {
                _ = self.entries.recv_many(&mut self.batch, BATCH) => {
                    self.batch.drain(..).for_each(|entry| self.ledger.record(entry));
                }
                _ = self.ticks.tick() => {
                    self.progress.show(name, began.elapsed(), &self.ledger);
                    if movement != self.ledger.movement() {
                        (moved_at, movement) = (Instant::now(), self.ledger.movement());
                    } else if moved_at.elapsed() >= quiet {
                        return StageEnd::Quiet;
                    }
                }
                () = sleep_until(limit) => return StageEnd::Late,
                () = self.interrupt.notified() => return StageEnd::Interrupted,
            }
        }
    }
}
