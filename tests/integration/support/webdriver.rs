//! A real browser: headless Chromium, driven by chromedriver over the W3C `WebDriver` protocol. Neither process
//! outlives the test.

use std::process::Stdio;

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};

use super::{PATIENCE, within};

/// Allows one browser at a time, since each takes most of the machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The line of chromedriver before its port.
const STARTED: &str = "was started successfully on port ";

/// Headless, without a sandbox (containers have none), and without requests to other servers.
const ARGUMENTS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
];

/// A browser with one page.
pub(crate) struct Browser {
    driver: Child,
    /// The browser's process, which would outlive its driver.
    process: u64,
    client: reqwest::Client,
    session: String,
    _profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Opens a browser with this preferred language, once no other is open.
    pub(crate) async fn open(language: &str) -> Self {
        Self::open_with(language, &json!({})).await
    }

    /// Opens a browser that blocks all site data.
    pub(crate) async fn open_without_site_data(language: &str) -> Self {
        Self::open_with(language, &json!({ "profile.default_content_setting_values.cookies": 2 })).await
    }

    /// The same, of a user who reads text of twice the usual size.
    pub(crate) async fn open_with_large_text(language: &str) -> Self {
        Self::open_with(language, &json!({ "webkit.webprefs.default_font_size": 32 })).await
    }

    async fn open_with(language: &str, preferences: &Value) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let (driver, port) = within("chromedriver listens", start_driver()).await;
        let profile = tempfile::tempdir().expect("a directory");
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("an HTTP client");
        let sessions = format!("http://127.0.0.1:{port}/session");
        let wanted = capabilities(language, &profile, preferences);
        let opened = call(client.post(&sessions).json(&wanted)).await;
        let id = opened["sessionId"].as_str().expect("a session");
        let process = opened["capabilities"]["goog:processID"].as_u64().expect("the process of the browser");
        Self { driver, process, session: format!("{sessions}/{id}"), client, _profile: profile, _turn: turn }
    }

    /// Loads a page.
    pub(crate) async fn load(&self, url: &str) {
        self.post("url", &json!({ "url": url })).await;
    }

    /// The handle of the current tab.
    pub(crate) async fn tab(&self) -> String {
        let handle = call(self.client.get(format!("{}/window", self.session))).await;
        handle.as_str().expect("a handle").to_owned()
    }

    /// Opens a tab and switches to it.
    pub(crate) async fn open_tab(&self, url: &str) -> String {
        let opened = self.post("window/new", &json!({ "type": "tab" })).await;
        let handle = opened["handle"].as_str().expect("a handle").to_owned();
        self.turn_to(&handle).await;
        self.load(url).await;
        handle
    }

    /// Switches to another tab.
    pub(crate) async fn turn_to(&self, tab: &str) {
        self.post("window", &json!({ "handle": tab })).await;
    }

    /// Emulates a screen of this size.
    pub(crate) async fn view(&self, width: u32, height: u32) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &screen).await;
    }

    /// The visible text of the element with this id.
    pub(crate) async fn text(&self, id: &str) -> String {
        let element = self.element(id).await;
        let text = call(self.client.get(format!("{}/element/{element}/text", self.session))).await;
        text.as_str().expect("text").to_owned()
    }

    /// The visible number in the element with this id.
    pub(crate) async fn number(&self, id: &str) -> u64 {
        let text = self.text(id).await;
        text.parse().unwrap_or_else(|_| panic!("#{id} shows no number: {text:?}"))
    }

    /// Clicks on the element with this id.
    pub(crate) async fn click(&self, id: &str) {
        let element = self.element(id).await;
        self.post(&format!("element/{element}/click"), &json!({})).await;
    }

    /// The number of elements that match a selector.
    pub(crate) async fn count(&self, selector: &str) -> u64 {
        let count = self.run("return document.querySelectorAll(arguments[0]).length", &json!([selector])).await;
        count.as_u64().expect("a number")
    }

    /// Runs a script in the page and returns its result.
    pub(crate) async fn run(&self, script: &str, arguments: &Value) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": arguments })).await
    }

    /// Runs a command of the Chrome `DevTools` protocol.
    pub(crate) async fn command(&self, command: &str, parameters: &Value) {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await;
    }

    /// A screenshot of the viewport as a PNG.
    pub(crate) async fn screenshot(&self) -> Vec<u8> {
        let image = call(self.client.get(format!("{}/screenshot", self.session))).await;
        base64::engine::general_purpose::STANDARD.decode(image.as_str().expect("text")).expect("base64")
    }

    /// The severe log entries since the last call: errors of scripts, of the content security policy and of the
    /// network.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "browser" })).await;
        let entries = log.as_array().expect("a list").iter();
        let severe = entries.filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")));
        severe.map(|entry| entry["message"].as_str().expect("text").to_owned()).collect()
    }

    async fn element(&self, id: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": format!("#{id}") })).await;
        let reference = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        reference.expect("a reference to an element").to_owned()
    }

    async fn post(&self, command: &str, body: &Value) -> Value {
        call(self.client.post(format!("{}/{command}", self.session)).json(body)).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver first, since it would clean up the browser at the same time.
        let _ = self.driver.start_kill();
        let _ = std::process::Command::new("sh").args(["-c", "kill -KILL $0", &self.process.to_string()]).status();
    }
}

/// The language sets `navigator.languages`; the log captures the console.
fn capabilities(language: &str, profile: &TempDir, preferences: &Value) -> Value {
    let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
    arguments.push(format!("--lang={language}"));
    arguments.push(format!("--accept-lang={language}"));
    arguments.push(format!("--user-data-dir={}", profile.path().display()));
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": { "args": arguments, "prefs": preferences },
        "goog:loggingPrefs": { "browser": "ALL" },
    }}})
}

/// Starts chromedriver on a free port. It picks one of IPv4 and ends if the same one of IPv6 is in use: then another try
/// picks another.
async fn start_driver() -> (Child, u16) {
    let mut output = String::new();
    for _ in 0..5 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver starts: scripts/test installs it");
        match port_of(&mut driver).await {
            Ok(port) => return (driver, port),
            Err(text) => output = text,
        }
    }
    panic!("chromedriver ended: {output}");
}

/// Reads the port from chromedriver's output, and keeps reading so that a full pipe never blocks it. The error is the
/// output of a chromedriver that ended.
async fn port_of(driver: &mut Child) -> Result<u16, String> {
    let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
    let mut output = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, port)) = line.split_once(STARTED) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(port.trim_end_matches('.').parse().expect("a port"));
        }
        output = output + &line + "\n";
    }
    Err(output)
}

/// The value of a successful response.
async fn call(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("an answer of chromedriver");
    let succeeded = response.status().is_success();
    let mut answer: Value = response.json().await.expect("JSON of chromedriver");
    let value = answer["value"].take();
    assert!(succeeded, "chromedriver: {}", value["message"]);
    value
}
