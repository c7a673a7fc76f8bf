//! The CPU use of idle replicas and of MySQL while the replicas follow the log, either
//! through MySQL's binary log or by polling.

use std::time::Duration;

use crate::client::{field, get, users};
use crate::cpu::Processes;
use crate::mysql::MySql;
use crate::process::{REPLICAS, Server};
use crate::report::{Report, share};
use crate::scale::Scale;

const SETTLED: Duration = Duration::from_secs(3);

pub(crate) async fn idle(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    for mysql in [Some(MySql::new().await), MySql::without_binlog().await] {
        let Some(mysql) = mysql else {
            rows.push(vec![
                "polling was not measured: the account cannot create another account".to_owned(),
                String::new(),
                String::new(),
            ]);
            continue;
        };
        let replicas = Server::several_on(mysql.store(), REPLICAS);
        users(replicas[0].address).await;
        tokio::time::sleep(SETTLED).await;
        let answer = get(replicas[0].address, "/api/replicas").await;
        let by = field(&answer, "following").unwrap_or("unknown").to_owned();
        let processes = Processes::of(&replicas);
        tokio::time::sleep(scale.idle).await;
        let (cores, mysql_cores) = processes.cores();
        rows.push(vec![by, mysql_cores.map_or("unknown".to_owned(), share), share(cores)]);
        drop(replicas);
        mysql.remove().await;
    }
    report.table("following", &["following by", "cores of MySQL", "cores of all four replicas"], rows);
}
