//! The facts about the machine and its software, for the report.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Instant;

use crate::client::percentile;
use crate::load::SESSIONS;
use crate::mysql::MySql;
use crate::pinning;
use crate::process::folder;

const WRITES: u64 = 200;

/// The date and the facts about the machine, by their names in the template.
pub(super) async fn facts() -> Vec<(String, String)> {
    let mysql = MySql::new().await;
    let version = mysql.version().await;
    mysql.remove().await;
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let facts = [
        ("date", jiff::Timestamp::now().to_string().chars().take(10).collect()),
        ("commit", first_line("git", &["describe", "--always", "--exclude=*", "--dirty"])),
        ("processors", format!("{processors} cores ({})", line_of("/proc/cpuinfo", "model name"))),
        ("memory", memory()),
        ("system", format!("{}, Linux {}", system(), first_line("uname", &["-r"]))),
        ("disk", disk()),
        ("rust", first_line("rustc", &["--version"])),
        ("mysql", version),
        ("node", first_line("node", &["--version"])),
        ("python", first_line("python3", &["--version"])),
        ("sessions_usual", SESSIONS.to_string()),
        ("pinning", pinning::explained().to_owned()),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// The first line of a program's output, or `no` and the program's name if it cannot run or prints nothing.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| format!("no {program}"), str::to_owned)
}

/// The value that follows this name and a separator in a system file; empty if there is none.
fn line_of(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_matches(|c: char| c.is_whitespace() || ":=\"".contains(c)).to_owned()
}

fn system() -> String {
    line_of("/etc/os-release", "PRETTY_NAME")
}

fn memory() -> String {
    let kibibytes = line_of("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<f64>().unwrap_or_default();
    format!("{:.0} GiB", kibibytes / 1_048_576.0)
}

/// The median time of a synchronous write of 4 KiB.
fn disk() -> String {
    let folder = folder();
    let mut file = File::create(folder.path().join("disk")).expect("the file should be created");
    file.write_all(&vec![0; 4096 * WRITES as usize]).and_then(|()| file.sync_all()).expect("the write should work");
    let mut times: Vec<_> = (0..WRITES)
        .map(|block| {
            let began = Instant::now();
            file.write_all_at(&[1; 4096], block * 4096).and_then(|()| file.sync_data()).expect("the write should work");
            began.elapsed()
        })
        .collect();
    format!("{:.2} ms", percentile(&mut times, 50.0))
}
