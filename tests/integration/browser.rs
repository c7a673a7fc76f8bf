//! The page in a real browser, against the real program and through its crashes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::frontend::{Frontend, addresses, start_replicas};
use crate::support::mysql::TestDatabase;
use crate::support::process::TestProcess;
use crate::support::webdriver::Browser;
use crate::support::{eventually, get_json, metric};

pub(crate) const STORE: &str = "chat.db";

/// The default rate limit per client address, which other tests disable.
pub(crate) const WITH_LIMITS: [(&str, &str); 1] = [("client-rate", "20")];

/// The only complaint of the browser while the server is down.
const NOBODY_THERE: [&str; 4] =
    ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED"];

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
    // The scripts load their words before they listen, which may be after the load event of the page.
    for number in [0, wanted] {
        eventually("the page has taken the number", async || {
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

/// Waits until the badge passes this number.
pub(crate) async fn passes(browser: &Browser, badge: &str, number: u64) {
    eventually(&format!("#{badge} passes {number}"), async || browser.number(badge).await > number).await;
}

/// Whether the next few hundred smiles succeed without an overload error.
async fn within_capacity(browser: &Browser) -> bool {
    let (successes, overloads) = (browser.number("successes").await, browser.number("overload-errors").await);
    passes(browser, "successes", successes + 300).await;
    browser.number("overload-errors").await == overloads
}

/// The counters of the proof: sent, acked, delivered, in flight, lost, duplicated, reordered, unverified.
async fn proof(browser: &Browser) -> [u64; 8] {
    let read = "return [...document.querySelectorAll('#ledger dd')].map((cell) => cell.textContent)";
    let cells: Vec<String> = serde_json::from_value(browser.run(read, &json!([])).await).expect("a list of texts");
    let numbers = cells.iter().map(|cell| cell.replace(',', "").parse().expect("a number"));
    numbers.collect::<Vec<u64>>().try_into().expect("eight numbers")
}

/// Checks that the page shows no lost, duplicated, reordered or unverified smile.
pub(crate) async fn proof_holds(browser: &Browser) {
    let [sent, acked, delivered, _, lost, duplicated, reordered, unverified] = proof(browser).await;
    assert!(sent > 0 && acked > 0 && delivered > 0, "sent {sent}, acked {acked}, delivered {delivered}");
    assert_eq!([lost, duplicated, reordered, unverified], [0; 4], "lost, duplicated, reordered, unverified");
    let mood = browser.run("return document.getElementById('ledger-verdict').dataset.mood", &json!([])).await;
    assert_eq!(mood, "good");
}

pub(crate) async fn mood(browser: &Browser) -> Value {
    browser.run("return document.getElementById('status').dataset.mood", &json!([])).await
}

/// The head of the log, from the server.
async fn head_of_log(server: &TestProcess) -> u64 {
    get_json(server.address, "/api/replicas").await["head"].as_u64().expect("an offset")
}

/// Restarts the program on the same address.
async fn start_again(store: &Path, before: &TestProcess) -> TestProcess {
    let address = before.address.to_string();
    TestProcess::start(store, &[WITH_LIMITS[0], ("listen", &address)]).await
}

/// Saves a screenshot below the folder that the variable names, as scripts/screenshot does.
pub(crate) async fn picture(browser: &Browser, name: &str) {
    if let Ok(folder) = std::env::var("SMILINGCHAT_SCREENSHOTS") {
        browser.run("scrollTo(0, 0)", &json!([])).await;
        std::fs::write(Path::new(&folder).join(name), browser.screenshot().await).expect("the picture is written");
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
    if std::env::var("SMILINGCHAT_SCREENSHOTS").is_ok() {
        browser.view(1440, 900).await;
        passes(&browser, "successes", 2000).await;
    }
    picture(&browser, "page.png").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.click("crash").await;
    let status = server.exit().await;
    assert!(!status.success(), "{status}");
    eventually("the page says that the backend is away", async || mood(&browser).await == "bad").await;
    eventually("no session is shown as live", async || live_sessions(&browser).await == 0).await;
    eventually("its requests find no replica", async || causes(&browser).await.contains_key("no replica")).await;
    let before = browser.number("successes").await;

    let server = start_again(&store, &server).await;
    eventually("every session is live again", async || live_sessions(&browser).await == 60).await;
    eventually("the page says that all is well", async || mood(&browser).await == "good").await;
    passes(&browser, "successes", before + 200).await;
    proof_holds(&browser).await;
    let incident = browser.text("incident").await;
    assert!(incident.contains("all 60 lost sessions are live again"), "{incident}");
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

/// The lowest bottom edge of these elements, in pixels of the page; infinite unless all of them are visible.
async fn reaches(browser: &Browser, selector: &str) -> f64 {
    let read = "const nodes = [...document.querySelectorAll(arguments[0])];
        const hidden = (node) => node.offsetParent === null || node.getBoundingClientRect().height === 0;
        if (nodes.length === 0 || nodes.some(hidden)) return null;
        return Math.max(...nodes.map((node) => node.getBoundingClientRect().bottom + scrollY))";
    browser.run(read, &json!([selector])).await.as_f64().unwrap_or(f64::INFINITY)
}

/// What a presenter must see without scrolling, other than conversations.
const ESSENTIAL: [&str; 10] = [
    "#start",
    "#crash",
    "#chaos-interval",
    "#successes",
    "#overload-errors",
    "#ledger-verdict",
    "#ledger",
    "#timeline",
    "#timeline-reading",
    "#replicas",
];

/// The first two rows of conversations, of seven each at a width of 1440 pixels.
const TWO_ROWS: &str = "#conversation-list > :nth-child(-n+14)";

/// The same on a projector, of five each at a width of 1024 pixels.
const TWO_NARROW_ROWS: &str = "#conversation-list > :nth-child(-n+10)";

/// Waits until these elements end within a height.
async fn fit(browser: &Browser, height: f64, wanted: &[&str]) {
    for shown in wanted {
        let reached = async || reaches(browser, shown).await <= height;
        eventually(&format!("{shown} is on a screen {height} pixels high"), reached).await;
    }
}

async fn fit_on_a_projector(browser: &Browser) {
    browser.view(1024, 768).await;
    fit(browser, 768.0, &ESSENTIAL).await;
    fit(browser, 768.0, &[TWO_NARROW_ROWS]).await;
}

#[tokio::test]
async fn the_page_fits_on_one_screen() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    for language in ["en", "it"] {
        let browser = open_page(language, &server).await;
        browser.view(1440, 900).await;
        start_conversations(&browser, 30).await;
        passes(&browser, "successes", 100).await;
        fit(&browser, 900.0, &ESSENTIAL).await;
        fit(&browser, 900.0, &[TWO_ROWS]).await;
        fit_on_a_projector(&browser).await;
        for width in [1440, 1024, 390, 320] {
            browser.view(width, 844).await;
            let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.run(overflow, &json!([])).await, 0, "{width} pixels in {language}");
            let list = reaches(&browser, "#conversation-list").await;
            assert!(width < 390 || list < 3_500.0, "{list} pixels long at {width} in {language}");
        }
    }
}

async fn four_replicas_fit_on_one_screen(language: &str) {
    let Some(database) = TestDatabase::new().await else { return };
    let addresses = addresses(4);
    let mut replicas = start_replicas(&addresses, &database).await;
    let frontend = Frontend::before(&addresses).await;
    let browser = Browser::open(language).await;
    browser.load(&format!("http://{}/", frontend.address)).await;
    browser.view(1440, 900).await;
    start_conversations(&browser, 30).await;
    eventually("the page shows all replicas", async || browser.count("#replicas [data-state=ready]").await == 4).await;
    passes(&browser, "successes", 1000).await;
    fit(&browser, 900.0, &ESSENTIAL).await;
    fit(&browser, 900.0, &[TWO_ROWS]).await;
    fit_on_a_projector(&browser).await;
    browser.view(1440, 900).await;

    browser.click("crash").await;
    let crashed = "#replicas [data-state=lost]";
    eventually("the page shows the crash", async || browser.count(crashed).await == 1).await;
    let mut dead = None;
    for (replica, address) in replicas.iter_mut().zip(&addresses) {
        if !replica.runs() {
            dead = Some(*address);
        }
    }
    let _replacement = start_replicas(&[dead.expect("a replica has ended")], &database).await;
    eventually("it is replaced", async || browser.count("#replicas [data-state=ready]").await == 4).await;
    eventually("every session is live again", async || live_sessions(&browser).await == 60).await;
    eventually("the crash has all its steps", async || browser.count("#incident li").await == 6).await;
    for what in [&ESSENTIAL[..], &[TWO_ROWS, "#crashes-body tr", "#incident li"]] {
        fit(&browser, 900.0, what).await;
    }
    if language == "en" {
        picture(&browser, "crash.png").await;
    }
    fit_on_a_projector(&browser).await;
}

#[tokio::test]
async fn four_replicas_fit_on_one_screen_after_a_crash_in_english() {
    four_replicas_fit_on_one_screen("en").await;
}

#[tokio::test]
async fn four_replicas_fit_on_one_screen_after_a_crash_in_italian() {
    four_replicas_fit_on_one_screen("it").await;
}

#[tokio::test]
async fn a_thumb_reaches_the_buttons() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    browser.view(390, 844).await;
    start_conversations(&browser, 2).await;
    let read = "const button = document.getElementById(arguments[0]);
        const { x, y, width, height } = button.getBoundingClientRect();
        return [y + height / 2, height, document.elementFromPoint(x + width / 2, y + height / 2) === button]";
    for place in ["0", "document.body.scrollHeight"] {
        browser.run(&format!("scrollTo(0, {place})"), &json!([])).await;
        for id in ["start", "stop", "crash"] {
            let (middle, height, on_top): (f64, f64, bool) =
                serde_json::from_value(browser.run(read, &json!([id])).await).expect("two numbers and a truth");
            assert!(middle > 844.0 / 2.0 && height >= 44.0 && on_top, "#{id} at {place}: {middle}, {height}, {on_top}");
        }
    }
}

/// The number of elements with a transition or an animation.
const MOVING: &str =
    "return [...document.querySelectorAll('body, body *')].map((node) => getComputedStyle(node)).filter(
        ({ transitionProperty, transitionDuration, animationName }) =>
            animationName !== 'none' || (transitionProperty !== 'none' && /[1-9]/.test(transitionDuration))).length";

#[tokio::test]
async fn nothing_moves_with_reduced_motion() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 2).await;
    eventually("the load of a replica moves", async || browser.count("#replicas .fill").await == 1).await;
    assert!(browser.run(MOVING, &json!([])).await.as_u64() > Some(5), "buttons and meters move");
    let features = json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
    browser.command("Emulation.setEmulatedMedia", &features).await;
    assert_eq!(browser.run(MOVING, &json!([])).await, 0);
}

/// Elements that are wider than their container.
const CUT_OFF: &str =
    "const nodes = document.querySelectorAll('html, .badge, .badge *, .panel, .field, button, dt, dd, .card .name');
    return [...nodes].filter((node) => node.clientWidth > 1 && node.scrollWidth > node.clientWidth + 1)
        .map((node) => node.outerHTML.slice(0, 100))";

/// The lists that are narrower than their widest choice.
const CUT_OFF_CHOICES: &str = "return [...document.querySelectorAll('select')].filter((list) => {
        const free = list.parentNode.appendChild(list.cloneNode(true));
        free.style.setProperty('position', 'absolute');
        free.style.setProperty('width', 'max-content');
        const width = free.offsetWidth;
        free.remove();
        return list.offsetWidth < width;
    }).map(({ id, offsetWidth }) => `${id} is ${offsetWidth} wide`)";

#[tokio::test]
async fn text_of_any_size_has_room_on_every_screen() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    for language in ["en", "it"] {
        let browser = open_page(language, &server).await;
        start_conversations(&browser, 30).await;
        for (width, height) in [(1440, 900), (1024, 768), (390, 844)] {
            browser.view(width, height).await;
            for size in [16, 24] {
                let resize = "document.documentElement.style.setProperty('font-size', `${arguments[0]}px`);
                    return parseFloat(getComputedStyle(document.getElementById('start')).fontSize)";
                let text = browser.run(resize, &json!([size])).await.as_f64().expect("a size");
                assert!(text > 0.8 * f64::from(size), "text of buttons is {text} pixels high");
                for find in [CUT_OFF, CUT_OFF_CHOICES] {
                    let found = browser.run(find, &json!([])).await;
                    assert_eq!(found, json!([]), "{width} pixels, text of {size}, in {language}");
                }
            }
        }
    }
}

#[tokio::test]
async fn text_of_twice_the_size_has_room() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    for language in ["en", "it"] {
        let browser = Browser::open_with_large_text(language).await;
        browser.load(&format!("http://{}/", server.address)).await;
        start_conversations(&browser, 30).await;
        passes(&browser, "successes", 100).await;
        for (width, height) in [(1440, 900), (390, 844)] {
            browser.view(width, height).await;
            assert_eq!(browser.run(CUT_OFF, &json!([])).await, json!([]), "{width} pixels in {language}");
        }
    }
}

#[tokio::test]
async fn a_conversation_opens_with_its_history() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 1).await;
    passes(&browser, "successes", 40).await;
    browser.run("document.querySelector('#conversation-list button').click()", &json!([])).await;
    eventually("its last smiles are there", async || browser.count("#thread-smiles li").await >= 30).await;
    let first = async || {
        let read = "return Number(document.querySelector('#thread-smiles .offset').textContent.replace('offset ', ''))";
        browser.run(read, &json!([])).await.as_u64().expect("an offset")
    };
    assert!(first().await > 1);
    browser.click("thread-earlier").await;
    eventually("its first smile is there", async || first().await == 1).await;
    let before = browser.count("#thread-smiles li").await;
    eventually("new ones go on coming", async || browser.count("#thread-smiles li").await > before + 5).await;
    let people = browser.text("thread-people").await;
    assert!(people.contains("anna") && people.contains("bruno") && people.contains(&server.replica), "{people}");
    browser.click("thread-close").await;
    eventually("the dialog is empty", async || browser.count("#thread-smiles li").await == 0).await;
}

/// A counter of the server, 0 if it does not exist yet.
async fn counted(server: &TestProcess, name: &str) -> u64 {
    let count = metric(server.ops_address, name).await.unwrap_or_default();
    format!("{count}").parse().expect("a whole number")
}

/// Stops the run, waits until the server's counters rest, and returns those of stored, shed and rate-limited smiles and
/// requests.
async fn stopped(browser: &Browser, server: &TestProcess) -> [u64; 3] {
    browser.click("stop").await;
    eventually("no session is open", async || counted(server, "smilingchat_sessions").await == 0).await;
    let mut last = [u64::MAX; 3];
    eventually("the counters rest", async || {
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

/// The overload errors on the page by cause.
async fn causes(browser: &Browser) -> BTreeMap<String, u64> {
    let text = browser.text("overload-causes").await;
    let causes = text.split(" · ").filter_map(|cause| cause.rsplit_once(": "));
    causes.map(|(name, count)| (name.to_owned(), count.parse().expect("a number"))).collect()
}

/// Whether the page counts what the server counts, but for what was in transit when the run was stopped.
fn agree(shown: u64, counted: u64) -> bool {
    shown.abs_diff(counted) <= counted.div_ceil(10)
}

/// Checks the overload errors on the page against the server's: all of them are at capacity or rate-limited.
async fn overloads_agree(browser: &Browser, shed: u64, limited: u64) {
    let causes = causes(browser).await;
    let all = format!("{causes:?} on the page, {shed} shed and {limited} limited by the server");
    assert_eq!(browser.number("overload-errors").await, causes.values().sum::<u64>(), "{all}");
    let shown = |names: &[&str]| names.iter().filter_map(|&name| causes.get(name)).sum::<u64>();
    assert!(agree(shown(&["at capacity"]), shed), "{all}");
    let too_often = shown(&["session too fast", "too many requests from this address"]);
    assert!(agree(too_often, limited), "{all}");
    assert_eq!(shown(&["at capacity"]) + too_often, causes.values().sum::<u64>(), "{all}");
}

#[tokio::test]
async fn the_badges_count_what_the_server_counts() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    start_conversations(&browser, 30).await;
    passes(&browser, "overload-errors", 300).await;
    let [stored, shed, limited] = stopped(&browser, &server).await;
    overloads_agree(&browser, shed, limited).await;
    let successes = browser.number("successes").await;
    assert!(agree(successes, stored), "{successes} shown, {stored} stored");
}

#[tokio::test]
async fn refused_sessions_count_as_the_server_counts_them() {
    let folder = tempfile::tempdir().expect("a directory");
    let full: &[_] = &[("max-sessions", "10")];
    let too_often: &[_] = &[("client-rate", "5"), ("client-burst", "20")];
    for (options, cause) in [(full, "at capacity"), (too_often, "too many requests from this address")] {
        let server = TestProcess::start(&folder.path().join(cause), options).await;
        let browser = open_page("en", &server).await;
        browser.load(&format!("http://{}/?conversations=30&start", server.address)).await;
        let many = async || causes(&browser).await.get(cause).is_some_and(|&count| count > 60);
        eventually(&format!("{cause}: more than 60"), many).await;
        let [_, shed, limited] = stopped(&browser, &server).await;
        overloads_agree(&browser, shed, limited).await;
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
    eventually("it says that it is empty", async || reading(&browser).await == "Nothing has happened yet.").await;
    start_conversations(&browser, 2).await;
    passes(&browser, "successes", 30).await;
    let held = format!("{}: 4", server.replica);
    eventually("it shows the replica of the sessions", async || reading(&browser).await.contains(&held)).await;

    let first = server.replica.clone();
    browser.click("crash").await;
    server.exit().await;
    let server = start_again(&store, &server).await;
    eventually("every session is live again", async || live_sessions(&browser).await == 4).await;
    let cells = async || browser.text("crashes-body").await;
    eventually("the crash is over", async || !cells().await.contains('–')).await;
    let row = cells().await;
    assert!(row.starts_with(&format!("1 {first} exit this page ")) && row.contains(" 4 "), "{row}");
    assert_eq!(browser.count("#crashes-foot tr").await, 3);

    let table = "document.getElementById('timeline-text').open = true;
        return document.getElementById('timeline-rows').textContent";
    let all_marks = async || {
        let said = browser.run(table, &json!([])).await.to_string();
        let wanted = [format!("crash requested {first}"), format!("lost {first}"), format!("back {}", server.replica)];
        wanted.iter().all(|mark| said.contains(mark))
    };
    eventually("the table has every mark", all_marks).await;

    let press = "const timeline = document.getElementById('timeline');
        timeline.focus();
        timeline.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true, cancelable: true }));
        return timeline.getAttribute('aria-valuetext')";
    let oldest = browser.run(press, &json!(["Home"])).await;
    assert!(oldest.as_str().is_some_and(|text| text.contains("s ago")), "{oldest}");
    assert_ne!(browser.run(press, &json!(["ArrowRight"])).await, oldest);
    let now = browser.run(press, &json!(["End"])).await;
    assert!(now.as_str().is_some_and(|text| text.starts_with("now")), "{now}");

    let has_crashes = async || browser.count("#incident-panel:not([hidden])").await == 1;
    browser.click("stop").await;
    assert!(has_crashes().await);
    browser.click("start").await;
    eventually("the next run has no crashes", async || !has_crashes().await).await;
}

#[tokio::test]
async fn the_pointer_reads_the_timeline() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    browser.view(1440, 900).await;
    start_conversations(&browser, 2).await;
    passes(&browser, "successes", 60).await;
    let place = "const { x, y, width, height } = document.getElementById('timeline').getBoundingClientRect();
        return [x + width * arguments[0], y + height / 2]";
    let point = async |share: f64, wanted: &str| {
        let (x, y): (f64, f64) =
            serde_json::from_value(browser.run(place, &json!([share])).await).expect("two numbers");
        browser.command("Input.dispatchMouseEvent", &json!({ "type": "mouseMoved", "x": x, "y": y })).await;
        let read = async || reading(&browser).await.contains(wanted);
        eventually(&format!("the pointer at {share} reads {wanted}"), read).await;
    };
    // The sample nearest to the pointer is read: at the left edge the first, without a pointer the last.
    point(0.1, " s ago · ").await;
    point(0.99, "now · ").await;
    point(0.1, " s ago · ").await;
    point(-0.05, "now · ").await;
}

#[tokio::test]
async fn chaos_crashes_every_replica_and_then_ends() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    browser.load(&format!("http://{}/?conversations=2&chaos=10&start", server.address)).await;
    eventually("every session is live", async || live_sessions(&browser).await == 4).await;
    browser.click("chaos").await;
    assert!(!server.exit().await.success());
    eventually("it counts", async || browser.text("chaos-said").await.starts_with("1 crash so far")).await;
    let ended = "Ended after 1 crash: nothing is left to crash";
    eventually("it ends", async || browser.text("chaos-said").await == ended).await;
    assert!(browser.text("crashes-body").await.contains(" chaos "));
    assert_eq!(browser.run("return document.getElementById('chaos').checked", &json!([])).await, false);
}

#[tokio::test]
async fn a_link_sets_all_controls_and_keys_match_buttons() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    let query = "?conversations=3&rate=2&seed=7&mode=hang&chaos=60";
    browser.load(&format!("http://{}/{query}&start", server.address)).await;
    eventually("it starts by itself", async || live_sessions(&browser).await == 6).await;
    let read = "return ['conversations', 'rate', 'seed', 'crash-mode', 'chaos-interval'].map(
        (id) => document.getElementById(id).value)";
    assert_eq!(browser.run(read, &json!([])).await, json!(["3", "2", "7", "hang", "60"]));

    let press = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))";
    browser.run(press, &json!(["x"])).await;
    eventually("x stops", async || live_sessions(&browser).await == 0).await;
    browser.run(press, &json!(["s"])).await;
    eventually("s starts", async || live_sessions(&browser).await == 6).await;
    browser.run(press, &json!(["r"])).await;
    eventually("r forgets", async || browser.number("successes").await == 0).await;
    browser.run(press, &json!(["?"])).await;
    assert!(browser.text("shortcuts").await.contains("Crash backend"));
    browser.click("shortcuts-on").await;
    browser.click("help-close").await;
    browser.run(press, &json!(["s"])).await;
    browser.load(&format!("http://{}/", server.address)).await;
    browser.run(press, &json!(["s"])).await;
    assert_eq!(browser.count("#conversation-list > *").await, 0);
}

/// Intercepts downloads of the page.
const KEEP_DOWNLOADS: &str = "window.downloads = [];
    const createObjectURL = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
        blob.arrayBuffer().then((bytes) => downloads.push({ type: blob.type, bytes: [...new Uint8Array(bytes)] }));
        return createObjectURL(blob);
    };";

async fn download(browser: &Browser, button: &str) -> (String, Vec<u8>) {
    browser.run("document.getElementById(arguments[0]).click()", &json!([button])).await;
    eventually("there is a download", async || browser.run("return downloads.length", &json!([])).await == 1).await;
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
    passes(&browser, "successes", 30).await;
    browser.click("stop").await;
    let (kind, bytes) = download(&browser, "json").await;
    assert_eq!(kind, "application/json");
    let record: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(record["ledger"]["acked"].as_u64(), Some(browser.number("successes").await));
    assert_eq!(record["settings"]["conversations"], 2);
    assert_eq!(record["timeline"]["marks"][0]["kind"], "start");
    assert!(record["timeline"]["samples"].as_array().is_some_and(|samples| samples.len() > 2), "{record}");
    let (kind, bytes) = download(&browser, "picture").await;
    assert_eq!(kind, "image/png");
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.len() > 20_000, "{} bytes", bytes.len());
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_screen_reader_announces_events_and_no_counters() {
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
    eventually("it says that the backend is away", async || says("has not answered for 2 s").await).await;
    eventually("it ticks on", async || says("has not answered for 12 s").await).await;
    let heard = browser.run("return heard", &json!([])).await;
    let heard = heard.as_array().expect("a list");
    assert!((1..=3).contains(&heard.len()), "{heard:?}");
}

/// Selects a crash mode on the page.
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
    let gone = "The backend has exited and stays down. This brings it back: docker compose up -d";
    eventually("it says that the backend stays down", async || browser.text("revival").await == gone).await;

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
    // A stalling disk sheds for a moment, permanent overload sheds all the time.
    let calm = within_capacity(&browser).await || within_capacity(&browser).await || within_capacity(&browser).await;
    assert!(calm, "{}", browser.text("overload-causes").await);
    proof_holds(&browser).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// The bytes and the number of responses since the page was requested, without the polled list of replicas.
async fn transferred(browser: &Browser) -> (u64, u64) {
    eventually("the users are there", async || mood(browser).await == "good").await;
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
        // The scripts load their words after the load event of the page.
        eventually(language, async || browser.text("stop").await == stop).await;
    }
}
