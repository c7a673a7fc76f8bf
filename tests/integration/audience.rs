//! The audience: phones that join at the address that the page shows, and a Node.js program that uses the page's client
//! module. Some tests crash the backend.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::client::TestClient;
use crate::support::http_proxy::http_proxy;
use crate::support::page::{WITH_LIMITS, picture};
use crate::support::process::TestProcess;
use crate::support::webdriver::Browser;
use crate::support::{crash, eventually, get_json, within};

async fn crash_at_once(server: &mut TestProcess) {
    let asked = crash(server.address).json(&json!({})).send().await;
    assert!(asked.is_ok_and(|answer| answer.status() == 202));
    assert!(!server.exit().await.success());
}

/// Waits until the phone in this tab has a user; returns the user's name.
async fn joined(phone: &Browser) -> String {
    eventually("the phone has a user", async || phone.text("you").await.contains(' ')).await;
    phone.text("you").await.split(' ').next_back().expect("the phone should show a name").to_owned()
}

async fn choose(phone: &Browser, user: &str) {
    let choose = "const to = document.getElementById('to');
        to.value = arguments[0];
        to.dispatchEvent(new Event('change', { bubbles: true }));
        return to.value";
    assert_eq!(phone.run(choose, &json!([user])).await, user);
}

async fn become_phone(phone: &Browser) {
    let screen = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
    phone.command("Emulation.setDeviceMetricsOverride", &screen).await;
    phone.command("Emulation.setTouchEmulationEnabled", &json!({ "enabled": true })).await;
}

/// Taps the first `faces` faces, one after the other.
async fn tap(phone: &Browser, faces: usize) {
    let place = "const face = document.querySelectorAll('.face')[arguments[0]];
        face.scrollIntoView({ block: 'center' });
        const { x, y, width, height } = face.getBoundingClientRect();
        return { x: x + width / 2, y: y + height / 2 }";
    // A background tab receives no touch events.
    phone.command("Page.bringToFront", &json!({})).await;
    for face in 0..faces {
        let point = phone.run(place, &json!([face])).await;
        phone.command("Input.dispatchTouchEvent", &json!({ "type": "touchStart", "touchPoints": [point] })).await;
        phone.command("Input.dispatchTouchEvent", &json!({ "type": "touchEnd", "touchPoints": [] })).await;
    }
}

async fn lines(phone: &Browser, state: &str, words: &str) -> u64 {
    let count = "return [...document.querySelectorAll(`#came [data-state=${arguments[0]}]`)]
        .filter(({ textContent }) => textContent.includes(arguments[1])).length";
    phone.run(count, &json!([state, words])).await.as_u64().expect("a number")
}

async fn state(phone: &Browser) -> Value {
    phone.run("return document.getElementById('state').dataset.mood", &json!([])).await
}

/// Opens the full-screen QR code with its key, and closes it.
async fn the_code_fills_the_screen(browser: &Browser, address: &str) {
    let press = "(document.querySelector('dialog[open]') ?? document.body).dispatchEvent(
        new KeyboardEvent('keydown', { key: 'q', bubbles: true }))";
    browser.run(press, &json!([])).await;
    eventually("the code fills the screen", async || browser.count("dialog[open] img:not([hidden])").await == 1).await;
    let large = "const { width, height } = document.querySelector('dialog[open]').getBoundingClientRect();
        const { textContent } = document.querySelector('dialog[open] strong');
        return [width === document.documentElement.clientWidth, height === innerHeight, textContent]";
    let short = address.trim_start_matches("http://");
    assert_eq!(browser.run(large, &json!([])).await, json!([true, true, short]));
    browser.run(press, &json!([])).await;
    assert_eq!(browser.count("dialog[open]").await, 0);
}

/// No single smile, such as the claim of a user, has the texts of all three taps.
async fn the_page_shows_three_taps_of(browser: &Browser, user: &str) {
    let taps = ["😀", "😂", "😍"].map(|face| format!("{face} {user}"));
    eventually("the page shows the smiles from the phone", async || {
        let room = browser.text("tagline").await;
        taps.iter().all(|tap| room.contains(tap))
    })
    .await;
}

#[tokio::test]
async fn two_phones_smile_at_each_other_and_at_simulated_users_while_the_backend_crashes() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join("chat.db");
    let mut server = TestProcess::start(&store, &WITH_LIMITS).await;
    let browser = Browser::open("en").await;
    browser.load(&format!("http://{}/?conversations=5&start", server.address)).await;
    let presenter = browser.tab().await;
    let shown = "const code = document.getElementById('join-code'); return !code.hidden && code.naturalWidth > 0";
    eventually("the QR code is shown", async || browser.run(shown, &json!([])).await == true).await;
    let address = browser.text("join-address").await;
    assert_eq!(address, format!("http://{}/join.html", server.address));
    assert!(
        browser.text("join-local").await.contains("Phones cannot reach"),
        "the page did not warn that phones cannot reach 127.0.0.1"
    );
    the_code_fills_the_screen(&browser, &address).await;
    eventually("the conversations run", async || browser.number("successes").await > 20).await;

    // Each host name has its own storage, so the tab on `localhost` acts as another phone.
    let one = browser.open_tab(&address).await;
    become_phone(&browser).await;
    let ada = joined(&browser).await;
    let two = browser.open_tab(&address.replace("127.0.0.1", "localhost")).await;
    become_phone(&browser).await;
    let bart = joined(&browser).await;
    assert_ne!(ada, bart);

    choose(&browser, &ada).await;
    tap(&browser, 2).await;
    browser.switch_to(&one).await;
    eventually("the smiles arrive", async || lines(&browser, "heard", &format!("{bart} smiles")).await == 2).await;
    choose(&browser, "anna").await;
    tap(&browser, 3).await;
    eventually("each smile is answered", async || lines(&browser, "heard", "anna smiles").await >= 3).await;
    picture(&browser, "join.png").await;

    crash_at_once(&mut server).await;
    eventually("the phone says that the backend is away", async || state(&browser).await == "bad").await;
    choose(&browser, &bart).await;
    tap(&browser, 4).await;
    assert_eq!(lines(&browser, "sent", &format!("to {bart}")).await, 4);
    let server = server.start_again(&store, &WITH_LIMITS).await;
    eventually("the phone is connected again", async || state(&browser).await == "good").await;
    eventually("all smiles are stored", async || lines(&browser, "stored", &format!("to {bart}")).await == 4).await;
    assert_eq!(lines(&browser, "sent", "").await, 0);
    browser.switch_to(&two).await;
    eventually("all smiles arrive", async || lines(&browser, "heard", &format!("{ada} smiles")).await == 4).await;

    browser.load(&address.replace("127.0.0.1", "localhost")).await;
    assert_eq!(joined(&browser).await, bart, "the phone got another user when it reloaded the page");

    browser.switch_to(&presenter).await;
    let say = "document.getElementById('say-as').value = 'zoe';
        document.getElementById('say-text').value = `@${arguments[0]} :-)`";
    browser.run(say, &json!([bart])).await;
    browser.click("say-send").await;
    eventually("the smile is stored", async || browser.text("say-result").await.contains("stored at offset")).await;
    browser.switch_to(&two).await;
    eventually("the presenter's smile arrives", async || lines(&browser, "heard", "zoe smiles").await == 1).await;
    browser.switch_to(&presenter).await;
    the_page_shows_three_taps_of(&browser, &ada).await;
    let mood = "return document.getElementById('ledger-verdict').dataset.mood";
    eventually("the proof holds", async || browser.run(mood, &json!([])).await == "good").await;
    drop(server);
}

#[tokio::test]
async fn the_preset_receiver_of_a_phone_answers() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &WITH_LIMITS).await;
    let browser = Browser::open("en").await;
    browser.load(&format!("http://{}/?conversations=1&start", server.address)).await;
    eventually("the conversation runs", async || browser.number("successes").await > 5).await;
    browser.open_tab(&format!("http://{}/join.html", server.address)).await;
    become_phone(&browser).await;
    joined(&browser).await;
    tap(&browser, 2).await;
    eventually("both smiles are stored", async || lines(&browser, "stored", "").await >= 2).await;
    let preset = browser.run("return document.getElementById('to').value", &json!([])).await;
    let answers = format!("{} smiles", preset.as_str().expect("a name"));
    eventually("both smiles are answered", async || lines(&browser, "heard", &answers).await >= 2).await;
}

#[tokio::test]
async fn a_phone_that_reloads_the_page_during_an_outage_sends_the_smiles_of_before() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join("chat.db");
    let mut server = TestProcess::start(&store, &WITH_LIMITS).await;
    // While the backend of the sessions is away, this one serves the page.
    let pages = TestProcess::start(&folder.path().join("pages.db"), &WITH_LIMITS).await;
    let (others, sessions) = (pages.address, server.address);
    let proxy = http_proxy(false, move |path| if path.starts_with("/ws") { sessions } else { others }).await;
    let phone = Browser::open("en").await;
    become_phone(&phone).await;
    phone.load(&format!("http://{proxy}/join.html")).await;
    let user = joined(&phone).await;
    eventually("the phone is live", async || state(&phone).await == "good").await;
    crash_at_once(&mut server).await;
    eventually("the phone says that the backend is away", async || state(&phone).await == "bad").await;
    choose(&phone, "anna").await;
    tap(&phone, 2).await;
    assert_eq!(lines(&phone, "sent", "to anna").await, 2);
    phone.load(&format!("http://{proxy}/join.html")).await;
    eventually("the backend is away from the new page too", async || state(&phone).await == "bad").await;
    let server = server.start_again(&store, &WITH_LIMITS).await;
    assert_eq!(joined(&phone).await, user);
    eventually("both smiles are stored", async || lines(&phone, "stored", "to anna").await == 2).await;
    drop(server);
}

#[tokio::test]
async fn a_phone_diagnoses_a_proxy_that_rewrites_the_host() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &WITH_LIMITS).await;
    let backend = server.address;
    let proxy = http_proxy(true, move |_| backend).await;
    let phone = Browser::open("en").await;
    phone.load(&format!("http://{proxy}/join.html")).await;
    let cause = format!("A proxy changes the host of this page to {}", server.address);
    eventually("the phone names the cause", async || phone.text("state").await.starts_with(&cause)).await;
    assert!(server.log().contains("--allowed-origins"), "the log did not name the option: {}", server.log());
}

/// The pause that a refusal asks for. No back-off of a phone is longer, except after a close with 1008.
const RETRY_AFTER: Duration = Duration::from_secs(6);

async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 23\r\nConnection: close\r\n\r\n{{\"code\":\"rate_limited\"}}",
        RETRY_AFTER.as_secs()
    );
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 4_096];
                let _ = client.read(&mut head).await;
                let _ = client.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// A proxy that refuses the first request for a path that begins with `refused`. It also refuses each later request for
/// such a path, unless at least [`RETRY_AFTER`] has passed since the previous such request.
async fn impatient_proxy(backend: SocketAddr, refused: &'static str) -> SocketAddr {
    let refusing = refusing().await;
    let last = Mutex::new(None::<Instant>);
    http_proxy(false, move |path| {
        if !path.starts_with(refused) {
            return backend;
        }
        let paused = last
            .lock()
            .expect("the lock should not be poisoned")
            .replace(Instant::now())
            .is_some_and(|at| at.elapsed() >= RETRY_AFTER);
        if paused { backend } else { refusing }
    })
    .await
}

#[tokio::test]
async fn a_phone_says_that_it_is_rate_limited_and_pauses_as_long_as_the_refusal_asks() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &[]).await;
    let phone = Browser::open("en").await;
    for refused in ["/api/users", "/ws"] {
        let proxy = impatient_proxy(server.address, refused).await;
        phone.load(&format!("http://{proxy}/join.html")).await;
        let says = async || phone.text("state").await.starts_with("Too many requests from this network");
        eventually(&format!("the phone says that {refused} is rate-limited"), says).await;
        assert_eq!(state(&phone).await, "bad");
        joined(&phone).await;
        eventually("the phone is live", async || state(&phone).await == "good").await;
    }
}

/// Cuts the phone's network if `offline` is true, and restores it otherwise.
async fn cut_network(phone: &Browser, offline: bool) {
    let network = json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    phone.command("Network.enable", &json!({})).await;
    phone.command("Network.emulateNetworkConditions", &network).await;
}

#[tokio::test]
async fn a_phone_says_that_it_is_offline_before_and_after_it_has_joined() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &WITH_LIMITS).await;
    let phone = Browser::open("en").await;
    let proxy = impatient_proxy(server.address, "/api/users").await;
    phone.load(&format!("http://{proxy}/join.html")).await;
    let says = async |what: &str| phone.text("state").await.starts_with(what);
    eventually("the phone is rate-limited", async || says("Too many requests").await).await;
    for when in ["before it has joined", "after it has joined"] {
        cut_network(&phone, true).await;
        let offline = async || says("This phone is offline").await;
        eventually(&format!("the phone says that it is offline, {when}"), offline).await;
        assert_eq!(phone.run("return navigator.onLine", &json!([])).await, false);
        assert_eq!(state(&phone).await, "bad");
        cut_network(&phone, false).await;
        joined(&phone).await;
        eventually("the phone is live", async || says("Connected to").await).await;
    }
    choose(&phone, "anna").await;
    tap(&phone, 1).await;
    eventually("the phone's smile is stored", async || lines(&phone, "stored", "to anna").await == 1).await;
}

/// Node.js before version 22 opens WebSockets only with an option.
async fn options_for_sockets() -> &'static [&'static str] {
    let output = Command::new("node").arg("--version").output().await.expect("node should start");
    let version = String::from_utf8(output.stdout).expect("the version should be text");
    let major = version.trim_start_matches('v').split('.').next().map(str::parse::<u32>);
    if major.expect("a major version").expect("a number") < 22 { &["--experimental-websocket"] } else { &[] }
}

#[tokio::test]
async fn a_phone_says_that_the_backend_hangs_and_joins_once_the_backend_answers() {
    let folder = tempfile::tempdir().expect("a directory");
    let answering = TestProcess::start(&folder.path().join("answering.db"), &[]).await;
    let hanging = TestProcess::start(&folder.path().join("chat.db"), &[]).await;
    let phone = Browser::open("en").await;
    for hangs in ["/api/", "/ws"] {
        let (others, backend) = (answering.address, hanging.address);
        let proxy = http_proxy(false, move |path| if path.starts_with(hangs) { backend } else { others }).await;
        hanging.signal("STOP").await;
        phone.load(&format!("http://{proxy}/join.html")).await;
        let says = async || phone.text("state").await.starts_with("The backend does not answer");
        eventually(&format!("the phone says that {hangs} hangs"), says).await;
        hanging.signal("CONT").await;
        joined(&phone).await;
        eventually("the phone is live", async || state(&phone).await == "good").await;
    }
}

#[tokio::test]
async fn a_phone_without_browser_storage_gets_another_user_each_time() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &WITH_LIMITS).await;
    let phone = Browser::open_without_site_data("en").await;
    become_phone(&phone).await;
    let mut users = Vec::new();
    for _ in 0..2 {
        phone.load(&format!("http://{}/join.html", server.address)).await;
        users.push(joined(&phone).await);
        tap(&phone, 1).await;
        eventually("the phone's smile is stored", async || lines(&phone, "stored", "").await >= 1).await;
    }
    let blocked = "try { return localStorage === null } catch (error) { return error.name }";
    assert_eq!(phone.run(blocked, &json!([])).await, "SecurityError");
    assert_ne!(users[0], users[1]);
}

#[tokio::test]
async fn the_example_of_the_client_in_node_says_why_it_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &WITH_LIMITS).await;
    let mut node = Command::new("node")
        .args(options_for_sockets().await)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/client.mjs"))
        .args([&format!("http://{}", server.address), "nobody"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node should start");
    let mut output = BufReader::new(node.stdout.take().expect("the output should be piped")).lines();
    let explained = async {
        while let Some(line) = output.next_line().await.expect("text") {
            if line.starts_with("unknown_user ") {
                return;
            }
        }
        panic!("the program ended without the reason");
    };
    within("the program prints the reason", explained).await;
}

#[tokio::test]
async fn the_example_of_the_client_in_node_survives_a_crash_of_the_backend() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = folder.path().join("chat.db");
    let mut server = TestProcess::start(&store, &WITH_LIMITS).await;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/client.mjs");
    let mut node = Command::new("node")
        .args(options_for_sockets().await)
        .arg(example)
        .args([&format!("http://{}", server.address), "anna", "bruno"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("node should start");
    let said = Arc::new(Mutex::new(Vec::<String>::new()));
    let mut output = BufReader::new(node.stdout.take().expect("the output should be piped")).lines();
    let kept = Arc::clone(&said);
    tokio::spawn(async move {
        while let Ok(Some(line)) = output.next_line().await {
            kept.lock().expect("the lock should not be poisoned").push(line);
        }
    });
    let stored = || -> Vec<u64> {
        let said = said.lock().expect("the lock should not be poisoned");
        let offsets = said.iter().filter_map(|line| line.strip_suffix(": stored"));
        offsets.map(|offset| offset.parse().expect("an offset")).collect()
    };
    eventually("some smiles are stored", async || stored().len() >= 3).await;
    crash_at_once(&mut server).await;
    let server = server.start_again(&store, &WITH_LIMITS).await;
    let before = stored().len();
    eventually("the program continues", async || stored().len() >= before + 3).await;
    let mut bruno = TestClient::connect(server.address, "bruno").await;
    let head = bruno.smile("answer", "anna").await;
    let answer = format!("{head}: bruno smiles 😀");
    eventually("the program receives the answer", async || {
        said.lock().expect("the lock should not be poisoned").contains(&answer)
    })
    .await;
    node.kill().await.expect("node should be killed");
    let offsets = stored();
    assert!(offsets.is_sorted_by(|one, other| one < other), "the acked offsets did not increase: {offsets:?}");
    let list = get_json(server.address, "/api/replicas").await;
    let log = list["head"].as_u64().expect("an offset");
    // The log also holds Bruno's answer, and perhaps one more smile, whose ack the program had not yet printed.
    let mine = u64::try_from(offsets.len()).expect("the count should fit") + 1;
    assert!((mine..=mine + 1).contains(&log), "the log had {log} smiles instead of {mine} or one more");
}
