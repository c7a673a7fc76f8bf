//! The bare echo: an axum WebSocket server that returns each frame immediately, and does nothing else. The echo does
//! not batch its answers, so a server that sends many answers with one write may need fewer system calls than the echo.

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;

pub(crate) const ROLE: &str = "--be-the-echo";

pub(crate) async fn serve() {
    let upgraded = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port should exist");
    println!("http://{}", listener.local_addr().expect("the listener should have an address"));
    axum::serve(listener, Router::new().route("/ws", get(upgraded))).await.expect("the echo should serve");
}
