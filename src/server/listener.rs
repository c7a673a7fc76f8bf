//! Accepting connections and speaking HTTP/1.1 on them.
//!
//! hyper is used directly, since `axum::serve` bounds neither the number of connections nor the time a client may take
//! for its request's head.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// How long a client may take for the head of a request, and may stay idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest head of a request, and what is read ahead of it.
const HEAD_BYTES: usize = 16 * 1024;

/// How long a connection may speak HTTP. Then it is asked to end after the request in progress: a client that sends a
/// body for ever, or never reads an answer, must not keep its place.
const LIFETIME: Duration = Duration::from_mins(1);

/// How long that request may still take.
const LAST_REQUEST: Duration = Duration::from_secs(5);

/// What the system keeps of frames that a client has not taken. Its own choice grows to megabytes, and then a client that
/// reads slowly looks like one that does not read: nothing more fits for longer than a write may take.
const SEND_BUFFER_BYTES: u32 = 64 * 1024;

/// How long a start may take before clients are told of it.
const QUICK_START: Duration = Duration::from_secs(1);

/// Connections that wait to be accepted. A client that finds the queue full is seconds late, since its system sends the SYN
/// again after one second and then after two more: all sessions of a lost replica come at once. Linux takes at most
/// `net.core.somaxconn` (listen(2)), 4,096 by default.
const BACKLOG: u32 = 16 * 1024;

/// How long to wait after the system would not give out another connection.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Listens, with a bound on what the system keeps for each client that does not read. `[::]` is every address, of IPv4 too,
/// and of that alone where IPv6 is switched off.
///
/// # Errors
/// The system's, when the address is taken or not ours.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        match TcpSocket::new_v6() {
            Ok(socket) => socket,
            Err(_) if address.ip().is_unspecified() => return bind((Ipv4Addr::UNSPECIFIED, address.port()).into()),
            Err(error) => return Err(error),
        }
    };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Some systems say no by default.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    // As every server does, so that a restart need not wait for old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves up to `most` connections at a time until `stop`; then requests in progress are finished, tracked by `connections`.
/// Each request is answered by what `router` holds when it comes. Clients of the first moments wait for what it is about to
/// hold, in the system's queue.
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
        // A place first: past the bound, clients wait in the system's queue instead of ours.
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Once, until one is accepted again: what keeps this one out may last.
                if !failing {
                    tracing::warn!(%error, "a connection could not be accepted");
                }
                failing = true;
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: watch::Receiver<Router>, stop: CancellationToken) {
    // Frames are small and wait for nobody: Nagle's algorithm would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client left before it was served");
        return;
    }
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.borrow().clone();
        async move { Ok::<Response, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // At an upgrade this ends too: a session lives on without it.
        ended = connection.as_mut() => ended,
        () = asked_to_end(&stop) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REQUEST, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn asked_to_end(stop: &CancellationToken) {
    let _ = tokio::time::timeout(LIFETIME, stop.cancelled()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_is_every_address_of_this_machine() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let by_ipv6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.is_ok();
        assert_eq!(by_ipv6, std::net::TcpListener::bind("[::1]:0").is_ok());
    }
}
