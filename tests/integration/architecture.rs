//! Architecture rules, checked against the source text: the modules that each module may use, the modules that may use
//! each dependency, the imports of test files, and the headers and lengths of the files in `src`.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the server. Each may use only itself and the modules before it.
const ORDER: [&str; 15] = [
    "model",
    "protocol",
    "config",
    "telemetry",
    "limits",
    "store",
    "hub",
    "tail",
    "index",
    "log",
    "retention",
    "replica",
    "session",
    "http",
    "server",
];

/// The modules of the client side. Of the server's modules, they may use only [`CONTRACT`].
const CLIENTS: [&str; 4] = ["client", "simulate", "check", "operate"];

const CONTRACT: [&str; 3] = ["model", "protocol", "config"];

/// The modules or files that may use each dependency.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["http", "server"]),
    ("bytes", &["protocol", "hub", "session"]),
    ("clap", &["config", "main"]),
    ("dashmap", &["hub"]),
    ("directories", &["config"]),
    ("emojis", &["model/faces.rs"]),
    ("fastbloom", &["index/filters.rs"]),
    ("gethostname", &["config"]),
    ("governor", &["http/rate_limit.rs"]),
    ("hdrhistogram", &["simulate/latency.rs"]),
    ("headers", &["http/page.rs"]),
    ("http_body_util", &["client/http.rs"]),
    ("hyper", &["http/upgrade.rs", "server/listener.rs", "client/http.rs", "client/api.rs", "check"]),
    ("hyper_util", &["http/upgrade.rs", "server/listener.rs", "client/http.rs"]),
    ("ipnet", &["config", "http/rate_limit.rs"]),
    ("jiff", &["model", "operate"]),
    ("mysql_async", &["store/mysql/binlog.rs"]),
    ("percent_encoding", &["config/store_url.rs"]),
    ("postcard", &["store/batch.rs"]),
    ("prometheus", &["telemetry"]),
    ("qrcode", &["http/join.rs"]),
    ("rlimit", &["server/file_limit.rs"]),
    ("rust_embed", &["http/page.rs"]),
    ("serde_json", &["protocol"]),
    ("siphasher", &["store/id_hash.rs"]),
    ("smol_str", &["model", "protocol/client_frame.rs", "client/outbox.rs"]),
    ("socket2", &["server/listener.rs"]),
    ("sqlx", &["store"]),
    ("subtle", &["http/crash.rs"]),
    ("tokio_tungstenite", &["session/socket.rs", "http/upgrade.rs", "client"]),
    ("tower", &["server/listener.rs"]),
    ("tower_governor", &["http/rate_limit.rs"]),
    ("tower_http", &["http"]),
    ("tracing_subscriber", &["telemetry"]),
    ("unicode_segmentation", &["model/faces.rs"]),
    ("url", &["config", "http", "client", "simulate", "check"]),
];

/// The dependencies that every module may use.
const GENERAL: [&str; 11] = [
    "derive_more",
    "foldhash",
    "futures_util",
    "parking_lot",
    "rand",
    "serde",
    "strum",
    "thiserror",
    "tokio",
    "tokio_util",
    "tracing",
];

/// The maximum number of lines of a file in `src`.
const LONGEST: usize = 450;

struct Source {
    /// Relative to the folder that was read.
    path: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The trimmed lines of code, without comment lines and without the tests at the end.
    fn code(&self) -> impl Iterator<Item = &str> {
        let whole = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        whole.lines().map(str::trim).filter(|line| !line.starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    sources_in("src")
}

fn sources_in(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).expect("a path below the root").display().to_string();
                sources.push(Source { path: below, text: fs::read_to_string(&path).expect("a text file") });
            }
        }
    }
    assert!(sources.len() > 30, "only {} source files were found", sources.len());
    sources
}

/// The top-level modules that a file imports or names in a path.
fn used(source: &Source) -> Vec<String> {
    let mut used = Vec::new();
    for line in source.code() {
        for (at, _) in line.match_indices("crate::") {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|character| character.is_alphanumeric() || character == '_') {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
            assert!(!rest.starts_with('{'), "{}: split this `use`, which names several modules: {line}", source.path);
            used.push(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
    used
}

fn may_use(module: &str, other: &str) -> bool {
    let place = |name: &str| ORDER.iter().position(|module| *module == name);
    if module == other || matches!(module, "main" | "lib") {
        true
    } else if CLIENTS.contains(&module) {
        CONTRACT.contains(&other) || CLIENTS.contains(&other)
    } else {
        matches!((place(module), place(other)), (Some(module), Some(other)) if other < module)
    }
}

#[test]
fn modules_use_only_the_modules_that_they_may_use() {
    let mut edges = 0;
    for source in sources() {
        let known = ["main", "lib"].contains(&source.module())
            || ORDER.contains(&source.module())
            || CLIENTS.contains(&source.module());
        assert!(known, "{} is neither in ORDER nor in CLIENTS", source.path);
        for other in used(&source) {
            assert!(may_use(source.module(), &other), "{} uses {other}, which it may not use", source.path);
            edges += 1;
        }
    }
    assert!(edges > 50, "only {edges} imports were found");
}

#[test]
fn test_files_import_only_support() {
    let mut edges = 0;
    for source in sources_in("tests/integration") {
        // The search pattern in this file's own code yields an empty name.
        for other in used(&source).iter().filter(|other| !other.is_empty()) {
            assert_eq!(other, "support", "{} imports from outside `crate::support`", source.path);
            edges += 1;
        }
        let by_parent = source.module() != "support" && source.code().any(|line| line.starts_with("use super::"));
        assert!(!by_parent, "{} imports from `super`; import from `crate::support`", source.path);
    }
    assert!(edges > 50, "only {edges} imports were found");
}

#[test]
fn a_module_may_use_only_itself_and_earlier_modules() {
    assert!(may_use("session", "store") && may_use("store", "store") && may_use("simulate", "protocol"));
    assert!(!may_use("store", "session") && !may_use("model", "protocol"));
    assert!(!may_use("simulate", "server") && !may_use("server", "simulate"));
}

#[test]
fn dependencies_are_used_only_in_their_modules() {
    let sources = sources();
    for &(dependency, homes) in HOMES {
        let at_home = |source: &Source| homes.contains(&source.module()) || homes.contains(&source.path.as_str());
        let path = format!("{dependency}::");
        let uses = |source: &&Source| source.code().any(|line| names(line, &path));
        let at: Vec<&Source> = sources.iter().filter(uses).collect();
        assert!(!at.is_empty(), "no file uses {dependency}");
        for source in at {
            assert!(at_home(source), "{} uses {dependency}, which only {homes:?} may use", source.path);
        }
    }
}

/// The names below `[dependencies]` in `Cargo.toml`, with underscores as in paths.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a manifest");
    let table = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let entries = table.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
    entries.map(|(name, _)| name.replace('-', "_")).collect()
}

#[test]
fn every_dependency_is_in_homes_or_general() {
    let mut listed: Vec<&str> = HOMES.iter().map(|(dependency, _)| *dependency).chain(GENERAL).collect();
    listed.sort_unstable();
    let mut dependencies = dependencies();
    dependencies.sort_unstable();
    assert_eq!(listed, dependencies, "left: HOMES and GENERAL, right: Cargo.toml");
}

/// Whether a line contains a path that starts with `path`.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_' || character == ':')
    })
}

#[test]
fn every_file_has_a_header_and_a_bounded_length() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} has no header comment", source.path);
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines, but the maximum is {LONGEST}", source.path);
    }
}
