//! The documents: links within the repository resolve, items are in the files that the documents name, versions agree,
//! and the lists of options, metrics and modules are complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use smilingchat::config::CommandLine;

use crate::support::replica::TestReplica;
use crate::support::{get, options_of};

const README: &str = include_str!("../../README.md");
const OPERATING: &str = include_str!("../../docs/OPERATING.md");
const MAP: &str = include_str!("../../src/lib.rs");

/// The folders that contain documents. Their subfolders are not searched.
const FOLDERS: [&str; 5] = ["", "docs", "docker", "k8s", "swarm"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.is_file() && path.extension().is_some_and(|found| found == extension)).collect()
}

fn documents() -> Vec<PathBuf> {
    let documents: Vec<_> = FOLDERS.iter().flat_map(|folder| files(&root().join(folder), "md")).collect();
    assert!(documents.len() > 8, "too few documents were found: {documents:?}");
    documents
}

fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors that GitHub generates from the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
        kept.map(|character| if character == ' ' { '-' } else { character }).collect()
    };
    headings.map(anchor).collect()
}

/// The link targets within the repository.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text).collect::<Vec<_>>().join("\n");
    let targets =
        prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned());
    targets.filter(|target| !target.starts_with("http")).collect()
}

#[test]
fn every_link_resolves() {
    let mut found = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a text file");
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { document.clone() } else { document.with_file_name(file) };
            assert!(target.exists(), "{}: no such file: {link}", document.display());
            if let Some(anchor) = anchor {
                let target = fs::read_to_string(&target).expect("a text file");
                assert!(anchors(&target).contains(anchor), "{}: no such heading: {link}", document.display());
            }
            found += 1;
        }
    }
    assert!(found > 100, "only {found} links were found");
}

/// The items for which a document names the file, each with the link to the file. Both forms count: "`Appender::settle`
/// in [`appender.rs`](../src/log/appender.rs)" and "[`Appender::settle`](../src/log/appender.rs)".
fn placed_items(text: &str) -> Vec<(String, String)> {
    let prose = prose(text).collect::<Vec<_>>().join(" ");
    let parts: Vec<_> = prose.split('`').collect();
    let mut placed = Vec::new();
    let mut items = Vec::new();
    for pair in parts[1..].chunks_exact(2) {
        let (code, after) = (pair[0], pair[1].trim());
        let link = after.strip_prefix("](").and_then(|after| after.split_once(')')).map(|(link, _)| link.to_owned());
        let is_item = code.chars().all(|letter| letter.is_alphanumeric() || "_:!".contains(letter));
        if is_item {
            items.push(code.trim_end_matches('!').to_owned());
        }
        match link {
            Some(link) => placed.extend(items.drain(..).map(|item| (item, link.clone()))),
            None if is_item && (after == "and" || after == "in [") => {}
            None => items.clear(),
        }
    }
    placed
}

#[test]
fn every_item_is_in_the_file_that_a_document_names() {
    let mut found = 0;
    for document in documents() {
        for (item, link) in placed_items(&fs::read_to_string(&document).expect("a text file")) {
            let file = document.with_file_name(link.split('#').next().expect("a path"));
            let Ok(code) = fs::read_to_string(&file) else { continue };
            let name = item.rsplit("::").next().expect("a name");
            let defined =
                ["fn", "struct", "enum", "const", "macro_rules!", "function", "class", "PROCEDURE IF NOT EXISTS"]
                    .iter()
                    .any(|keyword| code.contains(&format!("{keyword} {name}")));
            assert!(defined, "{} says that {item} is in {}, but it is not", document.display(), file.display());
            found += 1;
        }
    }
    assert!(found > 10, "only {found} items were found");
}

#[test]
fn the_readme_links_to_every_document() {
    let linked: BTreeSet<PathBuf> = links(README).iter().map(|link| root().join(link)).collect();
    for document in documents() {
        assert!(
            document.ends_with("README.md") && document.parent() == Some(root()) || linked.contains(&document),
            "README.md does not link to {}",
            document.display()
        );
    }
}

/// The options in the tables below a heading of docs/OPERATING.md, up to the next heading.
fn named_below(heading: &str) -> BTreeSet<String> {
    let (_, section) = OPERATING.split_once(&format!("\n{heading}\n")).expect("a section with this heading");
    let rows = section.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| "));
    let named = rows.flat_map(|row| row.split("`--").skip(1)).filter_map(|rest| rest.split_once('`'));
    named.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn operating_documents_exactly_the_options_of_serve() {
    let commands = CommandLine::command();
    assert_eq!(named_below("## Options"), options_of(commands.find_subcommand("serve").expect("the command `serve`")));
}

#[test]
fn operating_names_every_other_command_and_no_unknown_option() {
    let commands = CommandLine::command();
    let unnamed: Vec<_> = commands
        .get_subcommands()
        .map(clap::Command::get_name)
        .filter(|name| *name != "serve" && !OPERATING.contains(&format!("\n| `smilingchat {name}")))
        .collect();
    assert!(unnamed.is_empty(), "not in docs/OPERATING.md: {unnamed:?}");
    let known: BTreeSet<String> = commands.get_subcommands().flat_map(options_of).collect();
    let named = named_below("### Other commands");
    assert!(!named.is_empty() && named.is_subset(&known), "no option or an unknown option is named: {named:?}");
}

#[tokio::test]
async fn operating_documents_exactly_the_metrics() {
    let replica = TestReplica::start(&[]).await;
    let metrics = get(replica.ops_address, "/metrics").await.text().await.expect("text");
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exported: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let words = OPERATING.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let is_metric = |word: &&str| word.starts_with("smilingchat_") || word.starts_with("process_");
    // Swarm gives these names to two services.
    let services = ["smilingchat_backend", "smilingchat_database"];
    let named: BTreeSet<&str> = words.filter(is_metric).filter(|word| !services.contains(word)).collect();
    let unnamed: Vec<_> = exported.difference(&named).collect();
    assert!(unnamed.is_empty(), "not in docs/OPERATING.md: {unnamed:?}");
    // Process metrics exist only on Linux.
    let unknown: Vec<_> =
        named.difference(&exported).filter(|name| cfg!(target_os = "linux") || !name.starts_with("process_")).collect();
    assert!(unknown.is_empty(), "docs/OPERATING.md names unknown metrics: {unknown:?}");
}

fn versions_after<'text>(text: &'text str, label: &str) -> Vec<&'text str> {
    let versions = text.split(label).skip(1);
    let versions =
        versions.map(|rest| rest.split(|end: char| !end.is_ascii_digit() && end != '.').next().unwrap_or(""));
    versions.filter(|version| !version.is_empty()).collect()
}

#[test]
fn the_platforms_use_the_version_of_the_program() {
    let images = ["smilingchat-backend:", "smilingchat-frontend:", "smilingchat-$part:"];
    for (file, label) in [
        ("docker/bake.hcl", "default = \""),
        ("docker/backend.Dockerfile", "ARG VERSION="),
        ("docker/frontend.Dockerfile", "ARG VERSION="),
        ("docker/compose.yaml", images[0]),
        ("swarm/stack.yaml", images[0]),
        ("swarm/README.md", images[0]),
        ("k8s/README.md", images[0]),
        ("k8s/base/kustomization.yaml", "newTag: "),
        ("scripts/e2e", "readonly version="),
    ] {
        let text = fs::read_to_string(root().join(file)).expect("a file");
        let mut versions = versions_after(&text, label);
        assert!(!versions.is_empty(), "{file} has no version after {label:?}");
        versions.extend(images.iter().flat_map(|image| versions_after(&text, image)));
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            versions.iter().all(|found| *found == version),
            "{file} has {versions:?}, but Cargo.toml has {version}"
        );
    }
}

#[test]
fn every_module_is_on_the_map() {
    for path in files(&root().join("src"), "rs") {
        let name = path.file_stem().expect("a name").display().to_string();
        let row = [format!("| [`{name}`] |"), format!("| `{name}` |")];
        assert!(
            ["lib", "main"].contains(&&*name) || row.iter().any(|row| MAP.contains(row)),
            "{name} is missing from the map in src/lib.rs"
        );
    }
}

#[test]
fn anchors_follow_github_and_fenced_code_is_ignored() {
    let text = "# Bird's eye view\n```sh\n# no heading\n```\n## Three servers: `InnoDB`\n";
    let expected = ["birds-eye-view", "three-servers-innodb"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
    assert_eq!(links("[one](a.md#b) [two](https://example.org)\n```\n[three](c)\n```"), ["a.md#b"]);
}
