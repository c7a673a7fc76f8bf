//! The page in a real browser, against the real program, which some tests crash.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::page::{
    STORE, WITH_LIMITS, assert_proof_holds, live_sessions, mood, open_page, picture, proof, start_conversations,
    until_above,
};
use crate::support::process::TestProcess;
use crate::support::webdriver::Browser;
use crate::support::{eventually, get_json, metric};

/// The errors that the browser is allowed to log while the server is down.
const NOBODY_THERE: [&str; 4] =
    ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED"];

async fn within_capacity(browser: &Browser) -> bool {
    let (successes, overloads) = (browser.number("successes").await, browser.number("overload-errors").await);
    until_above(browser, "successes", successes + 300).await;
    browser.number("overload-errors").await == overloads
}

async fn head_of_log(server: &TestProcess) -> u64 {
    get_json(server.address, "/api/replicas").await["head"].as_u64().expect("an offset")
}

#[tokio::test]
async fn thirty_conversations_survive_a_crash() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join(STORE);
    let mut server = TestProcess::start(&store, &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 30).await;
    until_above(&browser, "successes", 200).await;
    until_above(&browser, "overload-errors", 20).await;
    if std::env::var("SMILINGCHAT_SCREENSHOTS").is_ok() {
        browser.view(1440, 900).await;
        until_above(&browser, "successes", 2000).await;
    }
    picture(&browser, "page.png").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.click("crash").await;
    let status = server.exit().await;
    assert!(!status.success(), "the server exited with success: {status}");
    eventually("the page says that the backend is away", async || mood(&browser).await == "bad").await;
    eventually("no session is shown as live", async || live_sessions(&browser).await == 0).await;
    eventually("requests find no replica", async || causes(&browser).await.contains_key("no replica")).await;
    let before = browser.number("successes").await;

    let server = server.start_again(&store, &WITH_LIMITS).await;
    eventually("every session is live again", async || live_sessions(&browser).await == 60).await;
    eventually("the page says that all is well", async || mood(&browser).await == "good").await;
    until_above(&browser, "successes", before + 200).await;
    assert_proof_holds(&browser).await;
    let incident = browser.text("incident").await;
    assert!(incident.contains("all 60 lost sessions are live again"), "the recovery was not reported: {incident}");
    for complaint in browser.complaints().await {
        assert!(NOBODY_THERE.iter().any(|reason| complaint.contains(reason)), "an unexpected error: {complaint}");
    }

    browser.click("stop").await;
    eventually("the conversations are gone", async || browser.count("#conversation-list > *").await == 0).await;
    assert_proof_holds(&browser).await;
    let [sent, acked, ..] = proof(&browser).await;
    let head = head_of_log(&server).await;
    assert!((acked..=sent).contains(&head), "the log had {head} smiles, but {acked} were acked and {sent} sent");
}

#[tokio::test]
async fn a_conversation_opens_with_its_history() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 1).await;
    until_above(&browser, "successes", 40).await;
    browser.run("document.querySelector('#conversation-list button').click()", &json!([])).await;
    eventually("the dialog shows the last smiles", async || browser.count("#thread-smiles li").await >= 30).await;
    let first = async || {
        let read = "return Number(document.querySelector('#thread-smiles .offset').textContent.replace('offset ', ''))";
        browser.run(read, &json!([])).await.as_u64().expect("an offset")
    };
    assert!(first().await > 1);
    browser.click("thread-earlier").await;
    eventually("the dialog shows the first smile", async || first().await == 1).await;
    let before = browser.count("#thread-smiles li").await;
    eventually("new smiles keep arriving", async || browser.count("#thread-smiles li").await > before + 5).await;
    let people = browser.text("thread-people").await;
    assert!(people.contains("anna") && people.contains("bruno") && people.contains(&server.replica), "{people}");
    browser.click("thread-close").await;
    eventually("the dialog is empty", async || browser.count("#thread-smiles li").await == 0).await;
}

/// The value of a metric, or 0 if the metric does not exist yet.
async fn counted(server: &TestProcess, name: &str) -> u64 {
    let count = metric(server.ops_address, name).await.unwrap_or_default();
    format!("{count}").parse().expect("a whole number")
}

/// Stops the run, waits until the server's counters stop changing, and returns the numbers of stored smiles, of
/// `overloaded` errors and of `rate_limited` errors.
async fn stopped(browser: &Browser, server: &TestProcess) -> [u64; 3] {
    browser.click("stop").await;
    eventually("no session is open", async || counted(server, "smilingchat_sessions").await == 0).await;
    let mut last = [u64::MAX; 3];
    eventually("the counters stop changing", async || {
        let before = last;
        last = [
            counted(server, "smilingchat_smiles_stored_total").await,
            counted(server, r#"smilingchat_errors_total{code="overloaded"}"#).await,
            counted(server, r#"smilingchat_errors_total{code="rate_limited"}"#).await,
        ];
        last == before
    })
    .await;
    last
}

/// The number of overload errors that the page shows for each cause.
async fn causes(browser: &Browser) -> BTreeMap<String, u64> {
    let text = browser.text("overload-causes").await;
    let causes = text.split(" · ").filter_map(|cause| cause.rsplit_once(": "));
    causes.map(|(name, count)| (name.to_owned(), count.replace(',', "").parse().expect("a number"))).collect()
}

/// Allows for smiles that were in transit when the run was stopped.
fn agree(shown: u64, counted: u64) -> bool {
    shown.abs_diff(counted) <= counted.div_ceil(10)
}

async fn assert_overloads_agree(browser: &Browser, shed: u64, limited: u64) {
    let causes = causes(browser).await;
    let all = format!("{causes:?} on the page, {shed} shed and {limited} limited by the server");
    assert_eq!(browser.number("overload-errors").await, causes.values().sum::<u64>(), "the sum was wrong: {all}");
    let shown = |names: &[&str]| names.iter().filter_map(|&name| causes.get(name)).sum::<u64>();
    assert!(agree(shown(&["at capacity"]), shed), "the counts of shed requests differed: {all}");
    let too_often = shown(&["session too fast", "too many requests from your IP address"]);
    assert!(agree(too_often, limited), "the counts of rate-limited requests differed: {all}");
    assert_eq!(shown(&["at capacity"]) + too_often, causes.values().sum::<u64>(), "an unexpected cause: {all}");
}

#[tokio::test]
async fn the_badges_count_what_the_server_counts() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 30).await;
    until_above(&browser, "overload-errors", 300).await;
    let [stored, shed, limited] = stopped(&browser, &server).await;
    assert_overloads_agree(&browser, shed, limited).await;
    let successes = browser.number("successes").await;
    assert!(agree(successes, stored), "the page showed {successes} successes, but {stored} smiles were stored");
}

#[tokio::test]
async fn the_page_counts_refused_sessions_as_the_server_does() {
    let folder = tempfile::tempdir().expect("a directory");
    let full: &[_] = &[("max-sessions", "10")];
    let too_often: &[_] = &[("client-rate", "5"), ("client-burst", "20")];
    for (options, cause) in [(full, "at capacity"), (too_often, "too many requests from your IP address")] {
        let server = TestProcess::start(&folder.path().join(cause), options).await;
        let browser = open_page("en", &server).await;
        browser.load(&format!("http://{}/?conversations=30&start", server.address)).await;
        let many = async || causes(&browser).await.get(cause).is_some_and(|&count| count > 60);
        eventually(&format!("more than 60 errors have the cause {cause}"), many).await;
        let [_, shed, limited] = stopped(&browser, &server).await;
        assert_overloads_agree(&browser, shed, limited).await;
    }
}

/// The text of the timeline at its cursor.
async fn reading(browser: &Browser) -> String {
    browser.text("timeline-reading").await
}

#[tokio::test]
async fn the_timeline_and_the_table_show_a_crash() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join(STORE);
    let mut server = TestProcess::start(&store, &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    eventually("the timeline is empty", async || reading(&browser).await == "Nothing has happened yet.").await;
    start_conversations(&browser, 2).await;
    until_above(&browser, "successes", 30).await;
    let held = format!("{}: 4", server.replica);
    eventually("the timeline names the replica", async || reading(&browser).await.contains(&held)).await;

    let first = server.replica.clone();
    browser.click("crash").await;
    server.exit().await;
    let server = server.start_again(&store, &WITH_LIMITS).await;
    eventually("every session is live again", async || live_sessions(&browser).await == 4).await;
    let cells = async || browser.text("crashes-body").await;
    eventually("the crash is over", async || !cells().await.contains('–')).await;
    let row = cells().await;
    assert!(row.starts_with(&format!("1 {first} exit this page ")) && row.contains(" 4 "), "the row was wrong: {row}");
    assert_eq!(browser.count("#crashes-foot tr").await, 1);

    let table = "document.getElementById('timeline-text').open = true;
        return document.getElementById('timeline-rows').textContent";
    let all_marks = async || {
        let said = browser.run(table, &json!([])).await.to_string();
        let wanted = [format!("crash requested {first}"), format!("lost {first}"), format!("ready {}", server.replica)];
        wanted.iter().all(|mark| said.contains(mark))
    };
    eventually("the table has every mark", all_marks).await;

    let press = "const timeline = document.getElementById('timeline');
        timeline.focus();
        timeline.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true, cancelable: true }));
        return timeline.getAttribute('aria-valuetext')";
    let oldest = browser.run(press, &json!(["Home"])).await;
    assert!(oldest.as_str().is_some_and(|text| text.contains("s ago")), "Home did not select an old sample: {oldest}");
    assert_ne!(browser.run(press, &json!(["ArrowRight"])).await, oldest);
    let now = browser.run(press, &json!(["End"])).await;
    assert!(now.as_str().is_some_and(|text| text.starts_with("now")), "End did not select the newest sample: {now}");

    let has_crashes = async || browser.count("#incident-panel:not([hidden])").await == 1;
    browser.click("stop").await;
    assert!(has_crashes().await);
    browser.click("start").await;
    eventually("the next run shows no crashes", async || !has_crashes().await).await;
}

#[tokio::test]
async fn the_timeline_shows_the_sample_nearest_to_the_pointer() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    browser.view(1440, 900).await;
    start_conversations(&browser, 2).await;
    until_above(&browser, "successes", 60).await;
    let place = "const { x, y, width, height } = document.getElementById('timeline').getBoundingClientRect();
        return [x + width * arguments[0], y + height / 2]";
    let point = async |share: f64, wanted: &str| {
        let (x, y): (f64, f64) =
            serde_json::from_value(browser.run(place, &json!([share])).await).expect("two numbers");
        browser.command("Input.dispatchMouseEvent", &json!({ "type": "mouseMoved", "x": x, "y": y })).await;
        let read = async || reading(&browser).await.contains(wanted);
        eventually(&format!("the timeline shows {wanted:?} with the pointer at {share}"), read).await;
    };
    // Near the left edge, the nearest sample is the first one. Without a pointer, the timeline shows the last sample.
    point(0.1, " s ago · ").await;
    point(0.99, "now · ").await;
    point(0.1, " s ago · ").await;
    point(-0.05, "now · ").await;
}

#[tokio::test]
async fn chaos_crashes_the_only_replica_and_then_ends() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    browser.load(&format!("http://{}/?conversations=2&chaos=10&start", server.address)).await;
    eventually("every session is live", async || live_sessions(&browser).await == 4).await;
    browser.click("chaos").await;
    assert!(!server.exit().await.success());
    eventually("the crash is counted", async || browser.text("chaos-said").await.starts_with("1 crash so far")).await;
    let ended = "Ended after 1 crash: nothing is left to crash";
    eventually("the crashes end", async || browser.text("chaos-said").await == ended).await;
    assert!(browser.text("crashes-body").await.contains(" chaos "));
    assert_eq!(browser.run("return document.getElementById('chaos').checked", &json!([])).await, false);
}

#[tokio::test]
async fn a_link_sets_all_controls_and_keys_work_like_buttons() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    let query = "?conversations=3&rate=2&seed=7&mode=hang&chaos=60";
    browser.load(&format!("http://{}/{query}&start", server.address)).await;
    eventually("the run starts by itself", async || live_sessions(&browser).await == 6).await;
    let read = "return ['conversations', 'rate', 'seed', 'crash-mode', 'chaos-interval'].map(
        (id) => document.getElementById(id).value)";
    assert_eq!(browser.run(read, &json!([])).await, json!(["3", "2", "7", "hang", "60"]));

    let press = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))";
    browser.run(press, &json!(["x"])).await;
    eventually("the key x stops the run", async || live_sessions(&browser).await == 0).await;
    browser.run(press, &json!(["s"])).await;
    eventually("the key s starts the run", async || live_sessions(&browser).await == 6).await;
    browser.run(press, &json!(["r"])).await;
    eventually("the key r resets the run", async || browser.number("successes").await == 0).await;
    browser.run(press, &json!(["?"])).await;
    assert!(browser.text("shortcuts").await.contains("Crash backend"));
    browser.click("shortcuts-on").await;
    browser.click("help-close").await;
    browser.run(press, &json!(["s"])).await;
    browser.load(&format!("http://{}/", server.address)).await;
    browser.run(press, &json!(["s"])).await;
    assert_eq!(browser.count("#conversation-list > *").await, 0);
}

const KEEP_DOWNLOADS: &str = "window.downloads = [];
    const createObjectURL = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
        blob.arrayBuffer().then((bytes) => downloads.push({ type: blob.type, bytes: [...new Uint8Array(bytes)] }));
        return createObjectURL(blob);
    };";

async fn download(browser: &Browser, button: &str) -> (String, Vec<u8>) {
    browser.run("document.getElementById(arguments[0]).click()", &json!([button])).await;
    eventually("the page offers a file", async || browser.run("return downloads.length", &json!([])).await == 1).await;
    let mut kept = browser.run("return downloads.pop()", &json!([])).await;
    let bytes = serde_json::from_value(kept["bytes"].take()).expect("bytes");
    (kept["type"].as_str().expect("a type").to_owned(), bytes)
}

#[tokio::test]
async fn a_run_is_exported_as_json_and_as_an_image() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    browser.run(KEEP_DOWNLOADS, &json!([])).await;
    start_conversations(&browser, 2).await;
    until_above(&browser, "successes", 30).await;
    browser.click("stop").await;
    let (kind, bytes) = download(&browser, "json").await;
    assert_eq!(kind, "application/json");
    let record: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(record["ledger"]["acked"].as_u64(), Some(browser.number("successes").await));
    assert_eq!(record["settings"]["conversations"], 2);
    assert_eq!(record["timeline"]["marks"][0]["kind"], "start");
    assert!(
        record["timeline"]["samples"].as_array().is_some_and(|samples| samples.len() > 2),
        "too few samples: {record}"
    );
    let (kind, bytes) = download(&browser, "picture").await;
    assert_eq!(kind, "image/png");
    assert!(
        bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.len() > 20_000,
        "the picture was not a PNG, or was too small: {} bytes",
        bytes.len()
    );
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_page_announces_an_outage_but_not_its_growing_duration() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    eventually("the page is ready", async || browser.text("status").await.contains("Ready to start")).await;
    let listen = "window.heard = [];
        const live = document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]');
        const hear = (changes) => heard.push(changes[0].target.textContent);
        for (const node of live) new MutationObserver(hear).observe(node, { childList: true, characterData: true, subtree: true })";
    browser.run(listen, &json!([])).await;
    server.kill().await;
    let says = async |what: &str| browser.text("status").await.contains(what);
    eventually("the page says that the backend is away", async || says("has been unavailable for 2 s").await).await;
    eventually("the page updates the duration", async || says("has been unavailable for 12 s").await).await;
    let heard = browser.run("return heard", &json!([])).await;
    let heard = heard.as_array().expect("a list");
    assert!((1..=3).contains(&heard.len()), "the page announced too few or too many texts: {heard:?}");
}

async fn choose_mode(browser: &Browser, mode: &str) {
    let choose = "const select = document.getElementById('crash-mode');
        select.value = arguments[0];
        select.dispatchEvent(new Event('change', { bubbles: true }));";
    browser.run(choose, &json!([mode])).await;
}

#[tokio::test]
async fn the_page_names_its_platform_and_what_restarts_a_backend() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join(STORE);
    let links = ("links", "Grafana=http://localhost:3000/d/chat");
    let options = [WITH_LIMITS[0], ("platform", "compose"), ("node", "worker1"), links];
    let mut server = TestProcess::start(&store, &options).await;
    let browser = open_page("en", &server).await;
    eventually("the platform is shown", async || browser.text("platform").await == "Platform: Docker Compose").await;
    let replicas = browser.text("replicas").await;
    assert!(replicas.contains("on node worker1"), "the node was not shown: {replicas}");
    let read = "return [...document.querySelectorAll('#links a')].map(
        ({ textContent, href, target, rel }) => [textContent, href, target, rel])";
    let expected = json!([["Grafana", "http://localhost:3000/d/chat", "_blank", "noopener"]]);
    assert_eq!(browser.run(read, &json!([])).await, expected);

    let says = async |what: &str| browser.text("revival").await.ends_with(what);
    choose_mode(&browser, "hang").await;
    eventually("the page says what ends a hang", async || says("docker compose restart backend").await).await;
    choose_mode(&browser, "exit").await;
    eventually("the page says what to do after a crash", async || says("docker compose up -d").await).await;
    browser.click("crash").await;
    assert!(!server.exit().await.success());
    let gone = "The backend has exited and stays down. This brings it back: docker compose up -d";
    eventually("the page says that the backend stays down", async || browser.text("revival").await == gone).await;

    let _server = server.start_again(&store, &options).await;
    let calm = "return document.getElementById('revival').dataset.mood === 'calm'";
    eventually("the page is calm again", async || browser.run(calm, &json!([])).await == true).await;
    for complaint in browser.complaints().await {
        assert!(NOBODY_THERE.iter().any(|reason| complaint.contains(reason)), "an unexpected error: {complaint}");
    }
}

#[tokio::test]
async fn ten_conversations_are_within_the_capacity() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 10).await;
    // The server sheds load for a moment when the disk stalls, so one calm attempt out of three is enough.
    let calm = within_capacity(&browser).await || within_capacity(&browser).await || within_capacity(&browser).await;
    assert!(calm, "smiles were shed in all three attempts: {}", browser.text("overload-causes").await);
    assert_proof_holds(&browser).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// The total compressed size in bytes of the response bodies since the page was requested, and the number of these
/// responses. Cached responses and the polled list of replicas do not count.
async fn transferred(browser: &Browser) -> (u64, u64) {
    eventually("the page has loaded the users", async || mood(browser).await == "good").await;
    let read = "const entries = ['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type));
        const sizes = entries.filter(({ name, transferSize }) => transferSize > 0 && !name.endsWith('/api/replicas')).map((entry) => entry.encodedBodySize);
        return [sizes.reduce((sum, size) => sum + size, 0), sizes.length]";
    serde_json::from_value(browser.run(read, &json!([])).await).expect("two numbers")
}

#[tokio::test]
async fn the_page_is_small_and_cached() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    let (bytes, answers) = transferred(&browser).await;
    assert!(bytes < 60_000, "the page took {bytes} bytes in {answers} responses");
    browser.load("about:blank").await;
    browser.load(&format!("http://{}/", server.address)).await;
    let (bytes, answers) = transferred(&browser).await;
    assert!(bytes < 6_000 && answers <= 4, "the page took {bytes} bytes in {answers} responses");
}

#[tokio::test]
async fn the_page_speaks_the_language_of_the_browser() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    for (language, stop) in [("it", "Ferma"), ("en", "Stop"), ("fr", "Stop")] {
        let browser = open_page(language, &server).await;
        // The page may load the words of its language after its load event.
        eventually(&format!("the button says {stop} in a browser set to {language}"), async || {
            browser.text("stop").await == stop
        })
        .await;
    }
}
