//! A network between a store and its MySQL, which fails as networks do.
//!
//! Owns a port that leads to the server, and what passes through it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::{MySqlUrl, StoreUrl};
use crate::store::tests::database::Database;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// Everything.
    Open,
    /// What the store says, and nothing that MySQL answers.
    NoAnswers,
    /// Nothing, and neither end hears of it.
    Silent,
    /// Nothing: connections are cut, and new ones end at once.
    Cut,
}

/// The way to a server.
#[derive(Debug)]
pub(super) struct Proxy {
    network: watch::Sender<Network>,
    /// The database, through here.
    pub(super) url: StoreUrl,
}

impl Proxy {
    pub(super) async fn to(database: &Database) -> Self {
        let StoreUrl::MySql(server) = database.url() else { panic!("this is for MySQL") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, state) = watch::channel(Network::Open);
        let address = (server.host.clone(), server.port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, address.clone(), state.clone()));
            }
        });
        Self { network, url: StoreUrl::MySql(MySqlUrl { host: "127.0.0.1".to_owned(), port, ..server }) }
    }

    pub(super) fn becomes(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn connect(client: TcpStream, address: (String, u16), network: watch::Receiver<Network>) {
    if *network.borrow() == Network::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(address).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let questions = pass(from_client, to_server, network.clone(), &[Network::Open, Network::NoAnswers]);
    let answers = pass(from_server, to_client, network, &[Network::Open]);
    tokio::select! {
        () = questions => {}
        () = answers => {}
    }
}

/// Passes bytes on while the network is one of these; else they are lost.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    passing: &[Network],
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            cut = network.wait_for(|network| *network == Network::Cut) => {
                drop(cut);
                return;
            }
        };
        let passes = passing.contains(&network.borrow());
        if count == 0 || (passes && to.write_all(&bytes[..count]).await.is_err()) {
            return;
        }
    }
}
