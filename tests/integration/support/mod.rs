//! Support for the integration tests: real servers and one that misbehaves, a real browser, test clients, proxies, and
//! functions that wait for conditions.

pub(crate) mod chatters;
pub(crate) mod client;
pub(crate) mod environment;
pub(crate) mod fleet;
pub(crate) mod frontend;
pub(crate) mod group;
pub(crate) mod http_proxy;
pub(crate) mod ledger;
pub(crate) mod misbehaving;
pub(crate) mod mysql;
pub(crate) mod page;
pub(crate) mod pair;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod replica;
pub(crate) mod webdriver;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for an event that must happen. Only a failing test reaches this limit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Options that disable both rate limits for smiles: that of a replica and that of a session.
pub(crate) const UNLIMITED: [(&str, &str); 2] = [("capacity", "0"), ("session-rate", "0")];

const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Reports a check that this machine cannot run. `scripts/test` lists the reports. This function does not use
/// `eprintln!`, because the test harness captures what `eprintln!` prints, and shows it only if the test fails. The
/// report is a single write, so no other output splits it.
pub(crate) fn skipped(why: &str) {
    let report = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(report.as_bytes()).expect("standard error should be writable");
}

pub(crate) fn options_of(command: &clap::Command) -> BTreeSet<String> {
    let names = command.get_arguments().filter_map(|option| option.get_long());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Panics if `future` takes longer than [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Panics if the condition does not hold within [`PATIENCE`].
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

fn sqlite(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

/// The arguments of a test replica: free ports, this store, the name `test`, and no rate limit per client address.
/// `options` adds to these arguments and overrides them.
fn command_line(store: &str, options: &[(&str, &str)]) -> Vec<String> {
    let mut all = BTreeMap::from([
        ("listen", "127.0.0.1:0"),
        ("ops-listen", "127.0.0.1:0"),
        ("store", store),
        ("replica", "test"),
        ("client-rate", "0"),
    ]);
    all.extend(options.iter().copied());
    all.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("an HTTP client")
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> reqwest::Response {
    http().get(format!("http://{address}{path}")).send().await.expect("an answer")
}

pub(crate) async fn get_json(address: SocketAddr, path: &str) -> Value {
    get(address, path).await.json().await.expect("JSON")
}

/// Empty if the response lacks the header.
pub(crate) fn header(answer: &reqwest::Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}

pub(crate) fn quoted<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    page.split('"').filter(|text| text.starts_with(start)).collect()
}

pub(crate) fn crash(address: SocketAddr) -> reqwest::RequestBuilder {
    http().post(format!("http://{address}/api/crash"))
}

/// An upgrade request. `query` is empty or begins with `?`.
pub(crate) fn upgrade(address: SocketAddr, query: &str) -> reqwest::RequestBuilder {
    http()
        .get(format!("http://{address}/ws{query}"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// The status, the `Retry-After` in seconds, and the JSON body of a response.
pub(crate) async fn refusal(answer: reqwest::Response) -> (u16, Option<u64>, Value) {
    let retry_after = answer.headers().get("retry-after").map(|value| {
        let text = value.to_str().expect("Retry-After should be text");
        text.parse().expect("Retry-After should be a whole number of seconds")
    });
    let status = answer.status().as_u16();
    (status, retry_after, answer.json().await.expect("a JSON body"))
}

/// The value of a sample on `/metrics`. `name` includes the labels, in the Prometheus format.
pub(crate) async fn metric(ops_address: SocketAddr, name: &str) -> Option<f64> {
    let text = get(ops_address, "/metrics").await.text().await.expect("text");
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.map(|value| value.parse().expect("a number"))
}
