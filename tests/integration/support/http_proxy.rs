//! An HTTP proxy in front of one or more backends.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a proxy, which passes one request per connection, or a WebSocket, to the backend that `route` returns for the
/// path and query. If `rewrites` is true, the proxy sets `Host` to the backend's address, as some proxies do by
/// default.
pub(crate) async fn http_proxy(
    rewrites: bool,
    route: impl Fn(&str) -> SocketAddr + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let route = Arc::new(route);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, rewrites.then_some(address), Arc::clone(&route)));
        }
    });
    address
}

async fn pass(mut client: TcpStream, rewritten: Option<SocketAddr>, route: Arc<impl Fn(&str) -> SocketAddr>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let backend = route(head.split(' ').nth(1).expect("a path"));
    let head = match rewritten {
        Some(own) => head.replace(&format!("Host: {own}"), &format!("Host: {backend}")),
        None => head,
    };
    let head = head.replace("Connection: keep-alive", "Connection: close");
    // A backend may be away: then the client's connection closes.
    let Ok(mut server) = TcpStream::connect(backend).await else { return };
    server.write_all(head.as_bytes()).await.expect("the backend should take the request");
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
