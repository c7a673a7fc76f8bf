//! A real browser: headless Chromium, driven by chromedriver. Dropping the [`Browser`] kills the processes of both.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::prelude::*;
use thirtyfour::{ChromeCapabilities, LoggingPrefsLogLevel};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};

use super::{http, within};

/// Allows one browser at a time, because each uses most of the machine's capacity.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The text that chromedriver prints before its port.
const STARTED: &str = "was started successfully on port ";

/// The arguments that make Chromium run headless, without a sandbox (which often fails in containers), and without
/// requests to other servers.
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

/// The methods act on the current tab.
pub(crate) struct Browser {
    driver: Child,
    session: WebDriver,
    /// The profile and the temporary files, which the killed browser does not remove.
    _folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Opens a browser with this preferred language, once no other browser is open.
    pub(crate) async fn open(language: &str) -> Self {
        Self::open_with(language, json!({})).await
    }

    pub(crate) async fn open_without_site_data(language: &str) -> Self {
        Self::open_with(language, json!({ "profile.default_content_setting_values.cookies": 2 })).await
    }

    /// Opens a browser whose default font size is twice the usual one.
    pub(crate) async fn open_with_large_text(language: &str) -> Self {
        Self::open_with(language, json!({ "webkit.webprefs.default_font_size": 32 })).await
    }

    async fn open_with(language: &str, preferences: Value) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::tempdir().expect("a directory");
        let (driver, port) = within("chromedriver listens", start_driver(folder.path())).await;
        let wanted = capabilities(language, &folder.path().join("profile"), preferences).expect("capabilities");
        let session = WebDriver::builder(format!("http://127.0.0.1:{port}"), wanted).client(http());
        let session = session.await.expect("Chromium should start");
        Self { driver, session, _folder: folder, _turn: turn }
    }

    pub(crate) async fn load(&self, url: &str) {
        self.session.goto(url).await.expect("the page should load");
    }

    pub(crate) async fn tab(&self) -> WindowHandle {
        self.session.window().await.expect("a tab")
    }

    pub(crate) async fn open_tab(&self, url: &str) -> WindowHandle {
        let tab = self.session.new_tab().await.expect("a new tab");
        self.switch_to(&tab).await;
        self.load(url).await;
        tab
    }

    pub(crate) async fn switch_to(&self, tab: &WindowHandle) {
        self.session.switch_to_window(tab.clone()).await.expect("the tab should be open");
    }

    /// Emulates a screen of this size in CSS pixels.
    pub(crate) async fn view(&self, width: u32, height: u32) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &screen).await;
    }

    /// The visible text of the element with this id.
    pub(crate) async fn text(&self, id: &str) -> String {
        self.element(id).await.text().await.expect("the element should be in the page")
    }

    pub(crate) async fn number(&self, id: &str) -> u64 {
        let text = self.text(id).await;
        text.replace(',', "").parse().unwrap_or_else(|_| panic!("#{id} showed no number: {text:?}"))
    }

    pub(crate) async fn click(&self, id: &str) {
        self.element(id).await.click().await.expect("the element should be clickable");
    }

    pub(crate) async fn count(&self, selector: &str) -> u64 {
        let count = self.run("return document.querySelectorAll(arguments[0]).length", &json!([selector])).await;
        count.as_u64().expect("a number")
    }

    pub(crate) async fn run(&self, script: &str, arguments: &Value) -> Value {
        let arguments = arguments.as_array().expect("a list of arguments").as_slice();
        let result = self.session.execute(script, arguments).await.expect("the script should run");
        result.json().clone()
    }

    /// Runs a command of the Chrome `DevTools` protocol.
    pub(crate) async fn command(&self, command: &str, parameters: &Value) {
        self.session.cdp().send_raw(command, parameters).await.expect("Chromium should know the command");
    }

    pub(crate) async fn screenshot(&self) -> Vec<u8> {
        self.session.screenshot_as_png().await.expect("a screenshot")
    }

    /// The errors and warnings in the browser's log since the last call: those of scripts, of the content security
    /// policy and of the network.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.session.browser_log().await.expect("the browser's log").into_iter();
        log.filter(|entry| matches!(&*entry.level, "SEVERE" | "WARNING")).map(|entry| entry.message).collect()
    }

    async fn element(&self, id: &str) -> WebElement {
        self.session.find(By::Id(id)).await.expect("the element should be in the page")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Kill the whole process group: a browser outlives its killed driver, and keeps writing to the folder.
        let group = self.driver.id().expect("the driver had exited").to_string();
        let _ = std::process::Command::new("sh").args(["-c", "kill -KILL -$0", &group]).status();
        // Dropping the session would ask the driver to end it, and wait for an answer.
        let _ = self.session.clone().leak();
    }
}

/// The capabilities of a browser whose `navigator.languages` is this language, and whose log captures the console.
fn capabilities(language: &str, profile: &Path, preferences: Value) -> WebDriverResult<ChromeCapabilities> {
    let mut wanted = ChromeCapabilities::new();
    for argument in ARGUMENTS {
        wanted.add_arg(argument)?;
    }
    wanted.add_arg(&format!("--lang={language}"))?;
    wanted.add_arg(&format!("--accept-lang={language}"))?;
    wanted.add_arg(&format!("--user-data-dir={}", profile.display()))?;
    wanted.add_experimental_option("prefs", preferences)?;
    wanted.set_browser_log_level(LoggingPrefsLogLevel::All)?;
    Ok(wanted)
}

/// Starts chromedriver on a free port. chromedriver picks a free IPv4 port and exits if that port is in use on IPv6;
/// another attempt picks a different port. The driver leads a process group, which includes the browser. `folder` holds
/// the temporary files.
async fn start_driver(folder: &Path) -> (Child, u16) {
    let mut output = String::new();
    for _ in 0..5 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver should start: scripts/test installs it");
        match port_of(&mut driver).await {
            Ok(port) => return (driver, port),
            Err(text) => output = text,
        }
    }
    panic!("chromedriver exited: {output}");
}

/// Reads the port from chromedriver's output, and keeps reading, so that a full pipe never blocks chromedriver. The
/// error is the output of a chromedriver that has exited.
async fn port_of(driver: &mut Child) -> Result<u16, String> {
    let mut lines = BufReader::new(driver.stdout.take().expect("a piped output")).lines();
    let mut output = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, port)) = line.split_once(STARTED) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(port.trim_end_matches('.').parse().expect("a port"));
        }
        output.push_str(&line);
        output.push('\n');
    }
    Err(output)
}
