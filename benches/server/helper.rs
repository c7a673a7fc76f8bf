//! This program again, as a process that works for a measurement: the load, or the database's own inserts.
//!
//! A helper reads its plan from a line of its input, says when it is prepared, works when it is told to, and prints its
//! outcome. It stays until it is dropped, so that its processor time can be read.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pinning::{self, Core};

/// What a helper prints when it is prepared.
const PREPARED: &str = "prepared";

/// A helper process that is killed when dropped.
pub(crate) struct Helper {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts this program with the argument that names the role, and waits until it is prepared.
    pub(crate) fn start(role: &str, core: Core, plan: &impl Serialize) -> Self {
        let mut command = pinning::command(std::env::current_exe().expect("this program"), core);
        command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("a helper starts");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut helper = Self { process, input, output };
        helper.tell(&serde_json::to_string(plan).expect("a plan is JSON"));
        assert_eq!(helper.next_line(), PREPARED, "a helper fails");
        helper
    }

    /// Has it work, and returns what it found.
    pub(crate) fn work<Outcome: DeserializeOwned>(&mut self) -> Outcome {
        self.tell("");
        serde_json::from_str(&self.next_line()).expect("an outcome is JSON")
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("a helper listens");
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a helper answers");
        line.trim_end().to_owned()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The helper's side: its plan.
pub(crate) fn plan<Plan: DeserializeOwned>() -> Plan {
    serde_json::from_str(&told()).expect("a plan is JSON")
}

/// The helper's side: it is prepared; returns when it shall work.
pub(crate) fn prepared() {
    println!("{PREPARED}");
    told();
}

/// The helper's side: what it found; returns when nobody needs it any more.
pub(crate) fn done(outcome: &impl Serialize) {
    println!("{}", serde_json::to_string(outcome).expect("an outcome is JSON"));
    told();
}

fn told() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the benchmark speaks");
    line
}
