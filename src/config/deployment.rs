//! The environment of a replica, as the operator describes it: the platform, the node, and the links on the page.
//!
//! The server only passes these values on to clients.

use clap::ValueEnum;
use serde::Serialize;
use url::Url;

use super::InvalidValue;

/// In characters, not in bytes.
const LONGEST_LINK_NAME: usize = 64;

/// The platform that runs a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Platform {
    // An empty variable counts as unset.
    /// A process started by hand.
    #[value(alias = "")]
    Process,
    /// Docker Compose.
    Compose,
    /// Docker Swarm.
    Swarm,
    /// Kubernetes.
    Kubernetes,
}

/// A link on the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The text of the link.
    pub name: String,
    /// The address that the link opens.
    pub url: String,
}

pub(super) fn link(text: &str) -> Result<Link, InvalidValue> {
    let form = "give NAME=URL, as in Grafana=http://localhost:3000; a comma in a URL is written %2C";
    let (name, url) = text.split_once('=').ok_or_else(|| format!("{text} is not a link: {form}"))?;
    let (name, url) = (name.trim(), url.trim());
    let length = name.chars().count();
    if length == 0 || length > LONGEST_LINK_NAME || name.chars().any(char::is_control) {
        return Err(format!("the name of a link needs 1 to {LONGEST_LINK_NAME} printable characters: {form}").into());
    }
    let url = Url::parse(url).map_err(|error| format!("the URL of {name} is invalid ({error}): {form}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the URL of {name} must begin with http:// or https://: {form}").into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("the URL of {name} contains user info, which the page would show everyone: {form}").into());
    }
    Ok(Link { name: name.to_owned(), url: url.into() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{CommandLine, ServeOptions, list, name};
    use super::*;

    fn options(arguments: &[&str]) -> ServeOptions {
        CommandLine::try_parse_from(std::iter::once("smilingchat").chain(arguments.iter().copied())).unwrap().serve
    }

    #[test]
    fn empty_values_count_as_unset() {
        for arguments in [&[][..], &["--platform=", "--node=", "--links="], &["--links= , "]] {
            let ServeOptions { platform, node, links, .. } = options(arguments);
            assert_eq!((platform, node, links), (Platform::Process, String::new(), Vec::new()), "{arguments:?}");
        }
    }

    #[test]
    fn a_platform_has_the_same_name_in_its_option_and_in_json() {
        for platform in Platform::value_variants() {
            assert_eq!(Platform::from_str(<&str>::from(platform), false), Ok(*platform));
        }
        for wrong in ["Compose", "nomad", " "] {
            assert!(Platform::from_str(wrong, false).is_err(), "accepted {wrong}");
        }
    }

    #[test]
    fn node_names_of_kubernetes_and_docker_are_valid() {
        let (node, longest) = (name(0..=253), "n".repeat(253));
        for name in ["worker1", "ip-192-168-12-34.eu-west-3.compute.internal", &longest] {
            assert_eq!(node(name), Ok(name.to_owned()));
        }
        for wrong in ["a b", "nöde", "<b>", &format!("{longest}n")] {
            assert!(node(wrong).unwrap_err().to_string().contains("253"), "the error did not name the limit: {wrong}");
        }
    }

    #[test]
    fn links_use_http_and_contain_no_user() {
        let text = "Swarm visualizer=http://localhost:8090, Grafäna=https://grafana.example/d/1?from=now-5m&to=now";
        let links = list(link)(text).unwrap();
        let seen: Vec<_> = links.iter().map(|link| (link.name.as_str(), link.url.as_str())).collect();
        let expected = [
            ("Swarm visualizer", "http://localhost:8090/"),
            ("Grafäna", "https://grafana.example/d/1?from=now-5m&to=now"),
        ];
        assert_eq!(seen, expected);
        for (wrong, word) in [
            ("http://localhost:8090", "NAME=URL"),
            ("=http://localhost:8090", "characters"),
            ("A=", "URL of A"),
            ("A=localhost", "URL of A"),
            ("A=//localhost", "URL of A"),
            ("A=javascript:alert(1)", "http://"),
            ("A=ftp://localhost", "http://"),
            ("A=http://anna:secret@localhost", "user"),
            ("A=http://localhost/a,b", "%2C"),
        ] {
            let error = list(link)(wrong).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("secret"), "wrong message for {wrong}: {error}");
        }
        assert!(link(&format!("{}=http://localhost", "n".repeat(65))).is_err());
    }
}
