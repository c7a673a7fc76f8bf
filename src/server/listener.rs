//! Accepts connections and serves HTTP/1.1 on them.
//!
//! Uses hyper directly, since `axum::serve` limits neither the number of connections nor the time for a request head.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Time limit for a request head, and for idle time between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum size of a request head, and of the read buffer.
const HEAD_BYTES: usize = 16 * 1024;

/// How long a connection may serve HTTP before it shuts down gracefully. Without this limit, a client that never
/// finishes a body or never reads a response would keep its permit.
const LIFETIME: Duration = Duration::from_mins(1);

/// Time limit for the last request during a graceful shutdown.
const LAST_REQUEST: Duration = Duration::from_secs(5);

/// Size of a socket's send buffer. Without a fixed size, the system would grow the buffer to megabytes, and a slow
/// reader would take longer than the write timeout to make room.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Maximum time that clients of a starting replica wait in the accept queue. After that, `http::starting` answers them.
const QUICK_START: Duration = Duration::from_secs(1);

/// Length of the accept queue. All clients of a lost replica may connect at once, and a client that finds the queue
/// full retries its SYN only after one second and then after two more. Linux caps the length at `net.core.somaxconn`
/// (listen(2)), 4,096 by default.
const BACKLOG: i32 = 16 * 1024;

const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// `[::]` means every IPv6 and IPv4 address or, if the system has no IPv6, every IPv4 address.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match Socket::new(Domain::for_address(address), Type::STREAM, None) {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => return bind((Ipv4Addr::UNSPECIFIED, address.port()).into()),
        socket => socket?,
    };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Systems differ in whether such a socket accepts IPv4 by default.
        socket.set_only_v6(false)?;
    }
    // A restart must not fail because of connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit this size.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves up to `most` concurrent HTTP connections; an upgraded connection no longer counts. `connections` tracks the
/// HTTP connections, so that the caller can wait for the last requests.
pub(super) async fn serve(
    listener: TcpListener,
    most: usize,
    mut router: watch::Receiver<Router>,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    let _ = tokio::time::timeout(QUICK_START, router.changed()).await;
    let permits = Arc::new(Semaphore::new(most));
    let mut failing = false;
    loop {
        // Takes the permit first, so that, at the limit, clients wait in the accept queue.
        let accepted = async { (Arc::clone(&permits).acquire_owned().await, listener.accept().await) };
        let Some((permit, accepted)) = stop.run_until_cancelled(accepted).await else { return };
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("accepting connections again");
                }
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                failing = true;
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: watch::Receiver<Router>, stop: CancellationToken) {
    // Nagle's algorithm would delay small frames. The call fails only if the client has left.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.borrow().clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // This also completes on an upgrade: the session takes over the connection.
        ended = connection.as_mut() => ended,
        _ = tokio::time::timeout(LIFETIME, stop.cancelled()) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REQUEST, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_on_the_unspecified_address_accepts_ipv4_and_ipv6() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let by_ipv6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.is_ok();
        assert_eq!(by_ipv6, std::net::TcpListener::bind("[::1]:0").is_ok());
    }
}
