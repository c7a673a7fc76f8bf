//! The page's layout in a real browser: what fits on a screen, buttons within reach of a thumb, motion, and room for
//! enlarged text.

use serde_json::json;

use crate::support::eventually;
use crate::support::frontend::{Frontend, addresses, start_replicas};
use crate::support::mysql::TestDatabase;
use crate::support::page::{STORE, WITH_LIMITS, live_sessions, open_page, picture, start_conversations, until_above};
use crate::support::process::TestProcess;
use crate::support::webdriver::Browser;

/// The lowest bottom edge of these elements, in pixels from the top of the page; infinite if no element matches or a
/// matching element is hidden.
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

/// The conversations in the first two rows, at a width of 1440 pixels: seven in each row.
const TWO_ROWS: &str = "#conversation-list > :nth-child(-n+14)";

/// The conversations in the first two rows, at a projector's width of 1024 pixels: five in each row.
const TWO_NARROW_ROWS: &str = "#conversation-list > :nth-child(-n+10)";

async fn fit(browser: &Browser, height: f64, wanted: &[&str]) {
    for shown in wanted {
        let reached = async || reaches(browser, shown).await <= height;
        eventually(&format!("{shown} fits on a screen {height} pixels high"), reached).await;
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
        until_above(&browser, "successes", 100).await;
        fit(&browser, 900.0, &ESSENTIAL).await;
        fit(&browser, 900.0, &[TWO_ROWS]).await;
        fit_on_a_projector(&browser).await;
        for width in [1440, 1024, 390, 320] {
            browser.view(width, 844).await;
            let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.run(overflow, &json!([])).await, 0, "the page overflowed at {width} px in {language}");
            let list = reaches(&browser, "#conversation-list").await;
            assert!(
                width < 390 || list < 3_500.0,
                "the list ended at {list} pixels on a page {width} pixels wide, in {language}"
            );
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
    until_above(&browser, "successes", 1000).await;
    fit(&browser, 900.0, &ESSENTIAL).await;
    fit(&browser, 900.0, &[TWO_ROWS]).await;
    fit_on_a_projector(&browser).await;
    browser.view(1440, 900).await;

    browser.click("crash").await;
    let recovered = async |lines| browser.count(".recovery:not([hidden])").await == lines;
    eventually("a line says that all lost sessions are live again", async || recovered(1).await).await;
    let crashed = "#replicas [data-state=lost]";
    eventually("the page shows the crash", async || browser.count(crashed).await == 1).await;
    let mut dead = None;
    for (replica, address) in replicas.iter_mut().zip(&addresses) {
        if !replica.runs() {
            dead = Some(*address);
        }
    }
    let _replacement = start_replicas(&[dead.expect("no replica had exited")], &database).await;
    eventually("the dead replica is replaced", async || browser.count("#replicas [data-state=ready]").await == 4).await;
    eventually("every session is live again", async || live_sessions(&browser).await == 60).await;
    eventually("the crash has all its steps", async || browser.count("#incident li").await == 6).await;
    for what in [&ESSENTIAL[..], &[TWO_ROWS, "#crashes-body tr", "#incident li"]] {
        fit(&browser, 900.0, what).await;
    }
    if language == "en" {
        eventually("the line is gone", async || recovered(0).await).await;
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

/// The height in pixels that the table of crashes leaves for rows between its head and its foot.
const ROOM_FOR_CRASHES: &str = "const box = (selector) => document.querySelector(selector).getBoundingClientRect();
    document.getElementById('incident-panel').scrollTo(0, 0);
    const end = Math.min(box('#crashes-foot').top, box('#incident-panel').bottom);
    return end - box('#crashes thead').bottom";

#[tokio::test]
async fn the_table_of_crashes_has_room_for_a_crash() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join(STORE);
    let mut server = TestProcess::start(&store, &WITH_LIMITS).await;
    let browser = open_page("it", &server).await;
    start_conversations(&browser, 2).await;
    for crashes in 1..=2 {
        browser.click("crash").await;
        server.exit().await;
        server = server.start_again(&store, &WITH_LIMITS).await;
        eventually("every session is live again", async || live_sessions(&browser).await == 4).await;
        eventually("the crash has its row", async || browser.count("#crashes-body tr").await == crashes).await;
    }
    eventually("the crash is over", async || !browser.text("crashes-body").await.contains('–')).await;
    for (width, height) in [(390, 844), (1024, 768), (1280, 720), (1280, 900), (1440, 900)] {
        browser.view(width, height).await;
        let room = browser.run(ROOM_FOR_CRASHES, &json!([])).await.as_f64().expect("a height");
        assert!(room > 20.0, "the table left {room} pixels for crashes at {width} by {height} pixels");
    }
}

/// Collects the elements that move, except the smiles in a strip.
const WATCH_SHIFTS: &str = "window.shifts = [];
    new PerformanceObserver((list) => {
        const moved = list.getEntries().flatMap(({ sources }) => Array.from(sources, ({ node }) => node));
        const others = moved.filter((node) => node instanceof Element && !node.closest('.strip'));
        window.shifts.push(...others.map(({ id, className }) => id || className));
    }).observe({ type: 'layout-shift' })";

#[tokio::test]
async fn smiles_do_not_move_the_layout() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    let browser = open_page("en", &server).await;
    browser.view(1280, 720).await;
    start_conversations(&browser, 15).await;
    until_above(&browser, "successes", 100).await;
    browser.run(WATCH_SHIFTS, &json!([])).await;
    until_above(&browser, "successes", 300).await;
    assert_eq!(browser.run("return window.shifts", &json!([])).await, json!([]));
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
                serde_json::from_value(browser.run(read, &json!([id])).await).expect("two numbers and a boolean");
            assert!(
                middle > 844.0 / 2.0 && height >= 44.0 && on_top,
                "#{id}, scrolled to {place}: middle at {middle} px, {height} px high, on top: {on_top}"
            );
        }
    }
}

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
    eventually("the page shows the replica's load", async || browser.count("#replicas .fill").await == 1).await;
    assert!(browser.run(MOVING, &json!([])).await.as_u64() > Some(5), "too few elements moved without reduced motion");
    let features = json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
    browser.command("Emulation.setEmulatedMedia", &features).await;
    assert_eq!(browser.run(MOVING, &json!([])).await, 0);
}

/// The selected elements whose content is more than a pixel wider than the element. Elements up to a pixel wide do not
/// count: they are for screen readers only.
const CUT_OFF: &str =
    "const nodes = document.querySelectorAll('html, .badge, .badge *, .panel, .field, button, dt, dd, .card, .card .name');
    return [...nodes].filter((node) => node.clientWidth > 1 && node.scrollWidth > node.clientWidth + 1)
        .map((node) => node.outerHTML.slice(0, 100))";

/// The drop-down lists that are narrower than their widest choice.
const CUT_OFF_CHOICES: &str = "return [...document.querySelectorAll('select')].filter((list) => {
        const free = list.parentNode.appendChild(list.cloneNode(true));
        free.style.setProperty('position', 'absolute');
        free.style.setProperty('width', 'max-content');
        const width = free.offsetWidth;
        free.remove();
        return list.offsetWidth < width;
    }).map(({ id, offsetWidth }) => `${id} is ${offsetWidth} px wide`)";

#[tokio::test]
async fn enlarged_text_has_room_on_every_screen() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    for language in ["en", "it"] {
        let browser = open_page(language, &server).await;
        start_conversations(&browser, 30).await;
        for (width, height) in [(1440, 900), (1280, 720), (1024, 768), (390, 844)] {
            browser.view(width, height).await;
            for size in [16, 24] {
                let resize = "document.documentElement.style.setProperty('font-size', `${arguments[0]}px`);
                    return parseFloat(getComputedStyle(document.getElementById('start')).fontSize)";
                let text = browser.run(resize, &json!([size])).await.as_f64().expect("a size");
                assert!(text > 0.8 * f64::from(size), "the font size of the start button was {text} pixels");
                for find in [CUT_OFF, CUT_OFF_CHOICES] {
                    let found = browser.run(find, &json!([])).await;
                    assert_eq!(
                        found,
                        json!([]),
                        "elements were cut off at {width} pixels, font size {size}, in {language}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn text_of_twice_the_usual_size_has_room() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join(STORE), &WITH_LIMITS).await;
    for language in ["en", "it"] {
        let browser = Browser::open_with_large_text(language).await;
        browser.load(&format!("http://{}/", server.address)).await;
        start_conversations(&browser, 30).await;
        until_above(&browser, "successes", 100).await;
        for (width, height) in [(1440, 900), (390, 844), (320, 640)] {
            browser.view(width, height).await;
            assert_eq!(
                browser.run(CUT_OFF, &json!([])).await,
                json!([]),
                "elements were cut off at {width} pixels in {language}"
            );
        }
    }
}
