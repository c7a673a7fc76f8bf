//! The interactive sessions of docs/PROTOCOL.md and README.md, typed into real `wscat` processes that are connected to
//! the real program.
//!
//! In a document, the `console` blocks that name a user form a script. In such a block, a line that begins with `$`
//! opens a session, a line that begins with `>` is typed, and a line that begins with `<` is expected. The only other
//! line allowed is [`CONNECTED`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::process::TestProcess;
use crate::support::within;

const PROTOCOL: &str = include_str!("../../docs/PROTOCOL.md");
const README: &str = include_str!("../../README.md");

/// The path at which scripts/test installs `wscat`.
const WSCAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/wscat/node_modules/.bin/wscat");

/// A line that `wscat` prints to a terminal, but not to a pipe.
const CONNECTED: &str = "Connected (press CTRL+C to quit)";

/// The prompt, which `wscat` also prints to a pipe.
const PROMPT: &str = "> ";

/// The user of a terminal, and one line of its session.
type Step = (&'static str, &'static str);

fn steps(document: &'static str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut terminal = None;
    for line in document.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            terminal = fence.strip_prefix("console ");
        } else if let Some(user) = terminal {
            steps.push((user, line));
        }
    }
    steps
}

/// A `wscat` process with pipes instead of a terminal.
struct Terminal {
    wscat: Child,
    keyboard: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
    /// The first frame, which the document may omit.
    welcome: Option<Value>,
}

impl Terminal {
    async fn open(url: &str) -> Self {
        let mut wscat = Command::new(WSCAT)
            .args(["--connect", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("wscat did not start: scripts/test installs it");
        let keyboard = wscat.stdin.take().expect("a piped input");
        let screen = BufReader::new(wscat.stdout.take().expect("a piped output")).lines();
        let mut terminal = Self { wscat, keyboard, screen, welcome: None };
        terminal.welcome = terminal.frame().await;
        terminal
    }

    async fn type_line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).await.expect("wscat did not read its input");
    }

    /// The next frame; `None` once `wscat` has exited, and for a line without a frame.
    async fn frame(&mut self) -> Option<Value> {
        let line = within("a frame arrives", self.screen.next_line()).await.expect("text")?;
        let shown = line.trim_start_matches(PROMPT);
        (!shown.is_empty()).then(|| serde_json::from_str(shown).expect("JSON"))
    }

    /// Ends the input, as Ctrl+D does, and checks that no frame is left and that `wscat` exits without an error.
    async fn close(mut self) {
        drop(self.keyboard);
        let rest = within("the output ends", async {
            let mut rest = String::new();
            while let Some(line) = self.screen.next_line().await.expect("text") {
                rest.push_str(line.trim_start_matches(PROMPT));
            }
            rest
        })
        .await;
        assert_eq!(rest, "", "wscat printed more than the document shows");
        assert!(within("wscat exits", self.wscat.wait()).await.expect("a status").success());
    }
}

/// The URL in a document's command, with the address of this test's server.
fn url_of(command: &str, version: &str, address: SocketAddr) -> String {
    let program = format!("npx --yes wscat@{version} --connect \"ws://127.0.0.1:8080");
    let path = command.strip_prefix(&program).and_then(|rest| rest.strip_suffix('"'));
    format!("ws://{address}{}", path.unwrap_or_else(|| panic!("not of the form {program}PATH\": {command}")))
}

/// Replaces the values that differ from run to run: replicas, sessions, epochs, times and generated ids.
fn without_variable_values(mut frame: Value) -> Value {
    let Some(fields) = frame.as_object_mut() else { return frame };
    for (name, value) in fields.iter_mut() {
        let made_by_server = value.as_str().is_some_and(|text| text.starts_with("s-"));
        if matches!(name.as_str(), "session" | "replica" | "epoch" | "at") || (name == "id" && made_by_server) {
            *value = json!("varies");
        } else if let Some(smiles) = value.as_array_mut() {
            for smile in smiles {
                *smile = without_variable_values(smile.take());
            }
        }
    }
    frame
}

/// Runs the script of a document. Returns the types of the frames in its output.
async fn follow(document: &'static str) -> BTreeSet<String> {
    assert!(Path::new(WSCAT).exists(), "{WSCAT} is missing: scripts/test installs it");
    let version = Command::new(WSCAT).arg("--version").output().await.expect("wscat did not start").stdout;
    let version = String::from_utf8(version).expect("text");
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &[]).await;

    let mut terminals = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (user, line) in steps(document) {
        match line.split_at_checked(2) {
            Some(("$ ", command)) => {
                let terminal = Terminal::open(&url_of(command, version.trim(), server.address)).await;
                assert!(terminals.insert(user, terminal).is_none(), "{user} opened a second session");
            }
            Some(("> ", typed)) => terminals.get_mut(user).expect(line).type_line(typed).await,
            Some(("< ", expected)) => {
                let expected: Value = serde_json::from_str(expected).expect(line);
                let kind = expected["type"].as_str().expect(line).to_owned();
                let terminal = terminals.get_mut(user).expect(line);
                let shown = if kind == "welcome" { terminal.welcome.take() } else { terminal.frame().await };
                seen.insert(kind);
                assert_eq!(
                    shown.map(without_variable_values),
                    Some(without_variable_values(expected)),
                    "{user}: {line}"
                );
            }
            _ => assert_eq!(line, CONNECTED),
        }
    }
    for terminal in terminals.into_values() {
        terminal.close().await;
    }
    seen
}

#[tokio::test]
async fn the_session_in_the_protocol_document_runs_as_written() {
    let seen = follow(PROTOCOL).await;
    let all = ["ack", "error", "help", "history", "pong", "smile", "welcome"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all, "a type other than `drain` is missing");
}

#[tokio::test]
async fn the_session_in_the_readme_runs_as_written() {
    let seen = follow(README).await;
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), ["ack", "smile"]);
}
