//! A TCP proxy that simulates network failures between a replica and MySQL. The unit tests of the store use this file
//! too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Passes everything.
    Open,
    /// Delays each piece of data by this time.
    Slow(Duration),
    /// Passes requests and holds back the answers of MySQL until the state changes.
    NoAnswers,
    /// Passes nothing, and neither end notices. As with TCP, held-back bytes arrive once the network is open again,
    /// even if their sender has gone.
    Silent,
    /// New connections pass everything. Existing connections pass nothing, even if the state returns to `Open`, and
    /// neither end notices.
    HalfOpen,
    /// Cuts all connections and closes new ones immediately.
    Cut,
    /// Cuts all connections; new ones receive the error of a MySQL router without a server.
    NoServer,
}

/// The packet with which a MySQL router without a server answers a connection: error 2003.
const NO_SERVER: &[u8] = b"\x1c\0\0\0\xff\xd3\x07#HY000Can't connect to it";

#[derive(Debug)]
pub(crate) struct Proxy {
    network: watch::Sender<Network>,
    /// The destination of new connections.
    server: watch::Sender<(String, u16)>,
    accepted: Arc<AtomicUsize>,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    pub(crate) async fn to(server: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (network, state) = watch::channel(Network::Open);
        let (server, leads_to) = watch::channel(server);
        let accepted: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let server = leads_to.borrow().clone();
                tokio::spawn(connect(client, server, state.clone()));
            }
        });
        Self { network, server, accepted, address }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Redirects new connections to this host and port; existing connections stay as they are.
    pub(crate) fn leads_to(&self, server: (String, u16)) {
        self.server.send_replace(server);
    }

    /// Changes the state of the network, for existing connections too.
    pub(crate) fn becomes(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn connect(client: TcpStream, server: (String, u16), mut network: watch::Receiver<Network>) {
    // `changed` reports only changes after this read.
    let now = *network.borrow_and_update();
    if now == Network::NoServer {
        let _ = { client }.write_all(NO_SERVER).await;
        return;
    }
    if now == Network::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let questions = pass(from_client, to_server, network.clone(), false);
    let answers = pass(from_server, to_client, network, true);
    tokio::select! {
        () = questions => {}
        () = answers => {}
    }
}

/// Forwards, delays, holds back or discards bytes, depending on the state of the network. Returns once `from` has ended
/// and its bytes have passed, when `to` breaks, or when the network cuts the connection. `answers` says whether MySQL
/// sends the bytes.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut network: watch::Receiver<Network>, answers: bool) {
    let mut bytes = vec![0; 64 * 1024];
    let mut held_back = Vec::new();
    let (mut dead, mut ended) = (false, false);
    loop {
        tokio::select! {
            read = from.read(&mut bytes), if !ended => {
                let count = read.unwrap_or(0);
                ended = count == 0;
                held_back.extend_from_slice(&bytes[..count]);
            }
            changed = network.changed() => {
                if changed.is_err() || matches!(*network.borrow(), Network::Cut | Network::NoServer) {
                    return;
                }
                dead |= *network.borrow() == Network::HalfOpen;
            }
        }
        let now = *network.borrow();
        match now {
            Network::Open | Network::HalfOpen => {}
            Network::Slow(time) => tokio::time::sleep(time).await,
            Network::NoAnswers if !answers => {}
            Network::NoAnswers | Network::Silent | Network::Cut | Network::NoServer => continue,
        }
        let passes = std::mem::take(&mut held_back);
        let intact = dead || to.write_all(&passes).await.is_ok();
        if ended || !intact {
            return;
        }
    }
}
