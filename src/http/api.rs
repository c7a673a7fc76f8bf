//! What the page and other clients may ask: who I am, who there is, which replicas run.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{App, Refused, json};
use crate::model::{Epoch, Offset};
use crate::store::ReplicaRecord;

#[derive(Serialize)]
struct Ping {
    replica: String,
    version: &'static str,
}

#[derive(Serialize)]
struct ReplicaList<'a> {
    replicas: Vec<ReplicaRecord>,
    #[serde(rename = "self")]
    this: String,
    epoch: Epoch,
    head: Offset,
    platform: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<NamedUrl<'a>>,
}

/// A link, as the page wants it.
#[derive(Serialize)]
struct NamedUrl<'a> {
    name: &'a str,
    url: &'a str,
}

/// `GET /ping`
pub(super) async fn ping(State(app): State<Arc<App>>) -> Response {
    json(&Ping { replica: app.replica.id(), version: env!("CARGO_PKG_VERSION") }).into_response()
}

/// `GET /api/users`
pub(super) async fn users(State(app): State<Arc<App>>) -> Response {
    json(&app.context.store.users()).into_response()
}

/// `GET /api/replicas`
pub(super) async fn replicas(State(app): State<Arc<App>>) -> Response {
    match tokio::try_join!(app.replica.list(), app.context.store.log_state()) {
        Ok((replicas, log)) => {
            let list = ReplicaList {
                replicas,
                this: app.replica.id(),
                epoch: log.epoch,
                head: log.head,
                platform: app.platform.as_str(),
                links: app.links.iter().map(|link| NamedUrl { name: &link.name, url: link.url.as_str() }).collect(),
            };
            json(&list).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "the replicas cannot be listed");
            Refused::store_unavailable().into_response()
        }
    }
}
