//! Helper processes of a measurement. Each runs this program in another role: the load, or the plain inserts.
//!
//! A helper reads its plan from the first line of its input, reports that it is prepared, waits for another line, does
//! its work and prints its result. It stays alive until its [`Helper`] is dropped, so that its CPU time can be read.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pinning::{self, Core};

const PREPARED: &str = "prepared";

/// A helper process, killed on drop.
pub(crate) struct Helper {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Returns once the helper is prepared.
    pub(crate) fn start(role: &str, core: Core, plan: &impl Serialize) -> Self {
        let mut command = pinning::command(std::env::current_exe().expect("this program should have a path"), core);
        command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("a helper should start");
        let input = process.stdin.take().expect("the input should be piped");
        let output = BufReader::new(process.stdout.take().expect("the output should be piped"));
        let mut helper = Self { process, input, output };
        helper.tell(&serde_json::to_string(plan).expect("a plan should serialize to JSON"));
        assert_eq!(helper.next_line(), PREPARED, "the helper failed to prepare");
        helper
    }

    pub(crate) fn work<Outcome: DeserializeOwned>(&mut self) -> Outcome {
        self.tell("");
        serde_json::from_str(&self.next_line()).expect("the outcome should be JSON")
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the helper should read its input");
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the helper should answer");
        line.trim_end().to_owned()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the helper: reads the plan.
pub(crate) fn plan<Plan: DeserializeOwned>() -> Plan {
    serde_json::from_str(&next_line_of_input()).expect("the plan should be JSON")
}

/// In the helper: reports that the helper is prepared, and waits until the parent requests the work.
pub(crate) fn prepared() {
    println!("{PREPARED}");
    next_line_of_input();
}

/// In the helper: prints the result, and waits until the parent kills this process.
pub(crate) fn done(outcome: &impl Serialize) {
    println!("{}", serde_json::to_string(outcome).expect("an outcome should serialize to JSON"));
    next_line_of_input();
}

fn next_line_of_input() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the input should be readable");
    line
}
