//! A long random test: connects, disconnects, sends, repeats, lost answers, resumes, histories and restarts. A ledger
//! predicts the smiles that each session receives, and the acks of the smiles that are not refused. The test runs with
//! one replica on SQLite and with several on MySQL.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::UNLIMITED;
use crate::support::client::{TestClient, id, offset};
use crate::support::environment::seed;
use crate::support::mysql::TestDatabase;
use crate::support::replica::{TestReplica, TestStore};

const USERS: [&str; 5] = ["anna", "bruno", "carla", "dario", "elena"];

const STEPS: usize = 400;

/// The maximum number of open sessions after a step.
const SESSIONS: usize = 12;

/// The number of replicas on MySQL.
const REPLICAS: usize = 3;

/// A smile in the ledger. Its offset is its index in the ledger plus 1.
#[derive(Clone, Debug)]
struct SentSmile {
    id: String,
    from: &'static str,
    to: &'static str,
}

/// A session that has received its user's stream up to `offset`.
struct Session {
    client: TestClient,
    user: &'static str,
    offset: usize,
}

enum Shared {
    File(TestStore),
    Database(TestDatabase),
}

struct Story {
    random: StdRng,
    shared: Shared,
    replicas: Vec<TestReplica>,
    epoch: String,
    log: Vec<SentSmile>,
    sessions: Vec<Session>,
    ids: u32,
}

impl Story {
    async fn begin(shared: Shared) -> Self {
        let random = StdRng::seed_from_u64(seed());
        let (replicas, log, sessions) = (Vec::new(), Vec::new(), Vec::new());
        let mut story = Self { random, shared, replicas, epoch: String::new(), log, sessions, ids: 0 };
        let replicas = if matches!(story.shared, Shared::File(_)) { 1 } else { REPLICAS };
        while story.replicas.len() < replicas {
            story.start_a_replica().await;
        }
        story.epoch = TestClient::connect(story.address(), "anna").await.epoch();
        story
    }

    async fn start_a_replica(&mut self) {
        let replica = match &self.shared {
            Shared::File(store) => TestReplica::on(store, &UNLIMITED).await,
            Shared::Database(database) => {
                let url = database.url();
                let options: Vec<_> = UNLIMITED.into_iter().chain([("store", url.as_str())]).collect();
                TestReplica::start(&options).await
            }
        };
        self.replicas.push(replica);
    }

    async fn stop_a_replica(&mut self) {
        let place = self.random.random_range(0..self.replicas.len());
        self.replicas.swap_remove(place).stop().await;
    }

    /// The offset at which a session that did not resume starts: the end of the log, or on MySQL the end of the part
    /// that the session's replica has published.
    fn start_of(&self, client: &TestClient) -> usize {
        let start = usize::try_from(client.offset()).expect("an offset");
        let is_head = match self.shared {
            Shared::File(_) => start == self.log.len(),
            Shared::Database(_) => start <= self.log.len(),
        };
        assert!(
            is_head && !client.recovered(),
            "the session resumed, or started at a wrong offset with {} smiles in the ledger: {}",
            self.log.len(),
            client.welcome
        );
        start
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..15 => self.connect().await,
            15..30 => self.resume().await,
            30..35 => self.resume_without_recovery().await,
            35..45 => self.disconnect().await,
            45..65 => self.send(1).await,
            65..75 => self.send(25).await,
            75..85 => self.repeat().await,
            85..91 => self.lose_an_answer().await,
            91..97 => self.compare_a_history().await,
            _ => self.restart().await,
        }
    }

    /// The address of a random replica.
    fn address(&mut self) -> std::net::SocketAddr {
        self.replicas[self.random.random_range(0..self.replicas.len())].address
    }

    fn a_user(&mut self) -> &'static str {
        USERS[self.random.random_range(0..USERS.len())]
    }

    fn another_user(&mut self, than: &str) -> &'static str {
        loop {
            let user = self.a_user();
            if user != than {
                return user;
            }
        }
    }

    /// Removes a random session from the list, and receives the smiles that the ledger predicts for that session.
    async fn take_a_session(&mut self) -> Option<Session> {
        if self.sessions.is_empty() {
            return None;
        }
        let mut session = self.sessions.swap_remove(self.random.random_range(0..self.sessions.len()));
        self.receive(&mut session).await;
        Some(session)
    }

    /// Receives the smiles that the ledger predicts for a session.
    async fn receive(&self, session: &mut Session) {
        for (place, sent) in self.log.iter().enumerate().skip(session.offset) {
            if sent.from == session.user || sent.to == session.user {
                let frame = session.client.expect("smile").await;
                check(&frame, place + 1, sent);
            }
        }
        session.offset = self.log.len();
    }

    async fn add(&mut self, session: Session) {
        self.sessions.push(session);
        if self.sessions.len() > SESSIONS {
            self.disconnect().await;
        }
    }

    async fn connect(&mut self) {
        let user = self.a_user();
        let client = TestClient::connect(self.address(), user).await;
        let offset = self.start_of(&client);
        self.add(Session { client, user, offset }).await;
    }

    async fn resume(&mut self) {
        let (user, offset) = (self.a_user(), self.random.random_range(0..=self.log.len()));
        let session = self.resumed(user, offset).await;
        self.add(session).await;
    }

    async fn resumed(&mut self, user: &'static str, offset: usize) -> Session {
        let client = TestClient::resume(self.address(), user, offset as u64, &self.epoch).await;
        assert_eq!((client.offset(), client.recovered()), (offset as u64, true));
        Session { client, user, offset }
    }

    async fn resume_without_recovery(&mut self) {
        let user = self.a_user();
        let beyond = self.log.len() as u64 + self.random.random_range(1..100);
        let address = self.address();
        let client = if self.random.random() {
            TestClient::resume(address, user, beyond, &self.epoch).await
        } else {
            TestClient::resume(address, user, 0, "another").await
        };
        let offset = self.start_of(&client);
        self.add(Session { client, user, offset }).await;
    }

    async fn disconnect(&mut self) {
        let with_a_close_frame = self.random.random();
        if let Some(session) = self.take_a_session().await
            && with_a_close_frame
        {
            session.client.close().await;
        }
    }

    fn new_smile(&mut self, from: &'static str) -> SentSmile {
        self.ids += 1;
        SentSmile { id: format!("s{}", self.ids), from, to: self.another_user(from) }
    }

    /// Sends new smiles without waiting between them. Their acks must arrive in the same order.
    async fn send(&mut self, count: usize) {
        let Some(mut session) = self.take_a_session().await else { return };
        let smiles: Vec<SentSmile> = (0..count).map(|_| self.new_smile(session.user)).collect();
        for sent in &smiles {
            session.client.send_smile(&sent.id, sent.to).await;
        }
        let (mut acks, mut refused) = (Vec::new(), Vec::new());
        for _ in &smiles {
            let answer = session.client.next().await;
            if answer["type"] == "ack" {
                acks.push(answer);
            } else {
                // The store may stall for a moment. A refused smile is not in the ledger and must never appear.
                assert_eq!(answer["code"], "overloaded", "{answer}");
                refused.push(id(&answer));
            }
        }
        let admitted: Vec<SentSmile> = smiles.into_iter().filter(|sent| !refused.contains(&sent.id)).collect();
        assert_eq!(acks.len(), admitted.len());
        for (ack, sent) in acks.into_iter().zip(admitted) {
            self.log.push(sent.clone());
            assert_eq!(ack, json!({"type": "ack", "id": sent.id, "offset": self.log.len(), "duplicate": false}));
        }
        session.offset = self.log.len();
        self.add(session).await;
    }

    /// Sends an old id again, possibly to another receiver.
    async fn repeat(&mut self) {
        let Some(mut session) = self.take_a_session().await else { return };
        let own: Vec<usize> = (0..self.log.len()).filter(|place| self.log[*place].from == session.user).collect();
        if !own.is_empty() {
            let place = own[self.random.random_range(0..own.len())];
            let (id, to) = (self.log[place].id.clone(), self.another_user(session.user));
            session.client.send_smile(&id, to).await;
            let expected = json!({"type": "ack", "id": id, "offset": place + 1, "duplicate": true});
            assert_eq!(session.client.next().await, expected);
        }
        self.add(session).await;
    }

    /// Sends a smile, drops the connection without reading the answer, resumes and sends the smile again. The log must
    /// hold the smile once.
    async fn lose_an_answer(&mut self) {
        let Some(mut session) = self.take_a_session().await else { return };
        let sent = self.new_smile(session.user);
        session.client.send_smile(&sent.id, sent.to).await;
        let user = session.user;
        drop(session);
        let mut session = self.resumed(user, self.log.len()).await;
        session.client.send_smile(&sent.id, sent.to).await;
        self.log.push(sent.clone());
        let (mut received, mut acked) = (0, false);
        while received == 0 || !acked {
            let frame = session.client.next().await;
            assert_eq!((offset(&frame), &id(&frame)), (self.log.len() as u64, &sent.id), "{frame}");
            acked |= frame["type"] == "ack";
            received += u32::from(frame["type"] == "smile" || frame["duplicate"] == false);
        }
        assert_eq!(received, 1, "{sent:?} was received more than once");
        session.offset = self.log.len();
        self.add(session).await;
    }

    async fn compare_a_history(&mut self) {
        let Some(mut session) = self.take_a_session().await else { return };
        let (user, peer) = (session.user, self.another_user(session.user));
        let between = |sent: &SentSmile| (sent.from, sent.to) == (user, peer) || (sent.from, sent.to) == (peer, user);
        let history = session.client.history(peer).await;
        let expected: Vec<_> = self.log.iter().enumerate().filter(|(_, sent)| between(sent)).collect();
        assert_eq!(history.len(), expected.len());
        for (smile, (place, sent)) in history.iter().zip(expected) {
            check(smile, place + 1, sent);
        }
        self.add(session).await;
    }

    async fn restart(&mut self) {
        self.sessions.clear();
        self.stop_a_replica().await;
        self.start_a_replica().await;
    }

    async fn end(mut self) {
        while let Some(mut session) = self.take_a_session().await {
            session.client.expect_alive().await;
        }
        for user in USERS {
            let mut session = self.resumed(user, 0).await;
            self.receive(&mut session).await;
            session.client.expect_alive().await;
        }
        assert!(self.log.len() > STEPS / 2, "the test sent too few smiles: {}", self.log.len());
        while !self.replicas.is_empty() {
            self.stop_a_replica().await;
        }
    }
}

fn check(smile: &Value, at: usize, sent: &SentSmile) {
    assert_eq!((offset(smile), id(smile)), (at as u64, sent.id.clone()), "{smile}");
    assert_eq!((&smile["from"], &smile["to"]), (&json!(sent.from), &json!(sent.to)), "{smile}");
}

async fn tell(shared: Shared) {
    let mut story = Story::begin(shared).await;
    for _ in 0..STEPS {
        story.step().await;
    }
    story.end().await;
}

#[tokio::test]
async fn random_steps_match_the_ledger_on_sqlite() {
    tell(Shared::File(TestStore::new())).await;
}

#[tokio::test]
async fn random_steps_match_the_ledger_on_mysql() {
    let Some(database) = TestDatabase::new().await else { return };
    tell(Shared::Database(database)).await;
}
