use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output};

fn outrigger(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.current_dir(folder).args(arguments).env_remove("OUTRIGGER_URL").env_remove("OUTRIGGER_KEY");
    command.output().expect("the program is built with its tests")
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn init_writes_a_file_that_checks_and_signs_tokens_it_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let (code, steps, _) = said(&outrigger(folder.path(), &["init", "--upstream", "http://127.0.0.1:3000"]));
    assert_eq!(code, 0);
    assert!(steps.contains("4. Push") && steps.contains("outrigger run"), "{steps}");
    let again = said(&outrigger(folder.path(), &["init", "--upstream", "http://127.0.0.1:3000"]));
    assert_eq!((again.0, again.2.contains("stays as it is")), (2, true), "{again:?}");

    let plan = "outrigger.yaml is fine: 0.0.0.0:8080 → http://127.0.0.1:3000, 2 channel rules, API on 127.0.0.1:8700\n";
    assert_eq!(said(&outrigger(folder.path(), &["check"])), (0, plan.to_owned(), String::new()));

    let sign = ["token", "--user", "42", "--channel", "room.*", "--claim", "tenant=7"];
    let (code, token, _) = said(&outrigger(folder.path(), &sign));
    assert_eq!(code, 0);
    let (code, explained, _) = said(&outrigger(folder.path(), &["token", "verify", token.trim()]));
    assert_eq!(code, 0);
    assert!(explained.contains("as user 42") && explained.contains("\"tenant\":7"), "{explained}");
    let (code, _, refused) = said(&outrigger(folder.path(), &["token", "verify", &format!("{}x", token.trim())]));
    assert_eq!((code, refused.contains("refused")), (1, true), "{refused}");
}

#[test]
fn a_bad_file_and_bad_usage_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "upstream: { timout: 5s }\nlimits: { connections: x }\n").unwrap();
    let (code, stdout, stderr) = said(&outrigger(folder.path(), &["check", "--config", "bad.yaml"]));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.starts_with("bad.yaml: warning") || stderr.starts_with("bad.yaml:1:13: unknown key `timout`"),
        "{stderr}"
    );
    assert!(stderr.contains("bad.yaml:2:24: `x` is no whole number"), "{stderr}");
    assert!(stderr.contains("2 errors"), "{stderr}");
    let (code, _, stderr) = said(&outrigger(folder.path(), &["run"]));
    assert_eq!((code, stderr.contains("outrigger init --upstream URL")), (2, true), "{stderr}");
    assert_eq!(said(&outrigger(folder.path(), &["frobnicate"])).0, 2);
}

#[test]
fn the_exit_code_stands_even_if_nobody_reads_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outrigger.yaml"), "nope: 1\n").unwrap();
    let (reader, nobody_reads) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let status = command.current_dir(folder.path()).arg("check").stderr(nobody_reads).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_data_folder_that_cannot_be_made_is_found_before_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    std::fs::write(folder.path().join("outrigger.yaml"), "data: file/below\n").unwrap();
    let (code, _, stderr) = said(&outrigger(folder.path(), &["check"]));
    assert_eq!(
        (code, stderr.contains("the data folder") && stderr.contains("file is no folder")),
        (2, true),
        "{stderr}"
    );
    let (code, _, stderr) = said(&outrigger(folder.path(), &["run"]));
    assert_eq!((code, stderr.contains("file/below cannot be used")), (1, true), "{stderr}");
    std::fs::write(folder.path().join("outrigger.yaml"), "data: { path: new/below }\n").unwrap();
    assert_eq!(said(&outrigger(folder.path(), &["check"])).0, 0);
    assert!(!folder.path().join("new").exists(), "looking makes nothing");
}

#[test]
fn a_certificate_that_does_not_fit_its_key_is_found_before_it_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let one = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["b.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), one.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), other.signing_key.serialize_pem()).unwrap();
    let text = "listen:\n  - { address: '127.0.0.1:0', tls: { cert: cert.pem, key: key.pem } }\n";
    std::fs::write(folder.path().join("outrigger.yaml"), text).unwrap();
    let (code, _, stderr) = said(&outrigger(folder.path(), &["check"]));
    assert_eq!((code, stderr.contains("cert.pem")), (2, true), "{stderr}");
}

#[test]
fn a_node_out_of_reach_is_a_failure_at_run_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = ["--url", "http://127.0.0.1:1", "--key", "k"];
    let (code, _, stderr) = said(&outrigger(folder.path(), &[&["push", "a", "1"][..], &node].concat()));
    assert_eq!((code, stderr.contains("does not answer")), (1, true), "{stderr}");
    let (code, _, stderr) = said(&outrigger(folder.path(), &[&["push", "a", "hello"][..], &node].concat()));
    assert_eq!((code, stderr.contains("this is no JSON")), (2, true), "{stderr}");
}

/// Answers one request with this, and tells what it was asked.
fn answering_once(answer: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let mut socket = BufReader::new(listener.accept().unwrap().0);
        let (mut asked, mut length) = (String::new(), 0);
        while !asked.ends_with("\r\n\r\n") {
            let start = asked.len();
            socket.read_line(&mut asked).unwrap();
            let line = asked[start..].to_lowercase();
            length = line.strip_prefix("content-length:").map_or(length, |it| it.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).unwrap();
        socket.get_mut().write_all(answer.as_bytes()).unwrap();
        asked + &String::from_utf8(body).unwrap()
    });
    (url, asked)
}

fn answer(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[test]
fn a_push_carries_what_the_flags_say_and_ends_as_its_receipt_does() {
    let folder = tempfile::tempdir().unwrap();
    let push = |answer: String| {
        let (url, asked) = answering_once(answer);
        let flags = ["push", "room.5", "{\"n\":1}", "--event", "said", "--id", "m1", "--key", "k", "--url", &url];
        (said(&outrigger(folder.path(), &flags)), asked.join().unwrap())
    };
    let ((code, receipt, _), asked) = push(answer("200 OK", "application/json", "{\"status\":\"taken\"}"));
    assert_eq!((code, receipt.as_str()), (0, "{\"status\":\"taken\"}\n"));
    assert!(asked.starts_with("POST /push HTTP/1.1\r\n") && asked.contains("Bearer k\r\n"), "{asked}");
    let body: serde_json::Value = serde_json::from_str(asked.split("\r\n\r\n").last().unwrap()).unwrap();
    assert_eq!(body, serde_json::json!({ "channel": "room.5", "data": { "n": 1 }, "event": "said", "id": "m1" }));

    let ((code, _, stderr), _) =
        push(answer("503 Service Unavailable", "application/json", "{\"status\":\"refused\"}"));
    assert_eq!((code, stderr.contains("not taken")), (1, true), "{stderr}");
    let problem = answer("401 Unauthorized", "application/problem+json", "{\"detail\":\"this key is not known\"}");
    let ((code, _, stderr), _) = push(problem);
    assert_eq!((code, stderr.contains("this key is not known")), (1, true), "{stderr}");
}

/// Ends the node with the test.
struct Node(std::process::Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_changed_file_is_taken_while_the_node_runs_and_push_reaches_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outrigger.yaml");
    let write = |level: &str| {
        let text = format!(
            "listen: [ {{ address: '127.0.0.1:0' }} ]\nauth: {{ anonymous: true }}\ntelemetry: {{ log: {level} }}\n\
             channels: [ {{ match: a, subscribe: public }} ]\n\
             api:\n  listen: 'unix:{}/o.sock'\n  keys: [ {{ name: b, key: a-key-of-enough-bytes, scope: [push] }} ]\n",
            folder.path().display()
        );
        std::fs::write(&file, text).unwrap();
    };
    write("info");
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.current_dir(folder.path()).args(["run", "--log-format", "json"]).stderr(std::process::Stdio::piped());
    let mut node = Node(command.spawn().unwrap());
    let mut log = std::io::BufRead::lines(std::io::BufReader::new(node.0.stderr.take().unwrap())).map_while(Result::ok);
    let mut until = |words: &str| log.find(|it| it.contains(words)).unwrap_or_else(|| panic!("no line says {words}"));

    until("listening for the backend");
    let (code, receipt, stderr) = said(&outrigger(folder.path(), &["push", "a", "{}"]));
    assert_eq!((code, receipt.contains("\"taken\"")), (0, true), "{receipt}{stderr}");

    write("inof");
    assert!(until("not taken").contains("`inof` is no level"));
    write("debug");
    assert!(until("configuration taken").contains("telemetry.log"));
}
