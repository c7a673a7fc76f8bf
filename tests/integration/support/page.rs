//! The page in a browser: functions that open it, start conversations and read what it shows.

use std::path::Path;

use serde_json::{Value, json};

use super::eventually;
use super::process::TestProcess;
use super::webdriver::Browser;

pub(crate) const STORE: &str = "chat.db";

/// The default rate limit per client address. Without this option, a test replica has no such limit.
pub(crate) const WITH_LIMITS: [(&str, &str); 1] = [("client-rate", "20")];

pub(crate) async fn open_page(language: &str, server: &TestProcess) -> Browser {
    let browser = Browser::open(language).await;
    browser.load(&format!("http://{}/", server.address)).await;
    browser
}

pub(crate) async fn start_conversations(browser: &Browser, wanted: u64) {
    let choose = "const range = document.getElementById('conversations');
        range.value = arguments[0];
        range.dispatchEvent(new Event('input', { bubbles: true }));
        range.dispatchEvent(new Event('change', { bubbles: true }));";
    // The page handles these events only once it has loaded its words, perhaps later than its load event.
    for number in [0, wanted] {
        eventually("the page has accepted the number", async || {
            browser.run(choose, &json!([number])).await;
            browser.number("conversations-shown").await == number
        })
        .await;
    }
    browser.click("start").await;
    eventually("every conversation has its card", async || browser.count("#conversation-list > *").await == wanted)
        .await;
    eventually("every session is live", async || live_sessions(browser).await == 2 * wanted).await;
}

pub(crate) async fn live_sessions(browser: &Browser) -> u64 {
    browser.count("#conversation-list [data-state=live]").await
}

pub(crate) async fn until_above(browser: &Browser, badge: &str, number: u64) {
    eventually(&format!("#{badge} is above {number}"), async || browser.number(badge).await > number).await;
}

/// The counters of the proof: sent, acked, delivered, in flight, lost, duplicated, reordered, unverified.
pub(crate) async fn proof(browser: &Browser) -> [u64; 8] {
    let read = "return [...document.querySelectorAll('#ledger dd')].map((cell) => cell.textContent)";
    let cells: Vec<String> = serde_json::from_value(browser.run(read, &json!([])).await).expect("a list of texts");
    let numbers = cells.iter().map(|cell| cell.replace(',', "").parse().expect("a number"));
    numbers.collect::<Vec<u64>>().try_into().expect("eight numbers")
}

pub(crate) async fn assert_proof_holds(browser: &Browser) {
    let [sent, acked, delivered, _, lost, duplicated, reordered, unverified] = proof(browser).await;
    assert!(sent > 0 && acked > 0 && delivered > 0, "a count was 0: {sent} sent, {acked} acked, {delivered} delivered");
    assert_eq!(
        [lost, duplicated, reordered, unverified],
        [0; 4],
        "smiles were lost, duplicated, reordered or unverified"
    );
    let mood = browser.run("return document.getElementById('ledger-verdict').dataset.mood", &json!([])).await;
    assert_eq!(mood, "good");
}

pub(crate) async fn mood(browser: &Browser) -> Value {
    browser.run("return document.getElementById('status').dataset.mood", &json!([])).await
}

/// Saves a screenshot in the folder that `SMILINGCHAT_SCREENSHOTS` names. Does nothing if that variable is not set;
/// scripts/screenshot sets it.
pub(crate) async fn picture(browser: &Browser, name: &str) {
    if let Ok(folder) = std::env::var("SMILINGCHAT_SCREENSHOTS") {
        browser.run("scrollTo(0, 0)", &json!([])).await;
        std::fs::write(Path::new(&folder).join(name), browser.screenshot().await).expect("the picture was not written");
    }
}
