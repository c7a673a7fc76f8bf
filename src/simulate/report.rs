//! The report of a run: the ledger's figures, as a table or as one JSON object.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::latency::Percentiles;
use super::ledger::{Crash, Fault, Ledger};

/// The figures and the verdict of a run. Fields whose names end in `_ms` are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the run is proven and no fault was found.
    pub clean: bool,
    /// Whether a smile was acked, and every smile could be followed to the end of the run. In a run with acked smiles
    /// that is not proven, a session or a reader was refused at the end, or an interrupt or a time limit came too
    /// early; the smiles that could not be followed do not count as faults.
    pub proven: bool,
    /// The seed. With the same options and users, it yields the same plan.
    pub seed: u64,
    /// The prefix of the ids of this run's smiles.
    pub run: String,
    /// The number of conversations.
    pub conversations: usize,
    /// The number of seats, each with one WebSocket at a time.
    pub sessions: usize,
    /// For how long smiles were sent, in seconds.
    pub seconds: f64,
    /// Smiles that users sent, even if their clients never wrote them.
    pub sent: u64,
    /// Sent smiles that their sender knows to be in the log.
    pub acked: u64,
    /// Sent smiles that reached the other user of the conversation.
    pub delivered: u64,
    /// Error frames by error code. A smile counts once for each refusal.
    pub errors: BTreeMap<&'static str, u64>,
    /// Failed attempts to open a session, by cause.
    pub refused_upgrades: BTreeMap<String, u64>,
    /// Smiles written again, after a refusal or a lost connection. A smile counts once for each repeat.
    pub retried: u64,
    /// Beats without a smile, because too many smiles were unanswered.
    pub skipped: u64,
    /// Smiles without a final answer that were never written, or whose last transmission was temporarily refused.
    pub given_up: u64,
    /// Smiles in the log that a stream should have received but did not.
    pub lost: u64,
    /// Smiles that appear twice in a stream or in the log.
    pub duplicated: u64,
    /// Smiles that are out of order, or share an offset.
    pub reordered: u64,
    /// Smiles whose faces or receiver differ from what was sent.
    pub altered: u64,
    /// Valid smiles that were permanently refused.
    pub failed: u64,
    /// Smiles that were written, and were still unanswered at the end.
    pub unanswered: u64,
    /// Other violations of the protocol.
    pub breaches: u64,
    /// Sessions that asked to resume but could not. Smiles that are missing as a result count as lost, except in the
    /// second reading, where such a session counts as a breach instead.
    pub gaps: u64,
    /// The number of users whose stream was read a second time, either to its end or until the reader could not resume.
    pub reread_users: usize,
    /// Sessions that replaced a lost session.
    pub reconnects: u64,
    /// The time from the loss of a connection to the first answer of a later session.
    pub recovery_ms: Percentiles,
    /// The time from the beat to the moment at which the sender knew that its smile was in the log, retries included.
    pub ack_ms: Percentiles,
    /// The time from the beat to the delivery to the other user.
    pub delivery_ms: Percentiles,
    /// Sessions by the id of the replica that held them.
    pub sessions_per_replica: BTreeMap<String, u64>,
    /// The accepted crash requests in order, with the cost of each crash.
    pub crashes: Vec<Crash>,
    /// Failed crash requests, by cause.
    pub refused_crashes: BTreeMap<String, u64>,
    /// The first faults in words, at most 20.
    pub faults: Vec<String>,
}

/// The facts about a run that the ledger does not know.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The seed. With the same options and users, it yields the same plan.
    pub seed: u64,
    /// The prefix of the ids of this run's smiles.
    pub run: String,
    /// The number of seats, each with one WebSocket at a time.
    pub sessions: usize,
    /// For how long smiles were sent, in seconds.
    pub seconds: f64,
    /// The number of users whose stream was read a second time, either to its end or until the reader could not resume.
    pub reread_users: usize,
}

impl Report {
    /// Builds the report from the figures and the verdict of the ledger.
    pub fn new(ledger: &Ledger, circumstances: Circumstances) -> Self {
        let (counts, faults, times) = (ledger.counts().clone(), ledger.verdict(), ledger.times());
        let Circumstances { seed, run, sessions, seconds, reread_users } = circumstances;
        Self {
            clean: ledger.proven() && faults.none(),
            proven: ledger.proven(),
            seed,
            run,
            conversations: sessions / 2,
            sessions,
            seconds,
            sent: counts.sent,
            acked: counts.acked,
            delivered: counts.delivered,
            errors: counts.errors,
            refused_upgrades: counts.refused_upgrades,
            retried: counts.retried,
            skipped: counts.skipped,
            given_up: ledger.given_up(),
            lost: faults.count(Fault::Lost),
            duplicated: faults.count(Fault::Duplicated),
            reordered: faults.count(Fault::Reordered),
            altered: faults.count(Fault::Altered),
            failed: faults.count(Fault::Failed),
            unanswered: faults.count(Fault::Unanswered),
            breaches: faults.count(Fault::Breach),
            gaps: counts.gaps,
            reread_users,
            reconnects: counts.reconnects,
            recovery_ms: times.recovery,
            ack_ms: times.ack,
            delivery_ms: times.delivery,
            sessions_per_replica: counts.sessions_per_replica,
            crashes: counts.crashes,
            refused_crashes: counts.refused_crashes,
            faults: faults.words().to_vec(),
        }
    }

    /// The exit status of the command: 0 if the run is proven clean, 1 if a promise was broken, otherwise 3.
    pub fn exit_status(&self) -> u8 {
        match (self.clean, self.faults.is_empty()) {
            (true, _) => 0,
            (false, true) => 3,
            (false, false) => 1,
        }
    }

    fn counts(&self) -> [(&'static str, u64); 15] {
        [
            ("sent", self.sent),
            ("acked", self.acked),
            ("delivered", self.delivered),
            ("retried", self.retried),
            ("skipped beats", self.skipped),
            ("given up", self.given_up),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("altered", self.altered),
            ("failed", self.failed),
            ("unanswered", self.unanswered),
            ("other breaches", self.breaches),
            ("gaps", self.gaps),
            ("reconnects", self.reconnects),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} conversations over {} sessions for {:.1} s, seed {}, run {}",
            self.conversations, self.sessions, self.seconds, self.seed, self.run
        )?;
        for (name, count) in self.counts() {
            writeln!(f, "  {name:<16} {count:>10}")?;
        }
        for (code, count) in &self.errors {
            writeln!(f, "  refused smiles   {count:>10}  {code}")?;
        }
        for (cause, count) in &self.refused_upgrades {
            writeln!(f, "  not connected    {count:>10}  {cause}")?;
        }
        for (replica, count) in &self.sessions_per_replica {
            writeln!(f, "  sessions         {count:>10}  {replica}")?;
        }
        for Crash { replica, sessions, recovered, recovery_ms } in &self.crashes {
            let lost = format!("{recovered} of {sessions} lost sessions recovered, the slowest in {recovery_ms:.1} ms");
            writeln!(f, "  crashed          {replica}: {lost}")?;
        }
        for (cause, count) in &self.refused_crashes {
            writeln!(f, "  not crashed      {count:>10}  {cause}")?;
        }
        writeln!(f, "  milliseconds          count        p50        p90        p99        max")?;
        let times =
            [("send to ack", self.ack_ms), ("send to delivery", self.delivery_ms), ("recovery", self.recovery_ms)];
        for (name, Percentiles { count, p50, p90, p99, max }) in times {
            writeln!(f, "  {name:<16} {count:>10} {p50:>10.1} {p90:>10.1} {p99:>10.1} {max:>10.1}")?;
        }
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        match (self.exit_status(), self.reread_users) {
            (0, users) => {
                write!(f, "clean: the log was read again for {users} users and holds every smile once, in order")
            }
            (3, _) if self.acked == 0 => {
                write!(f, "NOT PROVEN: no smile was acked, so nothing was tested; no broken promise was found")
            }
            (3, _) => write!(
                f,
                "NOT PROVEN: the run ended before every session had caught up, or the log could not be read again to \
                 its end; no broken promise was found"
            ),
            _ => write!(f, "NOT CLEAN: the server broke the promises listed above"),
        }
    }
}
