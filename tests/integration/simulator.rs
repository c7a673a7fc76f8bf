//! The simulator against a server that misbehaves on request: the simulator reports each kind of fault, tolerates what
//! the protocol allows, and finds no fault in a correct server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smilingchat::client;
use smilingchat::config::SimulateOptions;
use smilingchat::simulate::progress::Progress;
use smilingchat::simulate::report::Report;
use smilingchat::simulate::{Patience, SimulationError, conduct};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use url::Url;

use crate::support::misbehaving::{Behaviour, Fault, MisbehavingServer};

const USERS: usize = 6;

/// A timeout that only a failing test reaches.
const FOR_EVER: Duration = Duration::from_mins(1);

fn options(url: Url) -> SimulateOptions {
    SimulateOptions {
        url: vec![url],
        conversations: 3,
        rate: 100.0,
        duration: 0.5,
        seed: Some(7),
        crash_every: 0.0,
        crash_token_file: None,
        json: false,
    }
}

fn patience(quiet: Duration) -> Patience {
    Patience {
        client: client::Patience {
            connect: Duration::from_secs(5),
            ping_after: Duration::from_millis(150),
            silence: Duration::from_millis(500),
        },
        quiet,
        settle: FOR_EVER,
    }
}

async fn simulate(options: &SimulateOptions, quiet: Duration) -> Result<Report, SimulationError> {
    conduct(options, patience(quiet), Progress::silent(), Arc::new(Notify::new())).await
}

async fn against(behaviour: Behaviour, quiet: Duration) -> Report {
    let server = MisbehavingServer::start(USERS, behaviour).await;
    simulate(&options(server.url()), quiet).await.unwrap()
}

async fn with_fault(fault: Fault) -> Report {
    against(Behaviour { fault, ..Behaviour::default() }, FOR_EVER).await
}

fn assert_complete(report: &Report) {
    assert!(report.clean && report.proven, "the run was not proven clean: {report}");
    assert_eq!((report.acked + report.given_up, report.given_up), (report.sent, 0), "{report}");
    assert_eq!((report.delivered, report.reread_users), (report.sent, USERS), "{report}");
    assert!(report.sent > 0, "no smile was sent: {report}");
}

fn assert_only(report: &Report, lost: u64, duplicated: u64, reordered: u64) {
    assert!(!report.clean, "the fault was not detected: {report}");
    assert_eq!((report.lost, report.duplicated, report.reordered), (lost, duplicated, reordered), "{report}");
    let others = [report.altered, report.failed, report.unanswered, report.breaches];
    assert_eq!(others, [0; 4], "{report}");
}

#[tokio::test]
async fn no_fault_is_found_in_a_correct_server() {
    let report = with_fault(Fault::None).await;
    assert_complete(&report);
    assert_eq!(report.sent + report.skipped, 150, "{report}");
    assert_eq!((report.ack_ms.count, report.delivery_ms.count), (report.sent, report.sent));
    assert_eq!((report.reconnects, report.retried), (0, 0), "{report}");
    // One session for each user of each conversation, and one for each user to read the log again.
    assert_eq!(report.sessions_per_replica["misbehaving.1"], 6 + USERS as u64, "{report}");
}

#[tokio::test]
async fn overload_is_tolerated() {
    let report = against(Behaviour { overload_every: 3, ..Behaviour::default() }, FOR_EVER).await;
    assert_complete(&report);
    assert!(
        report.errors["overloaded"] > 0 && report.retried >= report.errors["overloaded"],
        "no overload was counted, or too few smiles were sent again: {report}"
    );
}

#[tokio::test]
async fn a_server_that_stores_nothing_proves_nothing() {
    let report = against(Behaviour { overload_every: 1, ..Behaviour::default() }, Duration::from_secs(1)).await;
    assert_eq!((report.acked, report.faults.as_slice(), report.exit_status()), (0, [].as_slice(), 3), "{report}");
    assert!(report.to_string().contains("no smile was acked"), "the verdict was wrong: {report}");
}

#[tokio::test]
async fn broken_connections_and_refused_upgrades_are_tolerated() {
    let behaviour = Behaviour { break_every: 10, refuse_upgrade_every: 3, overload_every: 7, ..Behaviour::default() };
    let report = against(behaviour, FOR_EVER).await;
    assert_complete(&report);
    assert!(
        report.reconnects > 0 && report.recovery_ms.count > 0 && report.retried > 0,
        "no session reconnected or recovered, or no smile was sent again: {report}"
    );
    assert!(report.refused_upgrades.values().sum::<u64>() > 0, "no refused upgrade was counted: {report}");
}

#[tokio::test]
async fn drains_are_tolerated() {
    let report = against(Behaviour { drain_every: 15, ..Behaviour::default() }, FOR_EVER).await;
    assert_complete(&report);
    assert!(report.reconnects > 0, "no session reconnected: {report}");
}

#[tokio::test]
async fn hung_connections_are_given_up() {
    let report = against(Behaviour { hang_every: 40, ..Behaviour::default() }, FOR_EVER).await;
    assert_complete(&report);
    assert!(report.reconnects > 0 && report.recovery_ms.max >= 500.0, "no hung session was given up: {report}");
}

#[tokio::test]
async fn a_user_may_be_in_several_conversations() {
    let server = MisbehavingServer::start(4, Behaviour { break_every: 20, ..Behaviour::default() }).await;
    let report = simulate(&SimulateOptions { conversations: 7, ..options(server.url()) }, FOR_EVER).await.unwrap();
    assert!(report.clean, "the run had faults: {report}");
    assert_eq!((report.acked, report.delivered), (report.sent, report.sent), "{report}");
    assert_eq!(report.sessions, 14);
}

#[tokio::test]
async fn an_unreachable_replica_is_skipped() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = MisbehavingServer::start(USERS, Behaviour { break_every: 10, ..Behaviour::default() }).await;
    let nobody = Url::parse(&format!("ws://{nobody}/ws")).unwrap();
    let options = SimulateOptions { url: vec![nobody.clone(), server.url()], ..options(server.url()) };
    let report = simulate(&options, FOR_EVER).await.unwrap();
    assert_complete(&report);
    assert!(report.refused_upgrades["unreachable"] > 0, "the unreachable replica was not tried: {report}");

    let options = SimulateOptions { url: vec![nobody.clone()], ..options };
    let error = simulate(&options, FOR_EVER).await.unwrap_err();
    assert_eq!(error.exit_status(), 3, "{error}");
    let error = error.to_string();
    assert!(
        error.contains("no replica listed the users") && error.contains(&nobody.port().unwrap().to_string()),
        "the error lacked the reason or the port: {error}"
    );
}

#[tokio::test]
async fn a_server_that_accepts_no_session_breaks_no_promise() {
    let behaviour = Behaviour { refuse_upgrade_every: 1, ..Behaviour::default() };
    let server = MisbehavingServer::start(USERS, behaviour).await;
    let error = simulate(&options(server.url()), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.exit_status(), 3, "{error}");
    assert!(
        error.to_string().contains("no session is open, so no smile can be sent: draining"),
        "the error lacked the reason: {error}"
    );
}

#[tokio::test]
async fn a_server_with_a_single_user_breaks_the_contract() {
    let server = MisbehavingServer::start(1, Behaviour::default()).await;
    let error = simulate(&options(server.url()), FOR_EVER).await.unwrap_err();
    assert_eq!(error.exit_status(), 1, "{error}");
}

#[tokio::test]
async fn a_run_interrupted_before_it_starts_exits_with_3() {
    let interrupt = Arc::new(Notify::new());
    interrupt.notify_one();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = options(Url::parse(&format!("ws://{}/ws", silent.local_addr().unwrap())).unwrap());
    let error = conduct(&options, patience(FOR_EVER), Progress::silent(), interrupt).await.unwrap_err();
    assert_eq!(error.exit_status(), 3, "{error}");
}

#[tokio::test]
async fn a_lost_smile_is_detected() {
    assert_only(&with_fault(Fault::LoseDelivery).await, 1, 0, 0);
}

#[tokio::test]
async fn smiles_that_are_acked_and_never_delivered_are_detected() {
    let behaviour = Behaviour { fault: Fault::StopDelivering, ..Behaviour::default() };
    let report = against(behaviour, Duration::from_secs(2)).await;
    assert_only(&report, report.sent - 19, 0, 0);
    assert_eq!((report.acked, report.delivered), (report.sent, 19), "{report}");
}

#[tokio::test]
async fn a_smile_that_is_not_in_the_log_is_detected() {
    let report = with_fault(Fault::ForgetStored).await;
    assert_only(&report, 1, 0, 0);
    assert_eq!(report.delivered, report.sent, "the loss showed before the log was read again: {report}");
}

#[tokio::test]
async fn a_smile_delivered_or_acked_twice_is_detected() {
    assert_only(&with_fault(Fault::DoubleDelivery).await, 0, 1, 0);
    assert_only(&with_fault(Fault::DoubleAck).await, 0, 1, 0);
}

#[tokio::test]
async fn a_smile_stored_twice_is_detected() {
    let report = with_fault(Fault::StoreTwice).await;
    assert!(
        !report.clean && report.duplicated > 0 && (report.lost, report.reordered) == (0, 0),
        "the fault was missed, or was reported as lost or reordered: {report}"
    );
}

#[tokio::test]
async fn repeats_that_are_stored_again_are_detected() {
    let behaviour = Behaviour { fault: Fault::StoreRepeats, break_every: 20, ..Behaviour::default() };
    let report = against(behaviour, FOR_EVER).await;
    assert!(
        !report.clean && report.duplicated > 0 && report.reordered == 0,
        "the faults were not reported as duplicates: {report}"
    );
}

#[tokio::test]
async fn an_ack_with_a_wrong_offset_is_detected() {
    let report =
        against(Behaviour { fault: Fault::AckElsewhere, ..Behaviour::default() }, Duration::from_secs(2)).await;
    assert!(!report.clean && report.duplicated > 0, "the wrong offset was not detected: {report}");
}

#[tokio::test]
async fn smiles_delivered_in_the_wrong_order_are_detected() {
    assert_only(&with_fault(Fault::SwapDeliveries).await, 0, 0, 1);
}

#[tokio::test]
async fn a_log_in_the_wrong_order_is_detected() {
    assert_only(&with_fault(Fault::StoreSwapped).await, 0, 0, 1);
}

#[tokio::test]
async fn an_altered_smile_is_detected() {
    let report = with_fault(Fault::Alter).await;
    // The change is detected three times: on delivery, and when each of the two users reads the log again.
    assert_eq!((report.clean, report.altered, report.lost), (false, 3, 0), "{report}");
}

#[tokio::test]
async fn a_valid_smile_refused_permanently_is_detected() {
    let report = with_fault(Fault::RefuseForGood).await;
    assert_eq!((report.clean, report.failed, report.acked), (false, 1, report.sent - 1), "{report}");
}

#[tokio::test]
async fn a_smile_without_an_answer_is_detected() {
    let report = against(Behaviour { fault: Fault::NoAnswer, ..Behaviour::default() }, Duration::from_secs(2)).await;
    assert_eq!((report.clean, report.unanswered, report.duplicated), (false, 1, 0), "{report}");
}

#[tokio::test]
async fn a_smile_that_a_resume_skips_is_detected() {
    let behaviour = Behaviour { fault: Fault::HoleOnResume, break_every: 20, ..Behaviour::default() };
    let report = against(behaviour, Duration::from_secs(2)).await;
    assert!(!report.clean && report.lost > 0, "no smile was reported as lost: {report}");
}

#[tokio::test]
async fn sessions_that_are_not_recovered_are_counted_as_gaps() {
    let behaviour = Behaviour { fault: Fault::NeverRecover, break_every: 20, ..Behaviour::default() };
    let report = against(behaviour, FOR_EVER).await;
    assert!(!report.clean && report.gaps > 0, "no gap was reported: {report}");
}

#[tokio::test]
async fn a_new_epoch_is_detected() {
    let behaviour = Behaviour { fault: Fault::OtherEpoch, break_every: 60, ..Behaviour::default() };
    let report = against(behaviour, Duration::from_secs(2)).await;
    assert!(!report.clean && report.breaches > 0, "no breach was reported: {report}");
}

#[tokio::test]
async fn an_interrupt_stops_sending_and_the_run_completes() {
    let server = MisbehavingServer::start(USERS, Behaviour::default()).await;
    let interrupt = Arc::new(Notify::new());
    let options = SimulateOptions { duration: 3600.0, ..options(server.url()) };
    let run = conduct(&options, patience(FOR_EVER), Progress::silent(), Arc::clone(&interrupt));
    let after_some_smiles = async {
        server.stored(100).await;
        interrupt.notify_one();
    };
    let (report, ()) = tokio::join!(run, after_some_smiles);
    let report = report.unwrap();
    assert_complete(&report);
    assert!(
        report.sent >= 100 && report.seconds < 3600.0,
        "the run ended before 100 smiles, or was not interrupted: {report}"
    );
}

#[tokio::test]
async fn a_run_interrupted_while_it_settles_is_not_proven_and_has_no_faults() {
    // A seat that loses its session never gets another.
    let behaviour = Behaviour { break_every: 40, upgrades: 6, ..Behaviour::default() };
    let server = MisbehavingServer::start(USERS, behaviour).await;
    let interrupt = Arc::new(Notify::new());
    let options = options(server.url());
    let run = conduct(&options, patience(FOR_EVER), Progress::silent(), Arc::clone(&interrupt));
    let interrupting = async {
        server.stored(100).await;
        // The run never settles, so every later stage is interrupted.
        loop {
            interrupt.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let report = tokio::select! {
        report = run => report.unwrap(),
        () = interrupting => unreachable!(),
    };
    assert!(report.acked > 0, "no smile was acked: {report}");
    assert_eq!((report.faults.as_slice(), report.exit_status()), ([].as_slice(), 3), "{report}");
}

#[tokio::test]
async fn smiles_to_seats_that_cannot_return_are_not_lost() {
    let behaviour = Behaviour { break_every: 40, upgrades: 6, ..Behaviour::default() };
    let report = against(behaviour, Duration::from_secs(2)).await;
    assert!(report.acked > report.delivered, "every smile was delivered: {report}");
    assert_eq!((report.faults.as_slice(), report.exit_status()), ([].as_slice(), 3), "{report}");
}

#[tokio::test]
async fn a_server_with_room_for_the_seats_alone_lets_the_log_be_read_again() {
    assert_complete(&against(Behaviour { max_sessions: 6, ..Behaviour::default() }, Duration::from_secs(2)).await);
}

#[tokio::test]
async fn a_server_that_refuses_the_readers_breaks_no_promise() {
    let report = against(Behaviour { upgrades: 6, ..Behaviour::default() }, Duration::from_secs(2)).await;
    assert_eq!((report.faults.as_slice(), report.exit_status()), ([].as_slice(), 3), "{report}");
}

#[tokio::test]
async fn a_long_log_is_read_again_to_its_end() {
    let behaviour = Behaviour { replay_pause: Duration::from_millis(130), ..Behaviour::default() };
    let server = MisbehavingServer::start(USERS, behaviour).await;
    let patience = Patience { settle: Duration::from_secs(3), ..patience(FOR_EVER) };
    let began = Instant::now();
    let report = conduct(&options(server.url()), patience, Progress::silent(), Arc::new(Notify::new())).await.unwrap();
    assert_complete(&report);
    assert!(began.elapsed() > 2 * patience.settle, "the log was not long enough: {report}");
}

#[tokio::test]
async fn every_crash_is_in_the_ledger_and_none_is_requested_at_the_end() {
    // The second answer comes long after sending has ended.
    for pause in [0, 1500] {
        let behaviour = Behaviour { crash_pause: Duration::from_millis(pause), ..Behaviour::default() };
        let server = MisbehavingServer::start(USERS, behaviour).await;
        let options = SimulateOptions { crash_every: 1.0, duration: 2.0, ..options(server.url()) };
        let report = simulate(&options, FOR_EVER).await.unwrap();
        assert_complete(&report);
        assert_eq!((report.crashes.len(), server.crashes()), (1, 1), "{report}");
    }
}

async fn until_the_server_stops(fault: Fault) -> Report {
    let server = MisbehavingServer::start(USERS, Behaviour { fault, ..Behaviour::default() }).await;
    let options = SimulateOptions { duration: 2.0, ..options(server.url()) };
    let stop = async {
        server.stored(100).await;
        drop(server);
    };
    let patience = Patience { settle: Duration::from_secs(3), ..patience(Duration::from_secs(1)) };
    let run = conduct(&options, patience, Progress::silent(), Arc::new(Notify::new()));
    tokio::join!(run, stop).0.unwrap()
}

#[tokio::test]
async fn a_server_that_stops_early_breaks_no_promise() {
    let report = until_the_server_stops(Fault::None).await;
    assert!(
        !report.clean && !report.proven && report.faults.is_empty(),
        "the run counted as proven or as faulty: {report}"
    );
    assert_eq!(report.exit_status(), 3, "{report}");
    assert!(report.acked > 0 && report.acked < report.sent, "no smile or every smile was acked: {report}");
    assert!(report.to_string().contains("NOT PROVEN"), "the verdict was wrong: {report}");
}

#[tokio::test]
async fn a_broken_promise_is_detected_even_if_the_server_stops() {
    let report = until_the_server_stops(Fault::DoubleDelivery).await;
    assert_only(&report, 0, 1, 0);
    assert_eq!(report.exit_status(), 1, "{report}");
}
