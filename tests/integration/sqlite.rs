//! Faults that affect the SQLite file: a full disk, a busy database, a second process, and a deleted or replaced file.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Executor;
use tokio::process::Command;

use crate::support::chatters::Chatters;
use crate::support::client::{Event, TestClient, id, offset};
use crate::support::ledger::{Ledger, StoredLog};
use crate::support::process::{TestProcess, run_program};
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{UNLIMITED, eventually, get, get_json, metric, skipped};

async fn ids(client: &mut TestClient, peer: &str) -> Vec<String> {
    client.history(peer).await.iter().map(id).collect()
}

#[tokio::test]
async fn smiles_are_refused_while_the_disk_is_full() {
    let store = TestStore::new();
    let process = TestProcess::start_with_limited_files(&store.path(), &[("session-rate", "0")]).await;
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(process.address, "anna").await.recording(&ledger);
    let stored: Vec<String> = (0..5).map(|number| format!("stored{number}")).collect();
    for id in &stored {
        anna.smile(id, "bruno").await;
    }
    // With this limit every write fails, as on a full disk.
    process.limit_file_size("0").await;
    for number in 0..10 {
        anna.send_smile(&format!("refused{number}"), "bruno").await;
        assert_eq!(anna.expect_error("store_unavailable").await["id"], format!("refused{number}"));
    }
    assert_eq!(ids(&mut anna, "bruno").await, stored, "the history changed while the disk was full");

    assert_eq!(
        get(process.address, "/readyz").await.status().as_u16(),
        200,
        "the replica became unready, although a restart would not help"
    );
    assert_eq!(get_json(process.address, "/api/replicas").await["replicas"][0]["state"], "ready");

    process.limit_file_size("unlimited").await;
    assert_eq!(ids(&mut anna, "bruno").await, stored, "a refused smile was stored later");
    assert_eq!(
        anna.smile("refused0", "bruno").await,
        6,
        "a refused smile was not stored as new when it was sent again"
    );
    let mut bruno = TestClient::resume(process.address, "bruno", 0, &anna.epoch()).await;
    for expected in 1..=6 {
        assert_eq!(offset(&bruno.expect("smile").await), expected);
    }
    bruno.expect_alive().await;
    ledger.assert_with(0, &StoredLog::in_sqlite(&store).await);
}

struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    async fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::TempDir::new().expect("no temporary folder was created");
        let options = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
        let mount = Command::new("mount").args(options).arg(folder.path()).output();
        let mounted = mount.await.is_ok_and(|output| output.status.success());
        if !mounted {
            skipped("the test with a full disk: this process cannot mount a tmpfs");
        }
        mounted.then_some(Self { folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves this many pages free.
    fn fill_except(&self, pages: u64) {
        let mut file = File::create(self.file("ballast")).expect("the ballast was not created");
        let page = [1; 4096];
        while file.write_all(&page).is_ok() {}
        let size = file.metadata().expect("the ballast had no size").len() - 4096 * pages;
        file.set_len(size).expect("the ballast was not shortened");
    }

    fn free(&self) {
        std::fs::remove_file(self.file("ballast")).expect("the ballast was not removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The unmount is lazy because the replica may still be running.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_under_load_loses_no_acked_smile_and_causes_two_log_lines() {
    let Some(disk) = SmallDisk::mount("8m").await else { return };
    let file = disk.file("smilingchat.db");
    let process = TestProcess::start(&file, &UNLIMITED).await;
    let ledger = Ledger::default();
    let chatters = Chatters::start(&[process.address], &ledger);
    let acks = async |count: usize| {
        let enough = ledger.count() + count;
        eventually("smiles are acked", async || ledger.count() >= enough).await;
    };
    let refused = async || {
        metric(process.ops_address, "smilingchat_errors_total{code=\"store_unavailable\"}")
            .await
            .expect("the metric did not exist")
    };
    acks(100).await;
    let lines = process.log().lines().count();
    disk.fill_except(0);
    eventually("smiles are refused", async || refused().await > 50.0).await;
    disk.free();
    acks(100).await;
    let log = process.log();
    let said: Vec<&str> = log.lines().skip(lines).collect();
    assert!(
        said.len() == 2 && said[0].contains("accepts no smiles") && said[1].contains("accepts smiles again"),
        "the outage did not cause exactly two lines: {log}"
    );
    chatters.end().await;
    ledger.assert_with(0, &StoredLog::in_file(&file).await);
}

#[tokio::test]
async fn a_kill_during_disk_errors_does_not_damage_the_file() {
    let store = TestStore::new();
    let mut process = TestProcess::start_with_limited_files(&store.path(), &UNLIMITED).await;
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(process.address, "anna").await.recording(&ledger);
    let (mut acked, mut refused) = (Vec::new(), Vec::new());
    let size = std::fs::metadata(store.path().with_extension("db-wal")).unwrap().len();
    process.limit_file_size(&(size + 100_000).to_string()).await;
    for number in 0.. {
        anna.send_smile(&format!("c{number}"), "bruno").await;
        let answer: Value = anna.next().await;
        if answer["type"] == "ack" {
            acked.push(id(&answer));
        } else {
            assert_eq!(answer["code"], "store_unavailable", "{answer}");
            refused.push(id(&answer));
            if refused.len() == 3 {
                break;
            }
        }
    }
    process.kill().await;
    let process = TestProcess::start(&store.path(), &UNLIMITED).await;
    let mut anna = TestClient::connect(process.address, "anna").await.recording(&ledger);
    assert_eq!(ids(&mut anna, "bruno").await, acked, "the stored smiles were not the acked ones; refused: {refused:?}");
    anna.smile(&refused[0], "bruno").await;
    ledger.assert_with(0, &StoredLog::in_sqlite(&store).await);
}

/// The index of the write-ahead log has room for 4,062 frames, then grows by 8 pages. If only this growth fails, the
/// commit fails although the write-ahead log contains all of it.
#[tokio::test]
async fn a_kill_after_a_failed_commit_does_not_store_a_refused_smile() {
    let Some(disk) = SmallDisk::mount("32m").await else { return };
    let file = disk.file("smilingchat.db");
    let mut process = TestProcess::start(&file, &UNLIMITED).await;
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(process.address, "anna").await.recording(&ledger);
    let frames = || (std::fs::metadata(file.with_extension("db-wal")).unwrap().len() - 32) / 4120;
    while frames() <= 4050 {
        anna.smile(&format!("c{}", frames()), "bruno").await;
    }
    // Enough for 12 frames and a commit of up to three, but not for the index.
    disk.fill_except(15);
    let mut number = 0;
    let refused = loop {
        number += 1;
        anna.send_smile(&format!("last{number}"), "bruno").await;
        tokio::select! {
            answer = anna.next() => if answer["type"] == "error" { break true },
            () = eventually("the append fails", async || process.log().contains("accepts no smiles")) => break false,
        }
    };
    process.kill().await;
    disk.free();
    let process = TestProcess::start(&file, &UNLIMITED).await;
    let mut anna = TestClient::connect(process.address, "anna").await.recording(&ledger);
    anna.send_smile(&format!("last{number}"), "bruno").await;
    let stored = anna.expect("ack").await["duplicate"] == true;
    assert_eq!((refused, stored), (false, true), "the smile was refused, or the commit was not complete");
    ledger.assert_with(0, &StoredLog::in_file(&file).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smiles_are_shed_while_the_store_is_busy_and_admitted_ones_are_stored() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    anna.smile("before", "bruno").await;
    bruno.expect("smile").await;

    let mut other = replica.store.open().await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    anna.send_smile("waits", "bruno").await;
    anna.expect_alive().await;
    let mut number = 0;
    let refused = loop {
        number += 1;
        let sent_at = Instant::now();
        bruno.send_smile(&format!("b{number}"), "anna").await;
        bruno.send(json!({"type": "ping"})).await;
        let answer = bruno.next().await;
        assert!(sent_at.elapsed() < Duration::from_secs(4), "an answer took {:?}", sent_at.elapsed());
        if answer["type"] == "error" {
            assert_eq!((&answer["code"], &answer["temporary"]), (&json!("overloaded"), &json!(true)), "{answer}");
            assert!(
                answer["retry_after_ms"].as_u64().is_some_and(|wait| (1..=5000).contains(&wait)),
                "the hint was not from 1 to 5,000 ms: {answer}"
            );
            bruno.expect("pong").await;
            break id(&answer);
        }
        assert_eq!(answer["type"], "pong", "{answer}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(id(&anna.expect("ack").await), "waits");
    assert_eq!(id(&bruno.expect("smile").await), "waits");
    for admitted in 1..number {
        assert_eq!(id(&bruno.expect("ack").await), format!("b{admitted}"));
    }
    bruno.persist(&refused, "anna").await;
    assert_eq!(metric(replica.ops_address, "smilingchat_errors_total{code=\"store_unavailable\"}").await, Some(0.0));
}

#[tokio::test]
async fn a_second_process_on_a_file_is_refused_through_any_path() {
    let store = TestStore::new();
    let process = TestProcess::start(&store.path(), &[]).await;
    let mut anna = TestClient::connect(process.address, "anna").await;
    anna.smile("c1", "bruno").await;
    let folder = store.path().parent().unwrap().to_owned();
    let (symbolic, hard) = (folder.join("symbolic.db"), folder.join("hard.db"));
    std::os::unix::fs::symlink(store.path(), &symbolic).unwrap();
    std::fs::hard_link(store.path(), &hard).unwrap();
    for path in [store.path(), symbolic, hard, folder.join(".").join("smilingchat.db")] {
        let store = format!("--store=sqlite:{}", path.display());
        let second = run_program(&["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", &store]).await;
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(said.contains("another smilingchat is using it"), "{store}: the refusal lacked the reason: {said}");
        assert_eq!((second.status.code(), said.lines().count()), (Some(1), 1), "{store}: {said}");
    }
    assert_eq!(get(process.address, "/readyz").await.status().as_u16(), 200, "the first process was no longer ready");
    anna.smile("c2", "bruno").await;
}

#[tokio::test]
async fn a_deleted_or_replaced_file_makes_the_process_exit_without_another_ack() {
    for replace in [false, true] {
        let store = TestStore::new();
        let mut process = TestProcess::start(&store.path(), &[]).await;
        let mut anna = TestClient::connect(process.address, "anna").await;
        anna.smile("c1", "bruno").await;
        std::fs::remove_file(store.path()).unwrap();
        if replace {
            std::fs::write(store.path(), "").unwrap();
        }
        anna.send_smile("c2", "bruno").await;
        assert!(!process.exit().await.success());
        while let Event::Frame(frame) = anna.event().await {
            assert_ne!(frame["type"], "ack", "{frame}");
        }
        eventually("the process logs the reason", async || process.log().contains("differs from the one at startup"))
            .await;
    }
}
