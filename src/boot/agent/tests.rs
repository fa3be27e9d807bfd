use std::io::{BufRead, BufReader};
use std::thread::JoinHandle;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

/// An agent that hands each request, without a leading sentinel, to `answer` and writes what that
/// returns, in pieces.
fn agent(
    mut answer: impl FnMut(&Value) -> Vec<Vec<u8>> + Send + 'static,
) -> (Agent, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let mut writer = theirs.try_clone().unwrap();
        for line in BufReader::new(theirs).split(b'\n') {
            let line = line.unwrap();
            let text = line.strip_prefix(&[SENTINEL]).unwrap_or(&line);
            for piece in answer(&serde_json::from_slice(text).unwrap()) {
                // The other side may have had enough.
                let _ = writer.write_all(&piece);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    (Agent::new(ours), thread)
}

/// The answer to a synchronisation, or what `other` says to anything else.
fn or_number(request: &Value, other: impl FnOnce(&str, &Value) -> Value) -> Vec<Vec<u8>> {
    let arguments = &request["arguments"];
    match request["execute"].as_str().unwrap() {
        "guest-sync-delimited" => vec![
            [SENTINEL].to_vec(),
            format!("{}\n", json!({ "return": arguments["id"] })).into_bytes(),
        ],
        command => vec![format!("{}\n", other(command, arguments)).into_bytes()],
    }
}

#[test]
fn a_program_is_started_and_waited_for() {
    let mut asked = 0;
    let (mut agent, _) = agent(move |request| {
        or_number(request, |command, arguments| match command {
            "guest-exec" => {
                assert_eq!(arguments["path"], "/bin/echo");
                assert_eq!(arguments["arg"], json!(["a b", "c"]));
                assert_eq!(arguments["capture-output"], true);
                json!({ "return": { "pid": 7 } })
            }
            "guest-exec-status" => {
                asked += 1;
                assert_eq!(arguments["pid"], 7);
                match asked {
                    1 => json!({ "return": { "exited": false } }),
                    _ => {
                        json!({ "return": { "exited": true, "exitcode": 3, "out-data": "YSBiIGMK" } })
                    }
                }
            }
            other => panic!("{other}"),
        })
    });
    let output = agent.execute(&["/bin/echo", "a b", "c"], LONG).unwrap().unwrap();
    assert_eq!((output.code, output.text()), (Some(3), "a b c".to_owned()));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_program_that_does_not_end_is_given_up() {
    let (mut agent, _) = agent(|request| {
        or_number(request, |command, _| match command {
            "guest-exec" => json!({ "return": { "pid": 7 } }),
            _ => json!({ "return": { "exited": false } }),
        })
    });
    assert_eq!(agent.execute(&["/bin/sleep"], Duration::from_millis(50)).unwrap(), None);
}

#[test]
fn what_was_said_before_is_thrown_away() {
    let (mut agent, _) = agent(|request| {
        let mut pieces = or_number(request, |_, _| json!({ "return": {} }));
        if request["execute"] == "guest-sync-delimited" {
            // Stale answers, half of one, and what a terminal might say.
            pieces
                .insert(0, b"{\"return\":{}}\n{\"return\": 999}\nlogin: \x1b[0m\n{\"ret".to_vec());
        }
        pieces
    });
    agent.ping(LONG).unwrap();
    agent.ping(LONG).unwrap();
}

#[test]
fn answers_may_come_in_pieces() {
    let (mut agent, _) = agent(|request| {
        let whole = or_number(request, |_, _| json!({ "return": [] })).concat();
        whole.chunks(3).map(<[u8]>::to_vec).collect()
    });
    assert_eq!(agent.interfaces().unwrap(), []);
}

#[test]
fn an_agent_that_comes_late_is_waited_for() {
    let mut deaf = 1;
    let (mut agent, _) = agent(move |request| {
        if deaf > 0 {
            deaf -= 1;
            return Vec::new();
        }
        or_number(request, |_, _| json!({ "return": {} }))
    });
    agent.synchronise(LONG).unwrap();
}

#[test]
fn silence_and_its_end_are_told_apart() {
    let (mut silent, _) = agent(|_| Vec::new());
    assert!(matches!(silent.ping(SECOND / 10), Err(Error::Silent)));

    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(Agent::new(ours).ping(SECOND), Err(Error::Closed(_))));
}

#[test]
fn after_an_answer_that_came_too_late_the_next_one_is_not_mistaken() {
    let mut asked = 0;
    let (mut agent, _) = agent(move |request| {
        or_number(request, |command, _| {
            asked += 1;
            match (command, asked) {
                ("guest-ping", 1) => {
                    std::thread::sleep(SECOND / 2);
                    json!({ "return": "late" })
                }
                _ => json!({ "return": [] }),
            }
        })
    });
    agent.synchronise(LONG).unwrap();
    assert!(matches!(agent.ping(SECOND / 20), Err(Error::Silent)));
    assert_eq!(agent.interfaces().unwrap(), []);
}

#[test]
fn refusals_and_nonsense_are_told_with_the_command() {
    let cases = [
        (json!({ "error": { "class": "GenericError", "desc": "no such file" } }), "no such file"),
        (json!({ "error": 5 }), "neither"),
        (json!([]), "neither"),
        (json!({ "return": { "pid": "x" } }), "invalid type"),
    ];
    for (answer, expected) in cases {
        let (mut agent, _) = agent(move |request| or_number(request, |_, _| answer.clone()));
        let error = agent.execute(&["/x"], LONG).unwrap_err().to_string();
        assert!(error.contains("guest-exec") && error.contains(expected), "{error}");
    }
    let (mut agent, _) = agent(|request| {
        let pieces = or_number(request, |_, _| Value::Null);
        if request["execute"] == "guest-ping" { vec![b"\x00\xfe{]\n".to_vec()] } else { pieces }
    });
    assert!(matches!(agent.ping(LONG), Err(Error::Garbled { .. })));
}

#[test]
fn an_answer_without_end_is_given_up() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || while theirs.write_all(&[b'x'; 1 << 20]).is_ok() {});
    let error = Agent::new(ours).synchronise(LONG).unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
}

#[test]
fn interfaces_are_read_with_their_addresses() {
    let (mut agent, _) = agent(|request| {
        or_number(request, |_, _| {
            json!({ "return": [
                { "name": "lo", "hardware-address": "00:00:00:00:00:00",
                  "ip-addresses": [{ "ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8 }] },
                { "name": "eth1" },
            ] })
        })
    });
    let interfaces = agent.interfaces().unwrap();
    assert_eq!(interfaces[0].addresses[0].address, "127.0.0.1");
    assert_eq!(interfaces[1].addresses, []);
}
