//! Resident memory per idle session.

use crate::client::{connect, next_text, users};
use crate::pinning::Core;
use crate::process::Server;
use crate::report::Report;

const FEW: usize = 1_000;
const MANY: usize = 10_000;

pub(crate) async fn measure(report: &mut Report) {
    let server = Server::on_sqlite(Core::Measured);
    let users = users(server.address).await;
    let mut sockets = Vec::new();
    let mut open = async |sessions: usize| {
        while sockets.len() < sessions {
            let mut socket =
                connect(server.address, &users[sockets.len() % users.len()]).await.expect("the session should open");
            next_text(&mut socket).await.expect("the server should send a welcome");
            sockets.push(socket);
        }
        server.resident()
    };
    let few = open(FEW).await;
    let many = open(MANY).await;
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    report.fact("memory_few", mebibytes(few));
    report.fact("memory_many", mebibytes(many));
    report.fact("memory_session", format!("{:.2} KiB", (many - few) as f64 / 1024.0 / (MANY - FEW) as f64));
}
