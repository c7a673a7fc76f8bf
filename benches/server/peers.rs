//! What one would pick instead, on the same work: Socket.IO 4 with a row for every message, and the original's architecture,
//! Flask with one request and one row for every smile. Their sources are in benches/peers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::slice::from_ref;
use std::time::Duration;

use crate::client::users;
use crate::load::{DEPTHS, Dialect, Figures, Plan};
use crate::mysql::MySql;
use crate::pinning::{self, Core};
use crate::process::{Server, folder};
use crate::report::{Bar, Report, Store, micros, millis, thousands};
use crate::scale::Scale;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");
const INSTALLED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/peers");

/// Not measured: Node compiles what runs often.
const WARM_UP: Duration = Duration::from_secs(1);

const HEADER: [&str; 7] =
    ["what", "unanswered", "smiles/s", "delivered/s", "CPU of the server", "CPU of MySQL", "ack p50, p99"];

/// Where a peer keeps its messages.
enum Database {
    Sqlite(tempfile::TempDir),
    MySql(MySql),
}

impl Database {
    fn store(&self) -> Store {
        match self {
            Self::Sqlite(_) => Store::Sqlite,
            Self::MySql(_) => Store::MySql,
        }
    }

    fn core(&self) -> Core {
        match self {
            Self::Sqlite(_) => Core::Measured,
            Self::MySql(_) => Core::Any,
        }
    }
}

/// Measures the peers on this store, those that can be installed here.
pub(crate) async fn measure(store: Store, scale: &Scale, report: &mut Report) {
    let users = users(Server::on_sqlite(Core::Any).address).await;
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    match installed_socketio() {
        Err(reason) => left_out.push(format!("Socket.IO is left out: {reason}.")),
        Ok(folder) => {
            for unanswered in DEPTHS {
                let database = database(store).await;
                let server = socketio(&folder, &database);
                let plan = Plan::new(Dialect::SocketIo, from_ref(&server), users.clone(), unanswered, scale.round);
                rows.push(row("Socket.IO", &plan, server, database, scale, report).await);
            }
        }
    }
    match installed_flask() {
        Err(reason) => left_out.push(format!("Flask is left out: {reason}.")),
        Ok(folder) => {
            let database = database(store).await;
            let server = flask(&folder, &database);
            let plan = Plan::new(Dialect::Polling, from_ref(&server), users, 1, scale.round);
            rows.push(row("Flask", &plan, server, database, scale, report).await);
        }
    }
    let name = if store == Store::Sqlite { "sqlite" } else { "mysql" };
    report.table(&format!("peers_{name}"), &HEADER, rows);
    report.fact(&format!("peers_{name}_left_out"), left_out.join(" "));
}

async fn database(store: Store) -> Database {
    match store {
        Store::Sqlite => Database::Sqlite(folder()),
        Store::MySql => Database::MySql(MySql::new().await),
    }
}

/// Runs the rounds, and ends the server.
async fn row(
    name: &'static str,
    plan: &Plan,
    server: Server,
    database: Database,
    scale: &Scale,
    report: &mut Report,
) -> Vec<String> {
    let load = if database.core() == Core::Any { Core::Any } else { Core::Measuring };
    Plan { duration: WARM_UP, ..plan.clone() }.run(from_ref(&server), load).await;
    let mut runs = Vec::new();
    for _ in 0..scale.rounds {
        runs.push(plan.run(from_ref(&server), load).await);
    }
    let figures = Figures::median(&runs);
    report.bar(database.store(), Bar::new(name, plan.unanswered, figures.per_second, figures.all_micros()));
    let row = vec![
        name.to_owned(),
        plan.unanswered.to_string(),
        thousands(figures.per_second),
        thousands(figures.delivered_per_second),
        micros(figures.processor_micros),
        match database {
            Database::Sqlite(_) => "none".to_owned(),
            Database::MySql(_) => figures.mysql_micros.map_or("unknown".to_owned(), micros),
        },
        format!("{}, {}", millis(figures.p50_millis), millis(figures.p99_millis)),
    ];
    drop(server);
    if let Database::MySql(mysql) = database {
        mysql.remove().await;
    }
    row
}

fn socketio(folder: &Path, database: &Database) -> Server {
    let mut command = pinning::command("node", database.core());
    command.arg(folder.join("server.js")).env("NODE_ENV", "production");
    match database {
        Database::Sqlite(folder) => command.arg("sqlite").arg(folder.path().join("peer.db")),
        Database::MySql(mysql) => command.args(["mysql", mysql.store()]),
    };
    Server::announcing_on_stdout(command)
}

fn flask(folder: &Path, database: &Database) -> Server {
    let mut command = pinning::command(folder.join("venv/bin/gunicorn"), database.core());
    let store = match database {
        Database::Sqlite(folder) => format!("sqlite:{}", folder.path().join("peer.db").display()),
        Database::MySql(mysql) => mysql.store().to_owned(),
    };
    command.current_dir(folder).env("STORE", store).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["--bind", "127.0.0.1:0", "--workers", "2", "--threads", "16", "--keep-alive", "60"]);
    command.args(["--no-control-socket", "app:app"]);
    Server::announcing_on_stderr(command)
}

/// The folder where the Socket.IO server is installed, or why it is not.
fn installed_socketio() -> Result<PathBuf, String> {
    install("socketio", &["package.json", "package-lock.json", "server.js"], "package-lock.json", |folder| {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder))
    })
}

/// The folder where the Flask application is installed, or why it is not.
fn installed_flask() -> Result<PathBuf, String> {
    install("flask", &["app.py", "requirements.txt"], "requirements.txt", |folder| {
        run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(folder))?;
        let mut pip = Command::new(folder.join("venv/bin/pip"));
        run(pip.args(["install", "--quiet", "--no-deps", "--requirement", "requirements.txt"]).current_dir(folder))
    })
}

/// Copies the sources below the build's folder, and installs what they need unless the same was installed before.
fn install(
    name: &str,
    files: &[&str],
    pins: &str,
    install: impl Fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let (sources, folder) = (Path::new(SOURCES).join(name), Path::new(INSTALLED).join(name));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for file in files {
        fs::copy(sources.join(file), folder.join(file)).map_err(|error| error.to_string())?;
    }
    let (pinned, done) = (fs::read(folder.join(pins)).unwrap_or_default(), folder.join("installed"));
    if fs::read(&done).is_ok_and(|done| done == pinned) {
        return Ok(folder);
    }
    println!("installing the peer {name}");
    install(&folder)?;
    fs::write(done, pinned).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Err(_) => Err(format!("`{program}` is missing")),
        Ok(status) if !status.success() => Err(format!("`{program}` failed")),
        Ok(_) => Ok(()),
    }
}
