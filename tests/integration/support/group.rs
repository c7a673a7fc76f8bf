//! Three MySQL servers that replicate as a group, one of them the primary. They connect to each other over the loopback
//! address, so they run on this machine and not in containers.

use futures_util::future::join_all;
use url::{Position, Url};

use super::environment::script;
use super::mysql::{ask, identify, run};
use super::{eventually, within};

/// The folders of the servers, which only this file uses.
const FOLDERS: [&str; 3] = ["target/mysql-of-group-1", "target/mysql-of-group-2", "target/mysql-of-group-3"];

const PLUGIN: &str = "INSTALL PLUGIN group_replication SONAME 'group_replication.so'";
const PLUGINS: &str =
    "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.plugins WHERE plugin_name = 'group_replication'";

/// Removes the state of an earlier test.
const FORGET: &str = "RESET REPLICA ALL; RESET BINARY LOGS AND GTIDS";

/// The expulsion timeout and the consistency level are those of `k8s/overlays/innodb-cluster`. The members talk to each
/// other over their client ports, so they need no further ports.
const SETTINGS: &str = "SET GLOBAL group_replication_group_name = '6f9c1d5e-0b52-4c38-9c4b-4f4a6f1f2a10',
    GLOBAL group_replication_communication_stack = 'MYSQL',
    GLOBAL group_replication_recovery_use_ssl = ON, GLOBAL group_replication_member_expel_timeout = 0,
    GLOBAL group_replication_consistency = 'BEFORE_ON_PRIMARY_FAILOVER'";

/// The number of members that the queried server sees online.
const MEMBERS: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM performance_schema.replication_group_members
    WHERE member_state = 'ONLINE'";
const ITSELF: &str = "member_id = @@server_uuid";

pub(crate) struct Group {
    urls: Vec<Url>,
}

impl Group {
    /// Starts the servers; the first is the primary. Returns `None` if MySQL lacks the plugin.
    pub(crate) async fn start() -> Option<Self> {
        // A server that is still running after a failed test may be in the middle of a group change.
        join_all(FOLDERS.map(|folder| script("kill", folder))).await;
        let urls = join_all(FOLDERS.map(|folder| script("start", folder))).await;
        let group = Self { urls: urls.iter().map(|url| url.parse().expect("a URL")).collect() };
        for server in 0..group.urls.len() {
            // Fails if MySQL lacks the plugin or has already installed it.
            let _ = run(group.url(server), PLUGIN.to_owned()).await;
            if group.ask(server, PLUGINS).await == "0" {
                super::skipped("group replication: this MySQL lacks the plugin");
                group.ends().await;
                return None;
            }
            group.run(server, FORGET).await;
        }
        group.joins(0, true).await;
        join_all([1, 2].map(|server| group.joins(server, false))).await;
        Some(group)
    }

    /// Makes this server the first member of a new group if `first` is true; otherwise, adds it to the group. The first
    /// server is the only seed, because a seed that is not yet a member delays a join by many seconds.
    async fn joins(&self, server: usize, first: bool) {
        let url = &self.urls[server];
        identify(url, server + 1).await;
        let [local, member] = [url, &self.urls[0]].map(|url| &url[Position::BeforeHost..Position::AfterPort]);
        let (user, password, weight) = (url.username(), url.password().expect("a password"), 90 - 10 * server);
        self.run(
            server,
            &format!(
                "{SETTINGS}, GLOBAL group_replication_local_address = '{local}',
                GLOBAL group_replication_advertise_recovery_endpoints = '{local}',
                GLOBAL group_replication_group_seeds = '{member}', GLOBAL group_replication_member_weight = {weight},
                GLOBAL group_replication_bootstrap_group = {first};
                START GROUP_REPLICATION USER = '{user}', PASSWORD = '{password}';
                SET GLOBAL group_replication_bootstrap_group = OFF"
            ),
        )
        .await;
        eventually("the server is a member", async || {
            self.ask(server, &format!("{MEMBERS} AND {ITSELF}")).await == "1"
        })
        .await;
    }

    pub(crate) fn url(&self, server: usize) -> &str {
        self.urls[server].as_str()
    }

    pub(crate) async fn switches_to(&self, server: usize) {
        self.run(server, "SELECT group_replication_set_as_primary(@@server_uuid)").await;
    }

    /// Kills this server, the primary, with SIGKILL. Waits until the first server is elected and accepts writes.
    pub(crate) async fn loses_primary(&self, server: usize) {
        script("kill", FOLDERS[server]).await;
        let elected = format!("{MEMBERS} AND {ITSELF} AND member_role = 'PRIMARY' AND NOT @@GLOBAL.read_only");
        eventually("the first server is elected", async || self.ask(0, &elected).await == "1").await;
    }

    pub(crate) async fn restarts(&self, server: usize) {
        script("start", FOLDERS[server]).await;
        self.joins(server, false).await;
    }

    pub(crate) async fn until_replicated(&self) {
        let executed = "SELECT @@GLOBAL.gtid_executed";
        for server in 1..self.urls.len() {
            eventually("all transactions are replicated", async || {
                self.ask(0, executed).await == self.ask(server, executed).await
            })
            .await;
        }
    }

    pub(crate) async fn ends(&self) {
        join_all(FOLDERS.map(|folder| script("kill", folder))).await;
    }

    async fn run(&self, server: usize, statements: &str) {
        run(self.url(server), statements.to_owned()).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    async fn ask(&self, server: usize, question: &str) -> String {
        within("MySQL answers", ask(self.url(server), question)).await.expect("an answer")
    }
}
