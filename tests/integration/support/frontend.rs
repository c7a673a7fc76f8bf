//! The real nginx with the configuration of the frontend's image, in front of replicas behind one DNS name. Unlike in
//! the image, nginx runs as a single process and writes no access log; paths, addresses and ports differ.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::process::{Child, Command};
use tokio::sync::{OnceCell, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::fleet::free_address;
use super::mysql::TestDatabase;
use super::process::{TestProcess, run};
use super::{eventually, http};

const LOG: &str = "nginx.log";

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where the table of MIME types may be: in the nginx that scripts/nginx unpacks, or in an installed one.
const MIME_TYPES: [&str; 2] =
    [concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/nginx/etc/nginx/mime.types"), "/etc/nginx/mime.types"];

/// After this time, a connection attempt to an address of this machine counts as unanswered.
const NO_ANSWER: Duration = Duration::from_millis(300);

/// The folder with the page as it is in the image, made once for all tests.
pub(crate) async fn page() -> &'static Path {
    static PAGE: OnceCell<PathBuf> = OnceCell::const_new();
    let make = async || {
        let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        let path = page.to_str().expect("the path should be UTF-8");
        run("rm", &["-rf", path]).await;
        run("cp", &["-r", &format!("{ROOT}/web"), path]).await;
        run(&format!("{ROOT}/docker/nginx/name-version"), &[path]).await;
        page
    };
    PAGE.get_or_init(make).await
}

/// The proxy. Dropping it stops nginx, and prints its log if the test has failed.
pub(crate) struct Frontend {
    pub(crate) address: SocketAddr,
    /// Where the proxy serves the page with the script that reloads it, as docker/compose.development.yaml does.
    pub(crate) development: SocketAddr,
    folder: TempDir,
    _nginx: Child,
    /// The addresses behind the DNS name of the replicas.
    replicas: watch::Sender<Vec<Ipv4Addr>>,
    names: AbortHandle,
}

/// Different loopback addresses with the same port, like the addresses of replicas in containers.
pub(crate) fn addresses(count: u8) -> Vec<SocketAddr> {
    let port = free_address().port();
    (1..=count).map(|number| SocketAddr::from(([127, 0, 8, number], port))).collect()
}

/// An address whose node is cut off: connections to it get no answer, not even a refusal.
pub(crate) struct BlackHole {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    /// Cuts off a free address: the system drops every attempt to connect to a listener whose queue is full.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("SO_REUSEADDR should be set");
        socket.bind(address).expect("a free address");
        let listener = socket.listen(1).expect("a listener");
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(NO_ANSWER, TcpStream::connect(address)).await {
            waiting.push(connected.expect("a connection"));
        }
        Self { _listener: listener, _waiting: waiting }
    }
}

pub(crate) async fn start_replicas(addresses: &[SocketAddr], database: &TestDatabase) -> Vec<TestProcess> {
    let start = addresses.iter().zip(1..).map(async |(address, number)| {
        let (name, url, listen) = (format!("be{number}"), database.url(), address.to_string());
        TestProcess::on_mysql(&url, &[("replica", &name), ("listen", &listen)]).await
    });
    join_all(start).await
}

impl Frontend {
    /// Starts nginx in front of these replicas, which must all use the same port. Waits until a replica answers through
    /// nginx.
    pub(crate) async fn before(replicas: &[SocketAddr]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let resolver = socket.local_addr().expect("an address");
        let (sender, known) = watch::channel(ipv4(replicas));
        let names = tokio::spawn(tell_names(socket, known)).abort_handle();
        let (address, development) = (free_address(), free_address());
        let folder = TempDir::new().expect("the folder should be created");
        write_configuration(folder.path(), page().await, address, resolver, replicas[0].port());
        write_development(folder.path(), address, development);
        let nginx = Command::new(format!("{ROOT}/scripts/nginx"))
            .args(["-e", "stderr", "-g", "daemon off; master_process off;", "-c"])
            .arg(folder.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join(LOG)).expect("the log file should be created"))
            .kill_on_drop(true)
            .spawn()
            .expect("scripts/nginx should start");
        let frontend = Self { address, development, folder, _nginx: nginx, replicas: sender, names };
        eventually("a replica answers through the proxy", async || {
            let answer = http().get(format!("http://{address}/ping")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        frontend
    }

    /// Makes the DNS name of the replicas resolve to these addresses from now on.
    pub(crate) fn names(&self, replicas: &[SocketAddr]) {
        self.replicas.send_replace(ipv4(replicas));
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        self.names.abort();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default());
        }
    }
}

fn ipv4(addresses: &[SocketAddr]) -> Vec<Ipv4Addr> {
    addresses.iter().filter_map(|address| address.ip().to_string().parse().ok()).collect()
}

fn write_configuration(folder: &Path, page: &Path, address: SocketAddr, resolver: SocketAddr, port: u16) {
    let here = folder.display();
    let types = MIME_TYPES
        .into_iter()
        .find(|types| Path::new(types).exists())
        .expect("nginx's mime.types should be in target/tools or in /etc/nginx");
    let read = |name: &str| {
        std::fs::read_to_string(format!("{ROOT}/docker/nginx/{name}"))
            .expect("the configuration of nginx should be readable")
    };
    let main = read("nginx.conf")
        .replace("/tmp/", &format!("{here}/"))
        .replace("/etc/nginx/", &format!("{here}/"))
        .replace(&format!("{here}/mime.types"), types);
    let site = read("default.conf.template")
        .replace("${BACKEND}", &format!("backend:{port}"))
        .replace("${RESOLVER}", &resolver.to_string())
        .replace("${LISTEN_IPV6}", &listen_ipv6().replace("[::]:8080", &format!("[::1]:{}", address.port())))
        .replace("listen 8080;", &format!("listen {address};"))
        .replace("/usr/share/nginx/html", &page.display().to_string())
        .replace("/dev/stdout", "/dev/null");
    std::fs::write(folder.join("nginx.conf"), main).expect("the file should be written");
    std::fs::create_dir(folder.join("conf.d")).expect("the folder should be created");
    std::fs::write(folder.join("conf.d/default.conf"), site).expect("the file should be written");
}

fn write_development(folder: &Path, address: SocketAddr, development: SocketAddr) {
    let template = std::fs::read_to_string(format!("{ROOT}/docker/development/reload.conf.template"));
    let server = template
        .expect("reload.conf.template should be readable")
        .replace("listen 8081;", &format!("listen {development};"))
        .replace("127.0.0.1:8080", &address.to_string())
        .replace("/usr/share/nginx/", &format!("{ROOT}/docker/"));
    std::fs::write(folder.join("conf.d/reload.conf"), server).expect("the file should be written");
}

/// The value of `LISTEN_IPV6` that the image's script determines.
fn listen_ipv6() -> String {
    let script = format!(". {ROOT}/docker/nginx/listen.envsh; printf %s \"$LISTEN_IPV6\"");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell should start");
    String::from_utf8(output.stdout).expect("the output should be text")
}

/// Answers every A query with all addresses (RFC 1035), and every other query with none.
async fn tell_names(socket: UdpSocket, replicas: watch::Receiver<Vec<Ipv4Addr>>) {
    const A: [u8; 4] = [0, 1, 0, 1];
    let mut question = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut question).await.expect("a query should arrive");
        let asked = &question[12..length];
        let addresses = if asked.ends_with(&A) { replicas.borrow().clone() } else { Vec::new() };
        let count = u8::try_from(addresses.len()).expect("the number of replicas should fit into a byte");
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(asked);
        for address in addresses {
            // An A record for the name in the question, with a TTL of one second.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address.octets());
        }
        socket.send_to(&answer, client).await.expect("the answer should be sent");
    }
}
