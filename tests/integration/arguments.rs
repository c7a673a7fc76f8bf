//! What the program and the scripts say about invalid options, variables and files.

use std::path::Path;

use tokio::process::Command;

use crate::support::process::run_program_with;
use crate::support::replica::TestStore;
use crate::support::within;

/// Runs the program. Returns its exit status and what it printed on standard error.
async fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = run_program_with(arguments, variables).await;
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[tokio::test]
async fn an_invalid_number_of_workers_is_refused() {
    for workers in ["0", "-3", "abc", "1025", "18446744073709551615"] {
        let variables = [("TOKIO_WORKER_THREADS", workers)];
        for (command, status) in [("serve", 2), ("simulate", 2), ("check", 1)] {
            let (code, said) = refusal(&[command], &variables).await;
            assert_eq!(code, Some(status), "{command} with {workers}: {said}");
            assert!(
                said.contains(&format!("invalid value '{workers}' for TOKIO_WORKER_THREADS"))
                    && !said.contains("panicked"),
                "{command} did not explain {workers}: {said}"
            );
        }
    }
    for workers in ["", "1"] {
        let (_, said) = refusal(&["check", "--url=http://127.0.0.1:1"], &[("TOKIO_WORKER_THREADS", workers)]).await;
        assert!(said.contains("GET http://127.0.0.1:1"), "{workers:?} workers were refused: {said}");
    }
}

#[tokio::test]
async fn a_token_that_no_client_can_send_is_refused() {
    let store = TestStore::new();
    let file = store.path().with_extension("token");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let file = file.to_str().expect("text");
    let store = format!("--store=sqlite:{}", store.path().display());
    let serve = ["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", &store, "--crash-token-file", file];
    for (arguments, status) in [
        (&serve[..], 1),
        (&["crash", "--url=http://127.0.0.1:1", "--token-file", file], 1),
        (&["simulate", "--url=ws://127.0.0.1:1/ws", "--crash-token-file", file], 2),
    ] {
        let (code, said) = refusal(arguments, &[]).await;
        assert_eq!((code, said.lines().count()), (Some(status), 1), "{arguments:?}: {said}");
        assert!(
            said.contains("CRASH_TOKEN_FILE)") && said.contains(&format!("in {file} contains a line break")),
            "{arguments:?}: the error lacked the variable, the file or the reason: {said}"
        );
    }
}

#[tokio::test]
async fn a_variable_of_serve_does_not_affect_other_commands() {
    let variables = [("SMILINGCHAT_CAPACITY", "many"), ("SMILINGCHAT_STORE", "nowhere")];
    for command in ["check", "replicas", "crash"] {
        let (code, said) = refusal(&[command, "--url=http://127.0.0.1:1"], &variables).await;
        assert_eq!(code, Some(1), "{command}: {said}");
        assert!(said.contains("http://127.0.0.1:1"), "{command} sent no request: {said}");
    }
    for arguments in [&["serve"][..], &[]] {
        let (code, said) = refusal(arguments, &variables[..1]).await;
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains("SMILINGCHAT_CAPACITY (--capacity <"), "{arguments:?} did not name the variable: {said}");
    }
}

#[tokio::test]
async fn a_missing_or_invalid_value_is_explained() {
    for (arguments, expected) in [
        (&["--store"][..], "a value is required for '--store <URL>'"),
        (&["--listen"], "a value is required for '--listen <ADDR>'"),
        (&["--store=mysql://chat:hush@here"], "invalid value '(not shown)' for '--store <URL>'"),
        (&["--listen=localhost:8080"], "give ADDRESS:PORT, as in 127.0.0.1:8080; a host name is not accepted"),
        (&["--ops-listen=:9090"], "give ADDRESS:PORT, as in 127.0.0.1:8080; a host name is not accepted"),
        (&["--crash=On"], "give on or off"),
        (&["--rebalance=true"], "give on or off"),
        (&["crash", "--mode=explode"], "give exit, hang or unready"),
        (&["simulate", "--url=ws://127.0.0.1:8080"], "the path is /; give ws://HOST:PORT/ws"),
        (&["simulate", "--url=ws://one/ws,ws://two/chat"], "the path is /chat; give ws://HOST:PORT/ws"),
    ] {
        let (code, said) = refusal(arguments, &[]).await;
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: the error lacked {expected:?}: {said}");
    }
}

#[tokio::test]
async fn a_script_with_an_invalid_argument_prints_its_usage_and_does_nothing() {
    for (script, arguments) in [
        ("debian-packages", &["--help"][..]),
        ("e2e", &["--help"]),
        ("fuzz", &["--help"]),
        ("fuzz", &["5s"]),
        ("fuzz", &["5", "6"]),
        ("lint-docker", &["--help"]),
        ("lint-docker", &["docker", "swarm"]),
        ("manifests", &["--help"]),
        ("mysql", &["--help"]),
        ("sbom", &["--help"]),
        ("screenshot", &["--help"]),
        ("test", &["--help"]),
        ("test", &["quick"]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
        let output = within("the script exits", Command::new(path).args(arguments).output()).await.expect("an output");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{script} {arguments:?}: {said}");
        assert!(said.contains(&format!("scripts/{script}")), "{script} {arguments:?}: the usage was missing: {said}");
    }
}
