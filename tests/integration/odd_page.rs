//! The page under unusual conditions: it works, or shows the right diagnosis.

use serde_json::json;

use crate::support::http_proxy::http_proxy;
use crate::support::mysql::TestDatabase;
use crate::support::page::{
    STORE, WITH_LIMITS, assert_proof_holds, live_sessions, mood, open_page, start_conversations, until_above,
};
use crate::support::process::TestProcess;
use crate::support::webdriver::Browser;
use crate::support::{eventually, get};

/// The beginning of a script that makes the page's clock wrong. The test appends the error in milliseconds.
const WRONG_CLOCK: &str = "const Right = Date;
    globalThis.Date = class extends Right {
        constructor(...given) { super(...(given.length === 0 ? [Date.now()] : given)); }
        static now() { return Right.now() + WRONG_BY; }
    };
    const WRONG_BY = ";

async fn says(browser: &Browser, what: &str) -> bool {
    browser.text("status").await.contains(what)
}

#[tokio::test]
async fn the_page_works_without_browser_storage() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = Browser::open_without_site_data("en").await;
    browser.load(&format!("http://{}/", server.address)).await;
    let refused = "try { return sessionStorage === null } catch (error) { return error.name }";
    assert_eq!(browser.run(refused, &json!([])).await, "SecurityError");
    start_conversations(&browser, 2).await;
    until_above(&browser, "successes", 20).await;
    assert_proof_holds(&browser).await;
}

#[tokio::test]
async fn a_conversation_opens_and_the_crash_is_listed_while_the_only_backend_is_down() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 1).await;
    until_above(&browser, "successes", 5).await;
    browser.click("crash").await;
    server.exit().await;
    eventually("the crash is listed", async || browser.count("#incident-panel:not([hidden]) tbody tr").await == 1)
        .await;
    browser.run("document.querySelector('#conversation-list button').click()", &json!([])).await;
    eventually("the dialog is open", async || browser.count("dialog[open] #thread-smiles").await == 1).await;
}

#[tokio::test]
async fn a_rate_limited_address_is_diagnosed_while_smiles_flow() {
    let folder = tempfile::tempdir().expect("a directory");
    let limits = [("client-rate", "3"), ("client-burst", "100")];
    let server = TestProcess::start(&folder.path().join(STORE), &limits).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 2).await;
    eventually("the page says that the address sends too many requests", async || {
        get(server.address, "/api/users").await;
        says(&browser, "Too many requests from your IP address").await
    })
    .await;
    assert_eq!(mood(&browser).await, "doubt");
    let before = browser.number("successes").await;
    until_above(&browser, "successes", before + 20).await;
    eventually("the page says that all sessions are live", async || says(&browser, "All 4 sessions live").await).await;
    assert_proof_holds(&browser).await;
}

#[tokio::test]
async fn a_proxy_that_changes_the_host_is_named_as_the_cause() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let backend = server.address;
    let proxy = http_proxy(true, move |_| backend).await;
    let browser = Browser::open("en").await;
    browser.load(&format!("http://{proxy}/?conversations=1&start")).await;
    let advice = format!("--allowed-origins http://{proxy}");
    eventually("the page says what to do", async || says(&browser, &advice).await).await;
    assert!(says(&browser, "a proxy changes the Host header").await);
    assert_eq!(mood(&browser).await, "bad");
    assert_eq!(live_sessions(&browser).await, 0);
}

#[tokio::test]
async fn an_offline_browser_is_not_reported_as_an_outage_of_the_backend() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    eventually("the page is ready", async || says(&browser, "Ready to start").await).await;
    let network =
        |offline: bool| json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    browser.command("Network.enable", &json!({})).await;
    browser.command("Network.emulateNetworkConditions", &network(true)).await;
    eventually("the page says that the browser is offline", async || says(&browser, "This browser is offline").await)
        .await;
    let revival = "return document.getElementById('revival').dataset.mood";
    assert_eq!(browser.run(revival, &json!([])).await, "calm");
    browser.command("Network.emulateNetworkConditions", &network(false)).await;
    eventually("the page is ready again", async || says(&browser, "Ready to start").await).await;
}

/// The uptime and the age of the heartbeat in seconds, if the card of a replica shows the uptime in seconds.
fn ages(card: &str) -> Option<(f64, f64)> {
    let (uptime, heartbeat) = card.strip_prefix("up ")?.split_once(" s · heartbeat ")?;
    let (age, unit) = heartbeat.strip_suffix(" ago")?.split_once(' ')?;
    let age: f64 = age.parse().ok()?;
    Some((uptime.parse().ok()?, if unit == "ms" { age / 1_000.0 } else { age }))
}

#[tokio::test]
async fn a_browser_clock_that_is_an_hour_off_does_not_change_the_ages() {
    for wrong_by in [3_600_000, -3_600_000] {
        let Some(database) = TestDatabase::new().await else { return };
        let server = TestProcess::on_mysql(&database.url(), &WITH_LIMITS).await;
        let browser = Browser::open("en").await;
        let source = format!("{WRONG_CLOCK}{wrong_by};");
        browser.command("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": source })).await;
        browser.load(&format!("http://{}/", server.address)).await;
        let read = "return new Date() - performance.timeOrigin - performance.now()";
        let off = browser.run(read, &json!([])).await.as_f64().expect("a number");
        assert!((off - f64::from(wrong_by)).abs() < 60_000.0, "the page's clock was off by {off} ms");
        let card = "return document.querySelector('#replicas .facts > span')?.textContent ?? ''";
        eventually(&format!("the ages are right with a clock that is off by {off} ms"), async || {
            let card = browser.run(card, &json!([])).await;
            // The page shows an age below zero as zero.
            ages(card.as_str().expect("a string")).is_some_and(|(uptime, heartbeat)| uptime > 0.0 && heartbeat > 0.0)
        })
        .await;
    }
}
