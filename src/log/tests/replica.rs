//! A replica without sockets: its appender, its indexer and, on MySQL, its follower. Dropping the replica aborts these
//! tasks, as killing the process would.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::hub::{Hub, Push, Subscription};
use crate::index::{self, Index, Indexer};
use crate::log::AppendQueue;
use crate::model::{NewSmile, Offset, Smile, SmileId, UserName};
use crate::store::tests::PATIENCE;
use crate::store::{SEGMENT, Store, StoreError};
use crate::tail::{Follower, Tail};
use crate::telemetry::Metrics;

/// Below the capacity of an outbox.
const MAX_IN_FLIGHT: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Stored(Offset),
    Duplicate(Offset),
    Refused,
}

impl Answer {
    pub(super) fn offset(self) -> Offset {
        match self {
            Self::Stored(offset) | Self::Duplicate(offset) => offset,
            Self::Refused => panic!("the smile was refused"),
        }
    }
}

pub(super) struct Replica {
    pub(super) store: Store,
    pub(super) tail: Arc<Tail>,
    hub: Arc<Hub>,
    pub(super) index: Index,
    pub(super) metrics: Arc<Metrics>,
    queue: Arc<AppendQueue>,
    indexer: Option<Indexer>,
    /// Stops the appender.
    pub(super) stop: CancellationToken,
    tasks: JoinSet<Result<(), StoreError>>,
}

impl Replica {
    pub(super) async fn start(store: Store) -> Self {
        let mut replica = Self::without_indexer(store).await;
        replica.start_indexer();
        replica
    }

    /// The indexer does not run, and the filters are not loaded, until a call to [`Replica::start_indexer`].
    pub(super) async fn without_indexer(store: Store) -> Self {
        let metrics = Arc::new(Metrics::new());
        let hub = Arc::new(Hub::default());
        let (tail, index, indexer) = index::open(&store, Arc::clone(&hub), Arc::clone(&metrics)).await.unwrap();
        let (queue, appender) = AppendQueue::new(store.clone(), Arc::clone(&tail), index.clone(), Arc::clone(&metrics));
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(appender.run(stop.clone()));
        if let Store::MySql(mysql) = &store {
            tasks.spawn(Follower::new(Arc::clone(mysql), Arc::clone(&tail)).run());
        }
        Self { store, tail, hub, index, metrics, queue, indexer: Some(indexer), stop, tasks }
    }

    pub(super) fn start_indexer(&mut self) {
        let indexer = self.indexer.take().expect("the indexer should be started only once");
        self.tasks.spawn(indexer.run());
    }

    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
        self.store.close().await;
    }

    /// Waits until a task ends. A task ends when it fails, and the appender also when it is stopped.
    pub(super) async fn ended(&mut self) -> Result<(), StoreError> {
        self.tasks.join_next().await.expect("the replica should have tasks").expect("no task should panic")
    }

    pub(super) fn user(&self, name: &str) -> &UserName {
        self.store.user(name).unwrap()
    }

    /// Waits until every full segment that the tail has published is indexed.
    pub(super) async fn until_indexed(&self) {
        let indexed = self.tail.wait_for(|tail| tail.indexed().0 == tail.cursor().0 / SEGMENT * SEGMENT);
        tokio::time::timeout(PATIENCE, indexed).await.expect("the index should catch up");
    }

    pub(super) async fn until_smiles_are_accepted(&self) {
        let accepted = async {
            while self.queue.waiting.lock().pressure.check(Instant::now(), 0).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, accepted).await.expect("the log should accept smiles");
    }

    /// Returns the answers in the order of the smiles.
    pub(super) async fn send(&self, smiles: &[NewSmile]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for some in smiles.chunks(MAX_IN_FLIGHT) {
            let sent = tokio::time::timeout(PATIENCE, self.send_at_once(some)).await;
            answers.extend(sent.expect("every smile should be answered in time"));
        }
        answers
    }

    async fn send_at_once(&self, smiles: &[NewSmile]) -> Vec<Answer> {
        let mut sessions: HashMap<UserName, Session> = HashMap::new();
        for smile in smiles {
            sessions.entry(smile.from.clone()).or_insert_with(|| Session::new(self, &smile.from));
        }
        let mut answers = vec![None; smiles.len()];
        for (place, smile) in smiles.iter().enumerate() {
            let session = sessions.get_mut(&smile.from).expect("every sender should have a session");
            match self.queue.submit(smile.clone(), Instant::now(), &session.subscription.outbox, || Ok(())) {
                Ok(()) => session.in_flight.entry(smile.id.clone()).or_default().push_back(place),
                Err(_) => answers[place] = Some(Answer::Refused),
            }
        }
        for session in sessions.values_mut() {
            while !session.in_flight.is_empty() {
                for (place, answer) in session.answers(self).await {
                    answers[place] = Some(answer);
                }
            }
        }
        answers.into_iter().map(|answer| answer.expect("every smile should have an answer")).collect()
    }

    /// A user's whole stream after an offset, read page by page.
    pub(super) async fn stream(&self, user: &str, after: Offset, page: usize) -> Result<Vec<Smile>, StoreError> {
        let (mut after, until) = (after, self.tail.cursor());
        let mut smiles = Vec::new();
        while after < until {
            let read = self.index.stream(self.user(user), after, until, page).await?;
            assert!(read.through > after && read.smiles.len() <= page);
            assert!(read.smiles.iter().all(|found| found.smile.offset > after && found.smile.offset <= read.through));
            after = read.through;
            smiles.extend(read.smiles.iter().map(|found| found.smile.clone()));
        }
        Ok(smiles)
    }

    /// A whole conversation before an offset, read page by page.
    pub(super) async fn history(&self, users: (&str, &str), before: Option<Offset>, page: usize) -> Vec<Smile> {
        let users = (self.user(users.0), self.user(users.1));
        let (mut smiles, mut before) = (Vec::new(), before);
        loop {
            let (mut read, more) = self.index.history(users, before, page).await.unwrap();
            assert!(read.len() <= page && (!more || read.len() == page));
            assert!(read.iter().all(|smile| before.is_none_or(|before| smile.offset < before)));
            assert!(read.is_sorted_by(|one, next| one.offset < next.offset));
            read.append(&mut smiles);
            smiles = read;
            before = smiles.first().map(|smile| smile.offset);
            if !more {
                return smiles;
            }
        }
    }
}

/// The part of a session that reads the outbox.
struct Session {
    subscription: Subscription,
    user: UserName,
    /// The session has received the user's stream up to this offset.
    offset: Offset,
    /// For each id, the positions of its unanswered smiles among the smiles to send.
    in_flight: HashMap<SmileId, VecDeque<usize>>,
}

impl Session {
    fn new(replica: &Replica, user: &UserName) -> Self {
        let subscription = replica.hub.subscribe(user);
        Self { subscription, user: user.clone(), offset: replica.tail.cursor(), in_flight: HashMap::new() }
    }

    /// If several smiles in flight have the same id, an answer goes to the oldest of them.
    async fn answers(&mut self, replica: &Replica) -> Vec<(usize, Answer)> {
        let taken = self.subscription.take().await;
        let mut answers = Vec::new();
        for push in taken.pushes {
            match push {
                Push::Publication(publication) => answers.extend(self.published(&publication.smile)),
                Push::Duplicate(id, offset) => answers.extend(self.answer(&id, Answer::Duplicate(offset))),
                Push::Refused(id) => answers.extend(self.answer(&id, Answer::Refused)),
                Push::Leave(_) => {}
            }
        }
        let until = replica.tail.cursor();
        while taken.lagged && self.offset < until {
            let page = replica.index.stream(&self.user, self.offset, until, 200).await.unwrap();
            for publication in page.smiles {
                answers.extend(self.published(&publication.smile));
            }
            self.offset = page.through;
        }
        answers
    }

    fn published(&mut self, smile: &Smile) -> Option<(usize, Answer)> {
        if smile.offset <= self.offset {
            return None;
        }
        self.offset = smile.offset;
        if smile.from == self.user { self.answer(&smile.id, Answer::Stored(smile.offset)) } else { None }
    }

    fn answer(&mut self, id: &SmileId, answer: Answer) -> Option<(usize, Answer)> {
        let places = self.in_flight.get_mut(id)?;
        let place = places.pop_front()?;
        if places.is_empty() {
            self.in_flight.remove(id);
        }
        Some((place, answer))
    }
}
