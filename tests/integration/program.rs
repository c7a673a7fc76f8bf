//! The command line: options, environment variables, exit codes, and one-line error messages.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use clap::CommandFactory;
use serde_json::{Value, json};
use smilingchat::config::CommandLine;

use crate::support::client::TestClient;
use crate::support::misbehaving::{Behaviour, Fault, MisbehavingServer};
use crate::support::process::{TestProcess, run, run_program, run_program_with, start_program};
use crate::support::replica::TestStore;
use crate::support::{eventually, get, get_json, options_of, within};

/// All options of `serve`. Users rely on them, so no version may rename or remove an option.
const OPTIONS: [&str; 21] = [
    "listen",
    "ops-listen",
    "store",
    "store-password-file",
    "replica",
    "platform",
    "node",
    "links",
    "capacity",
    "session-rate",
    "session-burst",
    "client-rate",
    "client-burst",
    "max-sessions",
    "trusted-proxies",
    "allowed-origins",
    "crash",
    "crash-token-file",
    "rebalance",
    "drain-timeout",
    "retention",
];

#[tokio::test]
async fn help_lists_every_option_and_its_environment_variable() {
    let output = run_program(&["serve", "--help"]).await;
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let commands = CommandLine::command();
    let serve = commands.find_subcommand("serve").expect("the command `serve`");
    assert_eq!(options_of(serve), OPTIONS.map(str::to_owned).into(), "OPTIONS differs from the program");
    for option in OPTIONS {
        let variable = format!("SMILINGCHAT_{}", option.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("--{option} ")), "the help lacked --{option}");
        assert!(help.contains(&variable), "the help lacked {variable}");
    }
}

#[tokio::test]
async fn invalid_arguments_make_the_program_exit_with_2() {
    for arguments in [
        &["--bogus"][..],
        &["bogus"],
        &["--capacity", "many"],
        &["--capacity", "-1"],
        &["--listen", "nowhere"],
        &["--replica", ""],
        &["--replica", "a b"],
        &["--platform", "nomad"],
        &["--node", "a b"],
        &["--links", "Grafana"],
        &["--links", "Grafana=ftp://localhost"],
        &["--store", "postgres://x/y"],
        &["--trusted-proxies", "10.0.0.0/99"],
        &["--allowed-origins", "chat.example"],
        &["--crash", "maybe"],
        &["--rebalance", "maybe"],
        &["--retention", "0"],
        &["--drain-timeout", "soon"],
        &["replicas", "--url", "ws://localhost/ws"],
        &["crash", "--mode", "explode"],
        &["crash", "one", "two"],
    ] {
        let output = run_program(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}: no error was printed");
    }
    let output = run_program_with(&["serve"], &[("SMILINGCHAT_CAPACITY", "many")]).await;
    assert_eq!(output.status.code(), Some(2), "the variable was not checked like its option");
}

#[tokio::test]
async fn arguments_that_are_not_utf8_make_the_program_exit_with_2() {
    let text = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    for arguments in [
        vec![text(b"--capacity=\xff")],
        vec![text(b"\xff"), text(b"--bogus")],
        vec![text(b"replicas"), text(b"--url"), text(b"\xff")],
    ] {
        let output = run_program(&arguments).await;
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Each listener gets a free port, unless `arguments` contains an address for that listener.
async fn fails_with_one_line(arguments: &[&str], word: &str) {
    let free = ["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0"];
    let arguments: Vec<&str> = free
        .into_iter()
        .filter(|option| {
            let name = option.split('=').next().unwrap_or_default();
            !arguments.iter().any(|argument| argument.starts_with(&format!("{name}=")))
        })
        .chain(arguments.iter().copied())
        .collect();
    let output = run_program(&arguments).await;
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.contains(word), "{arguments:?}: the error lacked {word:?}: {stderr}");
}

#[tokio::test]
async fn the_program_exits_with_1_and_one_line_if_the_store_cannot_be_opened() {
    let store = TestStore::new();
    let file = store.path();
    std::fs::write(&file, "this is not a database, but it is long enough to be read as one".repeat(50)).unwrap();
    let not_a_database = format!("--store=sqlite:{}", file.display());
    fails_with_one_line(&[&not_a_database], "smilingchat.db").await;
    let below_a_file = format!("--store=sqlite:{}/below.db", file.display());
    fails_with_one_line(&[&below_a_file], "below.db").await;
    let a_folder = format!("--store=sqlite:{}", file.parent().unwrap().display());
    fails_with_one_line(&[&a_folder], "cannot open the store").await;
}

#[tokio::test]
async fn the_program_exits_with_1_and_one_line_without_a_token_or_a_free_port() {
    let store = TestStore::new();
    let store_option = format!("--store=sqlite:{}", store.path().display());
    let empty = store.path().with_extension("token");
    std::fs::write(&empty, "\n").unwrap();
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o600)).unwrap();
    let missing = format!("--crash-token-file={}.missing", empty.display());
    fails_with_one_line(&[&store_option, &missing], "token").await;
    let empty = format!("--crash-token-file={}", empty.display());
    fails_with_one_line(&[&store_option, &empty], "token").await;

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--listen", "--ops-listen"] {
        fails_with_one_line(&[&store_option, &format!("{option}={address}")], &address).await;
    }
}

#[tokio::test]
async fn a_server_whose_log_collector_has_exited_still_drains() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    process.close_log().await;
    // A drain logs several lines.
    process.signal("TERM").await;
    assert_eq!(process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_command_line_overrides_the_environment() {
    let store = TestStore::new();
    let variables = [("SMILINGCHAT_CAPACITY", "55"), ("SMILINGCHAT_REPLICA", "unheard")];
    let process = TestProcess::start_with_environment(&store.path(), &[("replica", "heard")], &variables).await;
    let list = get_json(process.address, "/api/replicas").await;
    assert_eq!((&list["replicas"][0]["capacity"], &list["replicas"][0]["name"]), (&55.into(), &"heard".into()));
}

#[tokio::test]
async fn an_empty_variable_for_platform_node_links_or_logs_counts_as_unset() {
    let store = TestStore::new();
    // The test reads the replica's addresses from a log line of the level `info`.
    let names = ["SMILINGCHAT_PLATFORM", "SMILINGCHAT_NODE", "SMILINGCHAT_LINKS", "RUST_LOG"];
    let variables = names.map(|name| (name, ""));
    let process = TestProcess::start_with_environment(&store.path(), &[], &variables).await;
    let list = get_json(process.address, "/api/replicas").await;
    assert_eq!(list["platform"], "process");
    assert!(
        list.get("links").is_none() && list["replicas"][0].get("node").is_none(),
        "an empty variable had an effect: {list}"
    );
}

#[tokio::test]
async fn an_invalid_variable_is_named_in_the_error() {
    for (command, variable, value) in [
        ("serve", "SMILINGCHAT_CAPACITY", ""),
        ("serve", "SMILINGCHAT_STORE", ""),
        ("serve", "SMILINGCHAT_STORE_PASSWORD_FILE", ""),
        ("serve", "SMILINGCHAT_CRASH", "maybe"),
        ("--drain-timeout=5", "SMILINGCHAT_RETENTION", "0"),
        ("simulate", "SMILINGCHAT_SIMULATE_RATE", "0"),
        ("check", "SMILINGCHAT_CHECK_URL", "localhost"),
        ("check", "SMILINGCHAT_CHECK_URL", "https://localhost/readyz"),
        ("replicas", "SMILINGCHAT_REPLICAS_URL", "localhost"),
        ("crash", "SMILINGCHAT_CRASH_MODE", "explode"),
    ] {
        let output = run_program_with(&[command], &[(variable, value)]).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let option = variable.trim_start_matches("SMILINGCHAT_");
        let option = option.strip_prefix(&format!("{}_", command.to_uppercase())).unwrap_or(option);
        let option = option.to_lowercase().replace('_', "-");
        assert!(
            stderr.contains(&format!("{variable} (--{option} <")),
            "the error did not name {variable} and its option: {stderr}"
        );
    }
    for variable in ["SMILINGCHAT_STORE_PASSWORD_FILE", "SMILINGCHAT_CRASH_TOKEN_FILE"] {
        let output = run_program_with(&["serve"], &[(variable, "/missing")]).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(variable),
            "{variable} was accepted, or was not in the error: {stderr}"
        );
    }
    let output = run_program_with(&["serve", "--capacity", "many"], &[("SMILINGCHAT_CAPACITY", "5")]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("--capacity") && !stderr.contains("SMILINGCHAT_CAPACITY"),
        "the error lacked --capacity, or named the variable: {stderr}"
    );
}

#[tokio::test]
async fn one_environment_configures_simulate_check_replicas_and_crash() {
    let store = TestStore::new();
    let process = TestProcess::start(&store.path(), &[]).await;
    let variables = [
        ("SMILINGCHAT_SIMULATE_URL", format!("ws://{}/ws", process.address)),
        ("SMILINGCHAT_SIMULATE_DURATION", "0.5".to_owned()),
        ("SMILINGCHAT_CHECK_URL", format!("http://{}/readyz", process.ops_address)),
        ("SMILINGCHAT_REPLICAS_URL", format!("http://{}", process.address)),
        ("SMILINGCHAT_CRASH_URL", format!("http://{}", process.address)),
        ("SMILINGCHAT_CRASH_MODE", "unready".to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    for command in ["simulate", "check", "replicas", "crash"] {
        let output = run_program_with(&[command], &variables).await;
        assert_eq!(output.status.code(), Some(0), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

async fn ask(process: &TestProcess, command: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let url = format!("--url=http://{}", process.address);
    let output = run_program_with(&[command, &[&url]].concat(), environment).await;
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[tokio::test]
async fn replicas_are_listed_for_people_and_for_machines() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[("capacity", "0")]).await;
    let (status, table) = ask(&process, &["replicas"], &[]).await;
    assert_eq!(status, Some(0), "{table}");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["REPLICA", "HOST", "STATE"]);
    assert_eq!((rows[1][0], rows[1][2]), (&*process.replica, "ready"), "{table}");
    assert!(
        rows[1].contains(&"unlimited") && table.contains(&format!("answered by {}", process.replica)),
        "the table lacked the capacity or the replica: {table}"
    );

    let (status, json) = ask(&process, &["replicas", "--json"], &[]).await;
    let list: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((status, &list["self"], &list["platform"]), (Some(0), &json!(process.replica), &json!("process")));

    process.kill().await;
    let (status, printed) = ask(&process, &["replicas"], &[]).await;
    assert_eq!((status, printed.lines().count()), (Some(1), 1), "{printed}");
    assert!(printed.contains("/api/replicas"), "the error lacked the path: {printed}");
}

fn token_file(store: &TestStore) -> String {
    let file = store.path().with_extension("token");
    std::fs::write(&file, "a token\n").unwrap();
    file.into_os_string().into_string().unwrap()
}

#[tokio::test]
async fn a_replica_can_be_crashed_from_the_terminal() {
    let store = TestStore::new();
    let file = token_file(&store);
    let mut process = TestProcess::start(&store.path(), &[("crash-token-file", &file)]).await;
    let token = format!("--token-file={file}");

    let (status, printed) = ask(&process, &["crash"], &[]).await;
    assert_eq!((status, printed.lines().count()), (Some(1), 1), "{printed}");
    assert!(
        printed.contains("401") && printed.contains("--token-file"),
        "the error lacked the status or the option: {printed}"
    );
    let (status, printed) = ask(&process, &["crash", "nobody.1", &token], &[]).await;
    assert!(
        status == Some(1) && printed.contains("404") && printed.contains("`smilingchat replicas`"),
        "the error lacked the status or the advice: {printed}"
    );

    let (status, printed) = ask(&process, &["crash", "--mode=unready", &process.replica, &token], &[]).await;
    assert_eq!(status, Some(0), "{printed}");
    assert!(
        printed.starts_with(&format!("{} is not ready", process.replica)),
        "the output did not say what happened: {printed}"
    );
    eventually("the replica is not ready", async || get(process.address, "/readyz").await.status().as_u16() == 503)
        .await;

    // `serve` and `crash` share this variable, which names the same file for both.
    let mut other = TestProcess::start(&TestStore::new().path(), &[("crash-token-file", &file)]).await;
    let (status, printed) = ask(&other, &["crash"], &[("SMILINGCHAT_CRASH_TOKEN_FILE", &file)]).await;
    assert_eq!((status, printed), (Some(0), format!("{} crashes: its process exits at once\n", other.replica)));
    assert!(!other.exit().await.success());
    process.kill().await;
}

#[tokio::test]
async fn the_simulator_crashes_a_replica_that_requires_a_token() {
    let store = TestStore::new();
    let file = token_file(&store);
    let mut server = TestProcess::start(&store.path(), &[("crash-token-file", &file)]).await;
    let url = format!("--url=ws://{}/ws", server.address);
    let token = format!("--crash-token-file={file}");
    let arguments = ["simulate", &url, &token, "--crash-every=0.5", "--conversations=1", "--duration=3600"];
    let _simulation = start_program(&arguments);
    assert!(!server.exit().await.success(), "the server exited with 0 instead of crashing");
    let output = run_program(&["simulate", "--crash-token-file=/nowhere"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && stderr.contains("/nowhere") && stderr.contains("token"),
        "the missing token file was not refused: {stderr}"
    );
}

#[tokio::test]
async fn an_invalid_link_is_explained_in_the_error() {
    let output = run_program_with(&["serve"], &[("SMILINGCHAT_LINKS", "Grafana=localhost:3000")]).await;
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("--links") && stderr.contains("the URL of Grafana must begin with http://"),
        "the error did not explain the link: {stderr}"
    );
}

#[tokio::test]
async fn a_missing_folder_of_the_store_is_created() {
    let store = TestStore::new();
    let path = store.path().with_file_name("one").join("two").join("chat.db");
    let process = TestProcess::start(&path, &[]).await;
    assert_eq!(get(process.address, "/readyz").await.status().as_u16(), 200);
    assert!(path.exists());
}

#[tokio::test]
async fn the_default_store_is_in_the_data_directory() {
    let store = TestStore::new();
    let data = store.path().with_file_name("data");
    let process = TestProcess::start_without_store(&data).await;
    let mut anna = TestClient::connect(process.address, "anna").await;
    anna.smile("c1", "bruno").await;
    assert!(data.join("smilingchat").join("smilingchat.db").exists());
    let ping = get_json(process.address, "/ping").await;
    assert_eq!(ping["replica"], process.replica);
}

#[tokio::test]
async fn an_invalid_store_url_is_refused_without_its_password() {
    let output = run_program(&["--store", "mysql://chat:hush@here"]).await;
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("--store") && !stderr.contains("hush"),
        "the error lacked the option, or showed the password: {stderr}"
    );
}

#[tokio::test]
async fn a_simulation_that_loses_its_server_exits_with_3() {
    let store = TestStore::new();
    let mut server = TestProcess::start(&store.path(), &[]).await;
    let url = format!("--url=ws://{}/ws", server.address);
    let mut simulation = start_program(&["simulate", &url, "--conversations=2", "--duration=3600"]);
    eventually("smiles are stored", async || {
        get_json(server.address, "/api/replicas").await["head"].as_u64() > Some(10)
    })
    .await;
    server.kill().await;
    // Each interrupt ends the current stage of the simulation.
    let id = simulation.id().expect("the simulation had ended").to_string();
    eventually("the simulation ends", async || {
        let ended = simulation.try_wait().expect("a status").is_some();
        if !ended {
            run("kill", &["-INT", &id]).await;
        }
        ended
    })
    .await;
    let status = within("the simulation ends", simulation.wait()).await.expect("a status");
    assert_eq!(status.code(), Some(3));
}

#[tokio::test]
async fn a_simulation_that_reaches_no_server_exits_with_3_and_one_line() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run_program(&["simulate", &format!("--url=ws://{address}/ws")]).await;
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(3), 1), "{stderr}");
    assert!(
        stderr.contains("no replica listed the users") && stderr.contains(&address.to_string()),
        "the error lacked the reason or the address: {stderr}"
    );
}

#[tokio::test]
async fn a_simulation_that_sees_a_broken_promise_exits_with_1() {
    let behaviour = Behaviour { fault: Fault::DoubleDelivery, ..Behaviour::default() };
    let server = MisbehavingServer::start(6, behaviour).await;
    let url = format!("--url={}", server.url());
    let output = run_program(&["simulate", &url, "--conversations=3", "--rate=100", "--duration=0.5"]).await;
    let ledger = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{ledger}");
    assert!(
        ledger.contains("NOT CLEAN") && ledger.contains("\n  duplicated: "),
        "the report lacked the fault: {ledger}"
    );
}

#[tokio::test]
async fn too_low_a_limit_on_open_files_is_refused_with_one_line() {
    let store = TestStore::new();
    let program = env!("CARGO_BIN_EXE_smilingchat");
    let options = ["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0"];
    let mut command = tokio::process::Command::new("prlimit");
    command.arg("--nofile=64").arg(program).args(options).arg(format!("--store=sqlite:{}", store.path().display()));
    let output = within("the program exits", command.output()).await.expect("the program did not start");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(
        stderr.contains("64 open files") && stderr.contains("ulimit -n"),
        "the error lacked the limit or the advice: {stderr}"
    );
}
