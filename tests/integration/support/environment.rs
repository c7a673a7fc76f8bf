//! The environment of tests: the MySQL server, servers that a test starts itself, and the seed. Unit tests use this
//! file too.

use std::process::Command;
use std::time::Duration;

const SERVER: &str = "TEST_MYSQL_URL";

/// The value of `TEST_MYSQL_URL` that makes the tests skip MySQL.
const LEFT_OUT: &str = "none";

pub(crate) fn server_url() -> Option<String> {
    let server = std::env::var(SERVER).unwrap_or_else(|_| {
        panic!("{SERVER} is not set: set it to the URL that scripts/mysql start prints, or to {LEFT_OUT} to skip MySQL")
    });
    (server != LEFT_OUT).then_some(server)
}

pub(crate) fn database_name() -> String {
    format!("chat_test_{:016x}", rand::random::<u64>())
}

/// Runs a clean-up from `drop`, for at most this time. Ignores a failure, because the server may be gone.
pub(crate) fn clean_up(limit: Duration, work: impl Future + Send + 'static) {
    // `block_on` panics on a thread of a runtime, so call it on a new thread.
    let cleaning = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(async { tokio::time::timeout(limit, work).await.is_ok() }))
    });
    let _ = cleaning.join();
}

/// Runs `scripts/mysql`, without a container, for a server whose data is in this folder. Returns the
/// script's output.
pub(crate) async fn script(command: &'static str, folder: &'static str) -> String {
    let run = move || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql");
        let done = Command::new(script)
            .args([command, folder])
            .env("MYSQL_CONTAINER", "no")
            .output()
            .expect("scripts/mysql did not start");
        assert!(done.status.success(), "scripts/mysql {command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text").trim().to_owned()
    };
    tokio::task::spawn_blocking(run).await.expect("the call of scripts/mysql panicked")
}

/// The seed of a randomized test: from the environment for a replay, otherwise random. Prints the seed, so that the
/// output of a failed test contains it.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("SMILINGCHAT_TEST_SEED") {
        Ok(text) => text.parse().expect("SMILINGCHAT_TEST_SEED was not a number"),
        Err(_) => rand::random(),
    };
    eprintln!("replay with SMILINGCHAT_TEST_SEED={seed}");
    seed
}
