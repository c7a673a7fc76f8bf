//! A network between a replica and its MySQL, which fails as networks do.
//!
//! Owns a port that leads to the server, and what passes through it. The store's own tests use it, too.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Everything.
    Open,
    /// Everything, so much later.
    Slow(Duration),
    /// What the replica says; what MySQL answers arrives when the network is another one.
    NoAnswers,
    /// Nothing, and neither end hears of it. TCP does not forget: what was said arrives when the network is another one, also
    /// when who said it has gone.
    Silent,
    /// New connections pass everything; those that there are pass nothing any more, and neither end hears of it.
    HalfOpen,
    /// Nothing: connections are cut, and new ones end at once.
    Cut,
    /// Nothing: connections are cut, and new ones are answered by a router that has no server to lead to.
    NoServer,
}

/// What such a router says: error 2003.
const NO_SERVER: &[u8] = b"\x1c\0\0\0\xff\xd3\x07#HY000Can't connect to it";

/// The way to a server.
#[derive(Debug)]
pub(crate) struct Proxy {
    network: watch::Sender<Network>,
    /// Where it ends, for new connections.
    server: watch::Sender<(String, u16)>,
    /// Where it begins.
    pub(crate) address: SocketAddr,
}

impl Proxy {
    /// A way to that host and port.
    pub(crate) async fn to(server: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (network, state) = watch::channel(Network::Open);
        let (server, leads_to) = watch::channel(server);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = leads_to.borrow().clone();
                tokio::spawn(connect(client, server, state.clone()));
            }
        });
        Self { network, server, address }
    }

    /// New connections go to that host and port; those that there are stay.
    pub(crate) fn leads_to(&self, server: (String, u16)) {
        self.server.send_replace(server);
    }

    /// The network changes, for the connections that there are, too.
    pub(crate) fn becomes(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn connect(client: TcpStream, server: (String, u16), mut network: watch::Receiver<Network>) {
    // Of what comes before it, a connection knows nothing.
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

/// Passes bytes on, delays them, holds them back or loses them, as the network is.
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
        let stands = dead || to.write_all(&passes).await.is_ok();
        if ended || !stands {
            return;
        }
    }
}
