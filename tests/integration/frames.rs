//! The frames of a session, their answers, refusals that leave the session open, and a close by the client.

use serde_json::{Value, json};

use crate::support::client::{TestClient, id, offset, smile};
use crate::support::raw::{CLOSE, FINAL, PING, PONG, RawClient, TEXT, frame};
use crate::support::replica::TestReplica;
use crate::support::{UNLIMITED, eventually, metric};

#[tokio::test]
async fn a_smile_is_acked_and_delivered() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    anna.send(json!({"type": "smile", "id": "c1", "to": "bruno", "smile": "😁"})).await;
    assert_eq!(anna.expect("ack").await, json!({"type": "ack", "id": "c1", "offset": 1, "duplicate": false}));
    let frame = bruno.expect("smile").await;
    let at = frame["at"].as_str().unwrap();
    let expected =
        json!({"type": "smile", "offset": 1, "id": "c1", "from": "anna", "to": "bruno", "smile": "😁", "at": at});
    assert_eq!(frame, expected);
    let digits = at.bytes().map(|byte| if byte.is_ascii_digit() { 'd' } else { char::from(byte) });
    assert_eq!(digits.collect::<String>(), "dddd-dd-ddTdd:dd:dd.dddZ", "the time had the wrong format: {at}");
}

#[tokio::test]
async fn a_smile_without_an_id_gets_one() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    let frame = json!({"type": "smile", "to": "bruno", "smile": "😁"});
    for expected in 1..=2 {
        anna.send(frame.clone()).await;
        let ack = anna.expect("ack").await;
        assert_eq!((offset(&ack), &ack["duplicate"]), (expected, &json!(false)));
        assert_eq!(bruno.expect("smile").await["id"], ack["id"]);
        let given = id(&ack);
        assert!((1..=64).contains(&given.len()), "the id did not have 1 to 64 characters: {given}");
        assert!(
            given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)),
            "the id had a forbidden character: {given}"
        );
    }
}

#[tokio::test]
async fn ids_may_use_the_full_alphabet_and_length() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let longest = "x".repeat(64);
    for id in ["a", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789._-", &longest] {
        anna.smile(id, "bruno").await;
    }
}

#[tokio::test]
async fn white_space_and_unknown_fields_are_ignored() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    anna.send_text(" \n\t {\"type\" : \"ping\", \"later\":[1,{}]} \r\n").await;
    anna.expect("pong").await;
    anna.send(json!({"smile": "😀", "to": "bruno", "id": "c1", "type": "smile", "priority": {"high": true}})).await;
    anna.expect("ack").await;
    anna.send_text("  help \n").await;
    anna.expect("help").await;
    anna.send_text(&format!(r#"{{"type":"ping","later":{}{}}}"#, "[".repeat(2000), "]".repeat(2000))).await;
    anna.expect("pong").await;
}

#[tokio::test]
async fn short_forms_are_accepted_and_other_text_gets_advice() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    for (typed, faces) in
        [("@bruno 😀", "😀"), ("  @bruno   :-) <3 \n", "🙂❤️"), ("@bruno\u{3000}😀\u{fe0f} XD", "😀😆")]
    {
        anna.send_text(typed).await;
        anna.expect("ack").await;
        assert_eq!(bruno.expect("smile").await["smile"], faces, "{typed}");
    }
    for typed in ["help", "?", "{\"type\":\"help\"}"] {
        anna.send_text(typed).await;
        let help = anna.expect("help").await;
        assert!(help.to_string().contains('@'), "help did not show what can be typed: {help}");
    }
    for typed in
        ["", "   ", "hello", "@", "@bruno", "@bruno ", "@ 😀", "😀", "helpme", "??", "HELP", "[1]", "null", "\"x\""]
    {
        anna.send_text(typed).await;
        let error = anna.expect("error").await;
        assert_eq!(error["code"], "bad_request", "{typed:?}: {error}");
        assert!(
            error["message"].as_str().is_some_and(|message| message.contains("help")),
            "{typed:?}: the error did not mention help: {error}"
        );
    }
    anna.send_text("@nobody 😀").await;
    anna.expect_error("unknown_user").await;
    anna.send_text("@anna 😀").await;
    anna.expect_error("bad_request").await;
    anna.send_text("@bruno hello").await;
    anna.expect_error("not_a_smile").await;
}

#[tokio::test]
async fn emoticons_and_faces_are_stored_as_fully_qualified_faces() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    for (sent, stored) in [
        (":)", "🙂"),
        (":-)", "🙂"),
        (":D", "😃"),
        (":-D", "😃"),
        ("xD", "😆"),
        ("XD", "😆"),
        (";)", "😉"),
        (";-)", "😉"),
        (":(", "🙁"),
        (":-(", "🙁"),
        (":'(", "😢"),
        (":P", "😛"),
        (":-P", "😛"),
        (":p", "😛"),
        (":O", "😮"),
        (":-O", "😮"),
        (":|", "😐"),
        (":-|", "😐"),
        (":*", "😘"),
        (":-*", "😘"),
        ("B)", "😎"),
        ("<3", "❤\u{fe0f}"),
        ("❤", "❤\u{fe0f}"),
        ("☺", "☺\u{fe0f}"),
        ("❤\u{200d}🔥", "❤\u{fe0f}\u{200d}🔥"),
        (" 😀  😁 ", "😀😁"),
        ("😀 :) <3", "😀🙂❤\u{fe0f}"),
        ("😀😁😂🤣😃😄😅😆", "😀😁😂🤣😃😄😅😆"),
        ("🫠", "🫠"),
        ("🩷", "🩷"),
        ("😺👻💩💯💥", "😺👻💩💯💥"),
    ] {
        anna.send(json!({"type": "smile", "to": "bruno", "smile": sent})).await;
        let answer = anna.next().await;
        assert_eq!(answer["type"], "ack", "{sent:?}: {answer}");
        assert_eq!(bruno.expect("smile").await["smile"], stored, "{sent:?}");
    }
}

#[tokio::test]
async fn text_that_is_not_a_smile_is_refused() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    for not_a_smile in [
        "",
        " ",
        "hello",
        "😀!",
        ":):)",
        "😀:)",
        "👍",
        "🐶",
        "🇮🇹",
        "1",
        "<b>😀</b>",
        "😀\u{200b}😀",
        "😀\u{0}",
        "\u{202e}😀",
        "😀😀😀😀😀😀😀😀😀",
        ":) :) :) :) :) :) :) :) :)",
    ] {
        anna.send(json!({"type": "smile", "id": "n1", "to": "bruno", "smile": not_a_smile})).await;
        assert_eq!(anna.expect_error("not_a_smile").await["id"], "n1", "{not_a_smile:?}");
    }
    assert_eq!(anna.smile("n1", "bruno").await, 1, "a refused frame was stored");
}

/// The text of each refused frame, its error code, and the id that the error repeats.
fn refused_frames() -> Vec<(String, &'static str, Option<&'static str>)> {
    let deep = format!(r#"{{"type":"smile","to":{}{}}}"#, "[".repeat(2000), "]".repeat(2000));
    let mut frames = vec![(deep, "bad_request", None), (format!("{{{}", "\"a\":{".repeat(500)), "bad_request", None)];
    let long_id = format!(r#"{{"type":"smile","id":"{}","to":"bruno","smile":"😀"}}"#, "x".repeat(65));
    frames.push((long_id, "bad_request", None));
    for (text, code, id) in [
        ("{", "bad_request", None),
        ("{}", "bad_request", None),
        ("{\"type\":\"ping\"}}", "bad_request", None),
        ("{\"type\":\"ping\"} {\"type\":\"ping\"}", "bad_request", None),
        ("{type:\"ping\"}", "bad_request", None),
        ("{\"type\":null}", "bad_request", None),
        ("{\"type\":1}", "bad_request", None),
        ("{\"type\":\"PING\"}", "bad_request", None),
        ("{\"type\":\"welcome\"}", "bad_request", None),
        (r#"{"type":"bogus","id":"c1"}"#, "bad_request", None),
        (r#"{"type":"smile","id":"c1"}"#, "bad_request", Some("c1")),
        (r#"{"type":"smile","id":"c1","to":"bruno"}"#, "bad_request", Some("c1")),
        (r#"{"type":"smile","id":"c1","smile":"😀"}"#, "bad_request", Some("c1")),
        (r#"{"type":"smile","id":"c1","to":5,"smile":"😀"}"#, "bad_request", Some("c1")),
        (r#"{"type":"smile","id":"c1","to":"bruno","smile":["😀"]}"#, "bad_request", Some("c1")),
        (r#"{"type":"smile","id":"","to":"bruno","smile":"😀"}"#, "bad_request", Some("")),
        (r#"{"type":"smile","id":"c 1","to":"bruno","smile":"😀"}"#, "bad_request", Some("c 1")),
        (r#"{"type":"smile","id":"c/1","to":"bruno","smile":"😀"}"#, "bad_request", Some("c/1")),
        (r#"{"type":"smile","id":"ü","to":"bruno","smile":"😀"}"#, "bad_request", Some("ü")),
        (r#"{"type":"smile","id":7,"to":"bruno","smile":"😀"}"#, "bad_request", None),
        (r#"{"type":"smile","id":{},"to":"bruno","smile":"😀"}"#, "bad_request", None),
        (r#"{"type":"smile","id":"c1","to":"anna","smile":"😀"}"#, "bad_request", Some("c1")),
        (r#"{"type":"smile","id":"c1","to":"nobody","smile":"😀"}"#, "unknown_user", Some("c1")),
        (r#"{"type":"smile","id":"c1","to":"","smile":"😀"}"#, "unknown_user", Some("c1")),
        (r#"{"type":"history"}"#, "bad_request", None),
        (r#"{"type":"history","with":"anna"}"#, "bad_request", None),
        (r#"{"type":"history","with":"nobody"}"#, "unknown_user", None),
        (r#"{"type":"history","with":["bruno"]}"#, "bad_request", None),
        (r#"{"type":"history","id":"c1","with":5}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","limit":0}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","limit":201}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","limit":-1}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","limit":1.5}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","limit":"10"}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","limit":4294967296}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","before":-1}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","before":1e3}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","before":9007199254740992}"#, "bad_request", None),
        (r#"{"type":"history","with":"bruno","before":18446744073709551616}"#, "bad_request", None),
    ] {
        frames.push((text.to_owned(), code, id));
    }
    frames
}

#[tokio::test]
async fn every_refused_frame_is_answered_and_the_session_stays_open() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    for (text, code, id) in refused_frames() {
        anna.send_text(&text).await;
        let error = anna.next().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{text}: {error}");
        assert_eq!((&error["temporary"], error.get("retry_after_ms")), (&json!(false), None), "{text}: {error}");
        assert_eq!(error.get("id"), id.map(Value::from).as_ref(), "{text}: {error}");
    }
    assert_eq!(anna.smile("c1", "bruno").await, 1, "a refused frame was stored");
}

#[tokio::test]
async fn each_page_of_a_history_is_oldest_first_and_holds_one_conversation() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut carla = TestClient::connect(replica.address, "carla").await;
    let mut expected = Vec::new();
    for number in 0..120 {
        expected.push(anna.smile(&format!("a{number}"), "bruno").await);
        if number % 10 == 0 {
            anna.smile(&format!("other{number}"), "carla").await;
            carla.expect("smile").await;
        }
    }
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    expected.push(bruno.smile("b0", "anna").await);
    let offsets = |answer: &Value| answer["smiles"].as_array().unwrap().iter().map(offset).collect::<Vec<_>>();

    bruno.send(json!({"type": "history", "with": "anna"})).await;
    let newest = bruno.expect("history").await;
    assert_eq!((&newest["with"], &newest["more"]), (&json!("anna"), &json!(true)));
    assert_eq!(offsets(&newest), expected[71..], "a history without a limit was not the last 50 smiles");
    let last = newest["smiles"].as_array().unwrap().last().unwrap();
    let (from, to, face) = (&last["from"], &last["to"], &last["smile"]);
    assert_eq!((from, to, face, &last["id"]), (&json!("bruno"), &json!("anna"), &json!("😀"), &json!("b0")));
    assert!(last["at"].is_string());

    bruno.send(json!({"type": "history", "with": "anna", "before": expected[3], "limit": 2})).await;
    let page = bruno.expect("history").await;
    assert_eq!((offsets(&page), &page["more"]), (expected[1..3].to_vec(), &json!(true)));
    bruno.send(json!({"type": "history", "with": "anna", "before": expected[2], "limit": 2})).await;
    let page = bruno.expect("history").await;
    assert_eq!((offsets(&page), &page["more"]), (expected[..2].to_vec(), &json!(false)));
    bruno.send(json!({"type": "history", "with": "anna", "before": 0})).await;
    let page = bruno.expect("history").await;
    assert_eq!((offsets(&page), &page["more"]), (vec![], &json!(false)));
    bruno.send(json!({"type": "history", "with": "anna", "before": (1_u64 << 53) - 1, "limit": 200})).await;
    assert_eq!(offsets(&bruno.expect("history").await), expected);
    assert_eq!(bruno.history("zoe").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_repeated_smile_is_stored_once_with_its_first_content() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let first = anna.smile("c1", "bruno").await;
    for repeat in [smile("c1", "bruno"), json!({"type": "smile", "id": "c1", "to": "carla", "smile": "😡"})] {
        anna.send(repeat).await;
        assert_eq!(anna.expect("ack").await, json!({"type": "ack", "id": "c1", "offset": first, "duplicate": true}));
    }
    let stored = anna.history("bruno").await;
    assert_eq!((stored.len(), &stored[0]["smile"]), (1, &json!("😀")));
    assert!(anna.history("carla").await.is_empty());

    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    assert_eq!(bruno.smile("c1", "anna").await, first + 1, "the same id from another sender counted as a repeat");
}

#[tokio::test]
async fn a_close_by_the_client_is_answered_and_counted() {
    let replica = TestReplica::start(&[]).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    client.write(&frame(FINAL | PING, b"are you there")).await;
    assert_eq!(client.frame().await, Some((PONG, b"are you there".to_vec())));
    client.write(&frame(FINAL | CLOSE, &1000_u16.to_be_bytes())).await;
    let (opcode, payload) = client.frame().await.unwrap();
    assert_eq!((opcode, payload.first_chunk()), (CLOSE, Some(&1000_u16.to_be_bytes())));
    assert_eq!(client.frame().await, None, "the server did not end the connection");
    let counted = "smilingchat_closes_total{code=\"1000\"}";
    eventually("the close is counted", async || metric(replica.ops_address, counted).await == Some(1.0)).await;
}

#[tokio::test]
async fn smiles_sent_before_a_close_are_stored() {
    let replica = TestReplica::start(&[]).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    let text = br#"{"type":"smile","id":"last","to":"bruno","smile":":)"}"#;
    client.write(&[frame(FINAL | TEXT, text), frame(FINAL | CLOSE, b"")].concat()).await;
    let stored = async || metric(replica.ops_address, "smilingchat_smiles_stored_total").await == Some(1.0);
    eventually("the smile is stored", stored).await;
}
