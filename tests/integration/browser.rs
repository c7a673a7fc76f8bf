//! The page as a person meets it: in a real browser, against the real program, crash and return included.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::process::TestProcess;
use crate::support::webdriver::Browser;
use crate::support::{eventually, get_json};

const STORE: &str = "chat.db";

/// As a person starts it: with the limit per client address, which other tests go without.
const WITH_LIMITS: [(&str, &str); 1] = [("client-rate", "20")];

/// What the browser reports, and no more than that, while nobody listens at the address of the page.
const NOBODY_THERE: [&str; 4] =
    ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED"];

async fn open_page(language: &str, server: &TestProcess) -> Browser {
    let browser = Browser::open(language).await;
    browser.load(&format!("http://{}/", server.address)).await;
    browser
}

async fn start_conversations(browser: &Browser, wanted: u64) {
    let choose = "const range = document.getElementById('conversations');
        range.value = arguments[0];
        range.dispatchEvent(new Event('input', { bubbles: true }));
        range.dispatchEvent(new Event('change', { bubbles: true }));";
    browser.run(choose, &json!([wanted])).await;
    browser.click("start").await;
    eventually("every conversation has its card", async || browser.count("#conversation-list > *").await == wanted)
        .await;
    eventually("every session is live", async || live_sessions(browser).await == 2 * wanted).await;
}

async fn live_sessions(browser: &Browser) -> u64 {
    browser.count("#conversation-list [data-state=live]").await
}

/// The badge passes this number.
async fn passes(browser: &Browser, badge: &str, number: u64) {
    eventually(&format!("#{badge} passes {number}"), async || browser.number(badge).await > number).await;
}

/// Whether the next few hundred successes come without an overload error.
async fn within_capacity(browser: &Browser) -> bool {
    let (successes, overloads) = (browser.number("successes").await, browser.number("overload-errors").await);
    passes(browser, "successes", successes + 300).await;
    browser.number("overload-errors").await == overloads
}

/// The numbers of the proof: sent, acked, delivered, in flight, lost, duplicated, reordered, unverified.
async fn proof(browser: &Browser) -> [u64; 8] {
    let read = "return [...document.querySelectorAll('#ledger dd')].map((cell) => cell.textContent)";
    let cells: Vec<String> = serde_json::from_value(browser.run(read, &json!([])).await).expect("a list of texts");
    let numbers = cells.iter().map(|cell| cell.replace(',', "").parse().expect("a number"));
    numbers.collect::<Vec<u64>>().try_into().expect("eight numbers")
}

/// Nothing is lost, duplicated, out of order or unproven, and the page says so.
async fn proof_holds(browser: &Browser) {
    let [sent, acked, delivered, _, lost, duplicated, reordered, unverified] = proof(browser).await;
    assert!(sent > 0 && acked > 0 && delivered > 0, "sent {sent}, acked {acked}, delivered {delivered}");
    assert_eq!([lost, duplicated, reordered, unverified], [0; 4], "lost, duplicated, reordered, unverified");
    let mood = browser.run("return document.getElementById('ledger-verdict').dataset.mood", &json!([])).await;
    assert_eq!(mood, "good");
}

async fn mood(browser: &Browser) -> Value {
    browser.run("return document.getElementById('status').dataset.mood", &json!([])).await
}

/// The highest offset of the log, from the server and not from the page.
async fn head_of_log(server: &TestProcess) -> u64 {
    get_json(server.address, "/api/replicas").await["head"].as_u64().expect("an offset")
}

/// The program again, where it ran before.
async fn start_again(store: &Path, before: &TestProcess) -> TestProcess {
    let address = before.address.to_string();
    TestProcess::start(store, &[WITH_LIMITS[0], ("listen", &address)]).await
}

/// Makes the picture of the README when the variable says where: scripts/screenshot does.
async fn picture(browser: &Browser) {
    if let Ok(file) = std::env::var("SMILINGCHAT_SCREENSHOT") {
        browser.resize(1280, 1540).await;
        passes(browser, "successes", 1000).await;
        std::fs::write(file, browser.screenshot().await).expect("the picture is written");
    }
}

#[tokio::test]
async fn thirty_conversations_survive_a_crash() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join(STORE);
    let mut server = TestProcess::start(&store, &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 30).await;
    passes(&browser, "successes", 200).await;
    passes(&browser, "overload-errors", 20).await;
    picture(&browser).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.click("crash").await;
    let status = server.exit().await;
    assert!(!status.success(), "{status}");
    eventually("the page says that the backend is away", async || mood(&browser).await == "bad").await;
    eventually("no session is shown as live", async || live_sessions(&browser).await == 0).await;
    let before = browser.number("successes").await;

    let server = start_again(&store, &server).await;
    eventually("every session is live again", async || live_sessions(&browser).await == 60).await;
    eventually("the page says that all is well", async || mood(&browser).await == "good").await;
    passes(&browser, "successes", before + 200).await;
    proof_holds(&browser).await;
    let incident = browser.text("incident").await;
    assert!(incident.contains("all 60 lost sessions live again"), "{incident}");
    for complaint in browser.complaints().await {
        assert!(NOBODY_THERE.iter().any(|reason| complaint.contains(reason)), "{complaint}");
    }

    browser.click("stop").await;
    eventually("the conversations are gone", async || browser.count("#conversation-list > *").await == 0).await;
    proof_holds(&browser).await;
    let [sent, acked, ..] = proof(&browser).await;
    let head = head_of_log(&server).await;
    assert!((acked..=sent).contains(&head), "{acked} acked, {sent} sent, {head} in the log");
}

/// Chooses how a replica fails, as a person does.
async fn choose_mode(browser: &Browser, mode: &str) {
    let choose = "const select = document.getElementById('crash-mode');
        select.value = arguments[0];
        select.dispatchEvent(new Event('change', { bubbles: true }));";
    browser.run(choose, &json!([mode])).await;
}

#[tokio::test]
async fn the_page_says_where_it_runs_and_what_brings_a_crashed_backend_back() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join(STORE);
    let links = ("links", "Grafana=http://localhost:3000/d/chat");
    let options = [WITH_LIMITS[0], ("platform", "compose"), ("node", "worker1"), links];
    let mut server = TestProcess::start(&store, &options).await;
    let browser = open_page("en", &server).await;
    eventually("the platform is shown", async || browser.text("platform").await == "Platform: Docker Compose").await;
    let replicas = browser.text("replicas").await;
    assert!(replicas.contains("on node worker1"), "{replicas}");
    let read = "return [...document.querySelectorAll('#links a')].map(
        ({ textContent, href, target, rel }) => [textContent, href, target, rel])";
    let expected = json!([["Grafana", "http://localhost:3000/d/chat", "_blank", "noopener"]]);
    assert_eq!(browser.run(read, &json!([])).await, expected);

    let says = async |what: &str| browser.text("revival").await.ends_with(what);
    choose_mode(&browser, "hang").await;
    eventually("it says what ends a hang", async || says("docker compose restart backend").await).await;
    choose_mode(&browser, "exit").await;
    eventually("it says what to do after a crash", async || says("docker compose up -d").await).await;
    browser.click("crash").await;
    assert!(!server.exit().await.success());
    let gone = "The backend is gone for good. This brings it back: docker compose up -d";
    eventually("it says that the backend is gone for good", async || browser.text("revival").await == gone).await;

    let address = server.address.to_string();
    let again: Vec<_> = options.into_iter().chain([("listen", address.as_str())]).collect();
    let _server = TestProcess::start(&store, &again).await;
    let calm = "return document.getElementById('revival').dataset.mood === 'calm'";
    eventually("it is calm again", async || browser.run(calm, &json!([])).await == true).await;
    for complaint in browser.complaints().await {
        assert!(NOBODY_THERE.iter().any(|reason| complaint.contains(reason)), "{complaint}");
    }
}

#[tokio::test]
async fn ten_conversations_are_within_the_capacity() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 10).await;
    // A disk that stalls under other work sheds for a moment; too much load sheds all the time.
    let calm = within_capacity(&browser).await || within_capacity(&browser).await || within_capacity(&browser).await;
    assert!(calm, "{}", browser.text("overload-causes").await);
    proof_holds(&browser).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// How many bytes came over the network since the page was asked for, and in how many answers; the list of replicas, which
/// is asked for again and again, aside.
async fn transferred(browser: &Browser) -> (u64, u64) {
    eventually("the users are there", async || mood(browser).await == "good").await;
    let read = "const entries = ['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type));
        const sizes = entries.filter(({ name }) => !name.endsWith('/api/replicas')).map((entry) => entry.transferSize);
        return [sizes.reduce((sum, size) => sum + size, 0), sizes.filter((size) => size > 0).length]";
    serde_json::from_value(browser.run(read, &json!([])).await).expect("two numbers")
}

#[tokio::test]
async fn the_page_weighs_little_and_next_time_next_to_nothing() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    let (bytes, answers) = transferred(&browser).await;
    assert!(bytes < 60_000, "{bytes} bytes in {answers} answers");
    browser.load("about:blank").await;
    browser.load(&format!("http://{}/", server.address)).await;
    let (bytes, answers) = transferred(&browser).await;
    assert!(bytes < 6_000 && answers <= 4, "{bytes} bytes in {answers} answers");
}

#[tokio::test]
async fn the_page_speaks_the_language_of_the_browser() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    for (language, stop) in [("it", "Ferma"), ("en", "Stop"), ("fr", "Stop")] {
        let browser = open_page(language, &server).await;
        assert_eq!(browser.text("stop").await, stop, "{language}");
    }
}
