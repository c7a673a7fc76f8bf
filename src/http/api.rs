//! The read-only JSON API: `/ping`, `/api/users` and `/api/replicas`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::AppState;
use crate::config::Link;
use crate::model::{Epoch, Offset};
use crate::store::ReplicaRecord;

#[derive(Serialize)]
struct ReplicaList<'a> {
    replicas: Vec<ReplicaRecord>,
    #[serde(rename = "self")]
    this: &'a str,
    epoch: &'a Epoch,
    head: Offset,
    platform: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    links: &'a [Link],
}

pub(super) async fn ping(State(app): State<Arc<AppState>>) -> Response {
    Json(BTreeMap::from([("replica", app.context.replica.id.as_str()), ("version", env!("CARGO_PKG_VERSION"))]))
        .into_response()
}

pub(super) async fn users(State(app): State<Arc<AppState>>) -> Response {
    Json(app.context.store.users()).into_response()
}

pub(super) async fn replicas(State(app): State<Arc<AppState>>) -> Response {
    Json(ReplicaList {
        replicas: app.context.replica.list(),
        this: &app.context.replica.id,
        epoch: &app.context.tail.epoch,
        head: app.context.tail.head(),
        platform: <&str>::from(app.options.platform),
        links: &app.options.links,
    })
    .into_response()
}
