//! What the integration tests share: real servers, a real browser, clients that share no
//! code with the server, and waiting for a condition.
//!
//! Owns how a test starts things and how long it is patient. Must not know what any one test is about.

pub(crate) mod client;
pub(crate) mod fleet;
pub(crate) mod frontend;
pub(crate) mod misbehaving;
pub(crate) mod mysql;
pub(crate) mod pair;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod replica;
pub(crate) mod webdriver;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for what must come: far longer than it ever takes, so that only a fault uses it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// From one look at a condition to the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The outcome of `future`, which must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}

/// Looks until the condition holds, which it must.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The seed of a randomised test: from the environment, to replay one, or a new one. Printed, so that a failure shows it.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("SMILINGCHAT_TEST_SEED") {
        Ok(text) => text.parse().expect("SMILINGCHAT_TEST_SEED is a number"),
        Err(_) => rand::random(),
    };
    eprintln!("replay with SMILINGCHAT_TEST_SEED={seed}");
    seed
}

/// The command line of a replica for tests: any free port, this store, no limit per client address, and `options` over
/// all of that.
fn command_line(store: &Path, options: &[(&str, &str)]) -> Vec<String> {
    let store = format!("sqlite:{}", store.display());
    let mut all = BTreeMap::from([
        ("listen", "127.0.0.1:0"),
        ("ops-listen", "127.0.0.1:0"),
        ("store", &store),
        ("replica", "test"),
        ("client-rate", "0"),
    ]);
    all.extend(options.iter().copied());
    all.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// An HTTP client that goes straight to the server.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("an HTTP client")
}

/// The answer to `GET path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> reqwest::Response {
    http().get(format!("http://{address}{path}")).send().await.expect("an answer")
}

/// The JSON that `GET path` answers.
pub(crate) async fn get_json(address: SocketAddr, path: &str) -> Value {
    get(address, path).await.json().await.expect("JSON")
}

/// A request for an upgrade, to which a test may add headers.
pub(crate) fn upgrade(address: SocketAddr, query: &str) -> reqwest::RequestBuilder {
    http()
        .get(format!("http://{address}/ws{query}"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// The status of an answer, its `Retry-After` in seconds, and its JSON body.
pub(crate) async fn refusal(answer: reqwest::Response) -> (u16, Option<u64>, Value) {
    let retry_after = answer.headers().get("retry-after").map(|value| {
        let text = value.to_str().expect("Retry-After is text");
        text.parse().expect("Retry-After is a number of whole seconds")
    });
    let status = answer.status().as_u16();
    (status, retry_after, answer.json().await.expect("a JSON body"))
}

/// The value of one sample on `/metrics`, named with its labels as Prometheus writes them; `None` when it is not there.
pub(crate) async fn metric(ops_address: SocketAddr, name: &str) -> Option<f64> {
    let text = get(ops_address, "/metrics").await.text().await.expect("text");
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.map(|value| value.parse().expect("a number"))
}
