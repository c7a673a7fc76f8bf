//! The README says what is so: every option with its variable and its default, every module, every file it links to.

use std::path::Path;

use clap::{Arg, CommandFactory};
use smilingchat::config::CommandLine;

const README: &str = include_str!("../../README.md");

/// Defaults that clap does not know, in the words of the README.
const DEFAULTS_IN_WORDS: [(&str, &str); 2] =
    [("store", "a file in the data directory of the user"), ("replica", "the host name")];

/// The first cells of an option's row.
fn row(option: &Arg) -> String {
    let name = option.get_long().expect("a long name");
    let value = option.get_value_names().expect("a value")[0].replace('|', "\\|");
    let variable = option.get_env().and_then(|variable| variable.to_str()).expect("a variable");
    let in_words = DEFAULTS_IN_WORDS.iter().find(|(option, _)| *option == name);
    let default = match (in_words, option.get_default_values()) {
        (Some((_, words)), _) => (*words).to_owned(),
        (None, [default]) if !default.is_empty() => format!("`{}`", default.to_str().expect("text")),
        (None, _) => "none".to_owned(),
    };
    format!("| `--{name} {value}` | `{variable}` | {default} | ")
}

#[test]
fn every_option_is_in_the_table() {
    let commands = CommandLine::command();
    let serve = commands.find_subcommand("serve").expect("serve");
    let rows: Vec<String> = serve.get_arguments().filter(|option| option.get_long() != Some("help")).map(row).collect();
    for row in &rows {
        assert!(README.contains(row), "missing: {row}");
    }
    assert_eq!(README.matches("\n| `--").count(), rows.len(), "rows of options that are no more");
}

#[test]
fn every_module_is_on_the_code_map() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join("src")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let name = path.strip_prefix(root).expect("below the root").display().to_string();
            assert!(README.contains(&format!("`{name}`")), "missing: {name}");
        }
    }
}

#[test]
fn every_linked_file_is_there() {
    let targets = README.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files: Vec<&str> = targets.filter(|target| !target.starts_with("http")).collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists(), "{file}");
    }
}
