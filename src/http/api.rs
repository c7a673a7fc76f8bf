//! The read-only API: `/ping`, `/api/users` and `/api/replicas`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{AppState, json};
use crate::model::{Epoch, Offset};
use crate::store::ReplicaRecord;

#[derive(Serialize)]
struct Ping<'a> {
    replica: &'a str,
    version: &'static str,
}

#[derive(Serialize)]
struct ReplicaList<'a> {
    replicas: Vec<ReplicaRecord>,
    #[serde(rename = "self")]
    this: &'a str,
    epoch: &'a Epoch,
    head: Offset,
    platform: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<NamedUrl<'a>>,
}

#[derive(Serialize)]
struct NamedUrl<'a> {
    name: &'a str,
    url: &'a str,
}

/// `GET /ping`
pub(super) async fn ping(State(app): State<Arc<AppState>>) -> Response {
    json(&Ping { replica: app.replica.id(), version: env!("CARGO_PKG_VERSION") }).into_response()
}

/// `GET /api/users`
pub(super) async fn users(State(app): State<Arc<AppState>>) -> Response {
    json(&app.context.store.users()).into_response()
}

/// `GET /api/replicas`
pub(super) async fn replicas(State(app): State<Arc<AppState>>) -> Response {
    let list = ReplicaList {
        replicas: app.replica.list(),
        this: app.replica.id(),
        epoch: &app.context.tail.epoch,
        head: app.context.tail.head(),
        platform: <&str>::from(app.platform),
        links: app.links.iter().map(|link| NamedUrl { name: &link.name, url: link.url.as_str() }).collect(),
    };
    json(&list).into_response()
}
