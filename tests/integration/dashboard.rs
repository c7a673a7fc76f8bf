//! The Grafana dashboard: each metric and each label matcher in its queries exists on `/metrics` of a real replica, and
//! Grafana's configuration defines the data source that the dashboard uses.

use serde_json::Value;

use crate::support::get;
use crate::support::replica::TestReplica;

const DASHBOARD: &str = include_str!("../../docker/grafana/dashboards/smilingchat.json");
const DATA_SOURCE: &str = include_str!("../../docker/grafana/provisioning/datasources/prometheus.yaml");

/// The prefixes of a replica's metrics.
const PREFIXES: [&str; 2] = ["smilingchat_", "process_"];

/// All values under `key`, at any depth.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key));
            fields.values().for_each(|field| collect(field, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}

fn texts(dashboard: &Value, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(dashboard, key, &mut found);
    found.into_iter().map(|text| text.as_str().expect("a string").to_owned()).collect()
}

/// The identifiers in a query, outside of quotes.
fn names(query: &str) -> Vec<&str> {
    let outside_quotes = query.split('"').step_by(2);
    outside_quotes
        .flat_map(|part| part.split(|character: char| !character.is_ascii_alphanumeric() && character != '_'))
        .filter(|name| !name.is_empty())
        .collect()
}

/// The label matchers in a query, such as `code="overloaded"`.
fn labels(query: &str) -> Vec<&str> {
    let inside_braces = query.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(labels, _)| labels);
    inside_braces.flat_map(|labels| labels.split(',')).map(str::trim).collect()
}

fn samples(metrics: &str) -> Vec<&str> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[tokio::test]
async fn every_metric_of_the_dashboard_exists() {
    let replica = TestReplica::start(&[]).await;
    let metrics = get(replica.ops_address, "/metrics").await.text().await.expect("text");
    let samples = samples(&metrics);
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let queries = texts(&dashboard, "expr");
    assert!(queries.len() > 20, "only {} queries were found", queries.len());
    for query in &queries {
        let asked: Vec<&str> =
            names(query).into_iter().filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix))).collect();
        assert!(!asked.is_empty(), "the query asks for no metric: {query}");
        for name in asked {
            // Process metrics exist only on Linux.
            if name.starts_with("process_") && !cfg!(target_os = "linux") {
                continue;
            }
            assert!(samples.contains(&name), "the replica did not export {name}, used in: {query}");
        }
        for label in labels(query) {
            assert!(metrics.contains(label), "the replica did not export {label}, used in: {query}");
        }
    }
}

#[test]
fn the_dashboard_uses_the_configured_data_source() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut sources = Vec::new();
    collect(&dashboard, "datasource", &mut sources);
    assert!(sources.len() > 20, "only {} data sources were found", sources.len());
    for source in sources {
        let uid = source["uid"].as_str().expect("a uid");
        assert!(DATA_SOURCE.contains(&format!("\n    uid: {uid}\n")), "{uid} is not the configured data source");
    }
}

#[test]
fn names_and_labels_are_found_in_queries() {
    let query = "sum by (le) (rate(smilingchat_errors_total{code=\"overloaded\", instance=\"one\"}[5m])) * 60";
    let of_replicas: Vec<&str> = names(query).into_iter().filter(|name| name.starts_with("smilingchat")).collect();
    assert_eq!(of_replicas, ["smilingchat_errors_total"]);
    assert_eq!(labels(query), ["code=\"overloaded\"", "instance=\"one\""]);
}
