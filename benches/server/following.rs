//! What following the log costs while nobody smiles: by the binary log, and by polling.

use std::time::Duration;

use crate::client::{get, users};
use crate::mysql::MySql;
use crate::process::{Processes, REPLICAS, Server};

const SETTLED: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(15);

/// Many idle replicas, with an account that may follow the binary log and with one that may not.
pub(crate) async fn idle() {
    for mysql in [MySql::new().await, MySql::without_binlog().await] {
        let replicas = Server::several_on(mysql.store(), REPLICAS);
        users(replicas[0].address).await;
        tokio::time::sleep(SETTLED).await;
        let answer = get(replicas[0].address, "/api/replicas").await;
        let by = answer.split("\"following\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("unknown");
        let processes = Processes::of(&replicas);
        tokio::time::sleep(IDLE).await;
        println!("following: {REPLICAS} idle replicas, {by}: cores: {}", processes.cores_used());
    }
}
