//! Accessibility, as axe-core judges it: seven states of the page and one of join.html, at three screen sizes, in both
//! languages and both colour schemes.

use serde_json::json;

use crate::support::eventually;
use crate::support::mysql::TestDatabase;
use crate::support::page::{WITH_LIMITS, live_sessions, mood, open_page, start_conversations, until_above};
use crate::support::process::TestProcess;
use crate::support::webdriver::Browser;

/// The path at which scripts/test installs axe-core.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/axe-core/node_modules/axe-core/axe.min.js");

const SCREENS: [(u32, u32); 3] = [(1440, 900), (1024, 768), (390, 844)];

/// Applies axe's rules for WCAG 2.2 A and AA, and its best practices. An undecided rule counts as a violation, except
/// for contrast: axe cannot judge the contrast of glyphs such as ✓, or of text under a transparent button.
const AUDIT: &str = "const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa', 'best-practice'];
    const resultTypes = ['violations', 'incomplete'];
    const { passes, violations, incomplete } = await axe.run({ runOnly: tags, resultTypes, preload: false });
    if (passes.length === 0) throw new Error('no rule was applied');
    const undecided = incomplete.filter(({ id }) => id !== 'color-contrast');
    return [...violations, ...undecided].map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ target }) => target).join(', ')}`)";

async fn load_axe(browser: &Browser) {
    let axe = std::fs::read_to_string(AXE).expect("scripts/test should have installed axe-core");
    browser.run(&axe, &json!([])).await;
}

async fn assert_accessible(browser: &Browser, state: &str) {
    for (width, height) in SCREENS {
        browser.view(width, height).await;
        for scheme in ["light", "dark"] {
            let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            browser.command("Emulation.setEmulatedMedia", &features).await;
            let found = browser.run(AUDIT, &json!([])).await;
            assert_eq!(found, json!([]), "the page had violations: {state}, {width} pixels wide, {scheme}");
        }
    }
}

async fn start(database: &TestDatabase, listen: &str) -> TestProcess {
    TestProcess::on_mysql(&database.url(), &[WITH_LIMITS[0], ("listen", listen)]).await
}

async fn every_state_is_accessible(language: &str) {
    let Some(database) = TestDatabase::new().await else { return };
    let mut server = start(&database, "127.0.0.1:0").await;
    let address = server.address.to_string();
    let browser = open_page(language, &server).await;
    load_axe(&browser).await;
    eventually("the page is ready", async || mood(&browser).await == "good").await;
    assert_accessible(&browser, "idle").await;
    browser.click("help-open").await;
    assert_accessible(&browser, "help").await;
    browser.click("help-close").await;
    browser.click("code").await;
    eventually("the dialog shows the code", async || browser.count("dialog[open] img:not([hidden])").await == 1).await;
    assert_accessible(&browser, "code").await;
    browser.run("document.querySelector('dialog[open] button').click()", &json!([])).await;

    start_conversations(&browser, 2).await;
    until_above(&browser, "successes", 20).await;
    assert_accessible(&browser, "running").await;
    browser.run("document.querySelector('#conversation-list button').click()", &json!([])).await;
    eventually("the dialog shows the conversation", async || browser.count("#thread-smiles li").await > 10).await;
    assert_accessible(&browser, "conversation").await;
    browser.click("thread-close").await;

    browser.click("crash").await;
    assert!(!server.exit().await.success());
    eventually("no session is live", async || live_sessions(&browser).await == 0).await;
    assert_accessible(&browser, "crashed").await;
    let _server = start(&database, &address).await;
    let lost = "#replicas [data-state=lost]";
    eventually("the replica is shown as lost", async || browser.count(lost).await == 1).await;
    eventually("the sessions are live again", async || live_sessions(&browser).await == 4).await;
    assert_accessible(&browser, "lost").await;

    browser.open_tab(&format!("http://{address}/join.html")).await;
    load_axe(&browser).await;
    eventually("the phone has a user", async || browser.text("you").await.contains(' ')).await;
    let smile = "document.getElementById('to').value = 'anna'; document.querySelector('.face').click()";
    browser.run(smile, &json!([])).await;
    eventually("the smile is answered", async || browser.count("#came li").await >= 2).await;
    assert_accessible(&browser, "join.html").await;
}

#[tokio::test]
async fn no_state_violates_a_rule_in_english() {
    every_state_is_accessible("en").await;
}

#[tokio::test]
async fn no_state_violates_a_rule_in_italian() {
    every_state_is_accessible("it").await;
}
