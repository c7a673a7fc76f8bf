//! The load process: opens the sessions, sends smiles and reports.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, LocalSet};

use super::Plan;
use super::dialect::Dialect;
use super::polling::Connection;
use super::session::Session;
use super::tally::Tally;
use crate::helper;

pub(crate) const ROLE: &str = "--be-the-load";

/// The time limit for the last answers, counted from the end of sending.
const PATIENCE: Duration = Duration::from_secs(10);

/// All sessions are tasks on one thread, because in measurements on SQLite the load process has
/// only one CPU if processes can be pinned.
pub(crate) fn work() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let plan = helper::plan();
        let tally = Rc::new(RefCell::new(Tally::new()));
        let elapsed = if matches!(plan, Plan { dialect: Dialect::Polling, .. }) {
            polling(&plan, &tally).await
        } else {
            sessions(&plan, &tally).await
        };
        helper::done(&tally.borrow().outcome(elapsed));
    });
}

async fn sessions(plan: &Plan, tally: &Rc<RefCell<Tally>>) -> Duration {
    let mut open = Vec::new();
    for number in 0..plan.sessions {
        let (address, user, to) = plan.session(number);
        let session = Session::open(address, plan.dialect, user, to, Rc::clone(tally)).await;
        open.push(session.expect("the session should open"));
    }
    helper::prepared();
    let began = Instant::now();
    let until = began + plan.duration;
    let mut senders = Vec::new();
    for (number, session) in open.into_iter().enumerate() {
        if number < plan.senders {
            senders.push(tokio::task::spawn_local(session.send(plan.unanswered, until)));
        } else {
            tokio::task::spawn_local(session.listen());
        }
    }
    finished(senders, until).await;
    began.elapsed()
}

async fn polling(plan: &Plan, tally: &Rc<RefCell<Tally>>) -> Duration {
    let mut open = Vec::new();
    for number in 0..plan.sessions {
        let (address, user, to) = plan.session(number);
        let sending = Connection::open(address, user, Rc::clone(tally)).await.expect("a connection");
        let mut polling = Connection::open(address, user, Rc::clone(tally)).await.expect("a connection");
        // The warm-up and earlier rounds may have left smiles in the store.
        let newest = polling.newest().await.expect("the number of the newest smile");
        open.push((sending, polling, newest, to.to_owned()));
    }
    helper::prepared();
    let began = Instant::now();
    let until = began + plan.duration;
    let mut senders = Vec::new();
    for (sending, polling, newest, to) in open {
        senders.push(tokio::task::spawn_local(sending.send(to, until)));
        tokio::task::spawn_local(polling.poll(newest));
    }
    finished(senders, until).await;
    began.elapsed()
}

/// Waits for the senders, at most [`PATIENCE`] beyond `until`. Panics if a sender's connection breaks.
async fn finished(senders: Vec<JoinHandle<std::io::Result<()>>>, until: Instant) {
    let all = async {
        for sender in senders {
            sender.await.expect("no sender should panic").expect("the connection should stay open");
        }
    };
    let _ = tokio::time::timeout_at((until + PATIENCE).into(), all).await;
}

impl Plan {
    /// The server, the user and the partner of a session. Sessions 0 and 1 are partners, as are 2 and 3, and so on.
    fn session(&self, number: usize) -> (std::net::SocketAddr, &str, &str) {
        let user = |number: usize| self.users[number % self.users.len()].as_str();
        (self.addresses[number % self.addresses.len()], user(number), user(number ^ 1))
    }
}
