//! Start-up time: from the start of the process to `200` from `/readyz`, on a new store. The process is not pinned to
//! a core.

use std::time::Instant;

use crate::client::{get, percentile};
use crate::pinning::Core;
use crate::process::Server;
use crate::report::{Report, millis};

const STARTS: usize = 10;

pub(crate) async fn measure(report: &mut Report) {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let server = Server::on_sqlite(Core::Any);
        let answer = get(server.address, "/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"),
            "the replica was not ready: {answer}"
        );
        times.push(began.elapsed());
    }
    report.fact("ready_median", millis(percentile(&mut times, 50.0)));
    report.fact("ready_slowest", millis(percentile(&mut times, 100.0)));
}
