//! Alternatives to TheSmilingChat: a Socket.IO 4 server that stores one row per smile, and a Flask server with the
//! architecture of the chat's first version: polling, one request and one row per smile. Their sources are in
//! benches/peers.

use std::fs;
use std::io;
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

/// In this time, which is not measured, Node compiles hot code, and Flask's threads open their database connections.
const WARM_UP: Duration = Duration::from_secs(1);

const HEADER: [&str; 7] =
    ["what", "unanswered", "smiles/s", "delivered/s", "CPU of the server", "CPU of MySQL", "ack p50, p99"];

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

/// Measures one peer, adds its bar to the plot and stops the peer.
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

fn installed_socketio() -> Result<PathBuf, String> {
    install("socketio", "node", &["package-lock.json", "package.json", "server.js"], |folder| {
        let arguments = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").args(arguments).current_dir(folder)).map(drop)
    })
}

fn installed_flask() -> Result<PathBuf, String> {
    install("flask", "python3", &["requirements.txt", "app.py"], |folder| {
        run(Command::new("python3").args(["-m", "venv", "--clear", "venv"]).current_dir(folder))?;
        let mut pip = Command::new(folder.join("venv/bin/pip"));
        let arguments = ["install", "--quiet", "--no-deps", "--requirement", "requirements.txt"];
        run(pip.args(arguments).current_dir(folder)).map(drop)
    })
}

/// Copies the sources to a folder under `target/`. Installs the dependencies there, unless an earlier run has installed
/// them with the same version of `program` and the same contents of `files[0]`, which pins their versions.
fn install(
    name: &str,
    program: &str,
    files: &[&str],
    install: impl Fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let (sources, folder) = (Path::new(SOURCES).join(name), Path::new(INSTALLED).join(name));
    let mut wanted = run(Command::new(program).arg("--version"))?;
    wanted.extend(fs::read(sources.join(files[0])).map_err(|error| error.to_string())?);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for file in files {
        fs::copy(sources.join(file), folder.join(file)).map_err(|error| error.to_string())?;
    }
    let stamp = folder.join("installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    println!("installing the peer {name}");
    install(&folder)?;
    fs::write(stamp, wanted).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("`{program}` is missing")),
        Err(error) => Err(format!("cannot start `{program}`: {error}")),
        Ok(output) if !output.status.success() => Err(format!("`{program}` failed")),
        Ok(output) => Ok(output.stdout),
    }
}
