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

    assert_eq!(said(&outrigger(folder.path(), &["check"])), (0, "outrigger.yaml is fine\n".to_owned(), String::new()));

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
