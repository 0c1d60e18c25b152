use std::path::Path;

use super::*;

fn read(text: &str) -> Result<Loaded, Problems> {
    read_in(Path::new("/nowhere"), text)
}

fn read_in(base: &Path, text: &str) -> Result<Loaded, Problems> {
    parse("outrigger.yaml", text, base, &|name| match name {
        "PORT" => Some("9000".into()),
        "EMPTY" => Some(String::new()),
        "SECRET" => Some("a secret from the environment, long enough".into()),
        _ => None,
    })
}

/// Errors and warnings, one a line, without the source.
fn complaints(text: &str) -> Vec<String> {
    let problems = read(text).map_or_else(|problems| problems, |loaded| loaded.warnings);
    let lines = problems.lines().map(|it| it.trim_start_matches("outrigger.yaml:").to_owned());
    // What every file without rules and keys is told; the tests that mean it look for it themselves.
    lines.filter(|it| !it.starts_with(' ')).collect()
}

#[test]
fn five_mistakes_are_reported_at_five_places() {
    let problems = read(
        "\
upstream:
  url: http://127.0.0.1:3000
  conect_timeout: 5s
realtime:
  heartbeat: { interval: 30, timeout: 60s }
channels:
  - match: room-*
    subscribe: public
  - match: news
    subscribe: publc
limits:
  connections: many
auth: { anonymous: true }
api: { keys: [ { name: backend, key: a-key-of-enough-bytes, scope: [push] } ] }
",
    )
    .unwrap_err();
    assert_eq!(
        problems.to_string(),
        "\
outrigger.yaml:3:3: unknown key `conect_timeout`; did you mean `connect_timeout`?
  |
3 |   conect_timeout: 5s
  |   ^^^^^^^^^^^^^^
outrigger.yaml:5:26: `30` needs a unit: write `30s` for seconds
  |
5 |   heartbeat: { interval: 30, timeout: 60s }
  |                          ^^
outrigger.yaml:7:12: `room-*` mixes text and a wildcard: `*`, `**` and `{user}` each stand for a whole segment between dots
  |
7 |   - match: room-*
  |            ^^^^^^
outrigger.yaml:10:16: `publc` is not known; did you mean `public`?
   |
10 |     subscribe: publc
   |                ^^^^^
outrigger.yaml:12:16: `many` is no whole number
   |
12 |   connections: many
   |                ^^^^
"
    );
}

#[test]
fn the_forms_of_the_contract_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("cert.pem", ""), ("key.pem", ""), ("push.key", "a-key-in-a-file-0001\n")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let text = "
listen:
  - address: 0.0.0.0:8443
    tls: { cert: cert.pem, key: key.pem }
  - address: 0.0.0.0:${PORT}
    tls: self_signed
upstream: { url: http://127.0.0.1:3000 }
realtime: { compression: null, allowed_origins: [same-origin, https://a.example], outbox: 2MiB }
auth: { jwt: { secret: \"${SECRET}\", algorithms: [HS256] } }
limits:
channels:
  - match: 'room.*'
    subscribe: grant
    publish: broadcast
    history: { size: 10, ttl: 1h 30m }
api: { keys: [ { name: b, key: { file: push.key }, scope: [push, read] } ] }
";
    let loaded = read_in(folder.path(), text).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let config = loaded.config;
    let Some(Tls::Pairs(pairs)) = &config.listen[0].tls else { panic!("no pair of files") };
    assert_eq!(pairs.0[0].cert, folder.path().join("cert.pem"));
    assert_eq!(config.listen[1].tls, Some(Tls::SelfSigned));
    assert_eq!(config.listen[1].address.to_string(), "0.0.0.0:9000");
    assert_eq!(config.realtime.compression, None);
    assert_eq!(config.realtime.outbox.0, Bytes(2 << 20));
    assert_eq!(config.channels[0].history.as_ref().unwrap().ttl.0.as_secs(), 5400);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.api.keys[0].key.reveal(), "a-key-in-a-file-0001");
    assert!(config.auth.jwt.as_ref().unwrap().secret.0[0].reveal().starts_with("a secret from"));
    assert_eq!(loaded.files.paths().count(), 3);
    let debug = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!debug.contains("a secret from") && !debug.contains("a-key-in"), "{debug}");
}

#[test]
fn what_is_no_yaml_is_said_with_its_usual_reason() {
    assert_eq!(
        complaints("listen:\n\t- address: x\n"),
        ["2:2: tabs disallowed within this context (block indentation); indent with spaces"]
    );
    assert_eq!(
        complaints("auth:\n  jwt: { secret: ${SECRET} }\n"),
        ["2:19: inside braces a variable needs quotes: write \"${SECRET}\""]
    );
    assert_eq!(
        complaints("channels:\n  - match: **\n"),
        ["2:12: a value that begins with `*` needs quotes: write \"**\""]
    );
    assert_eq!(
        complaints("upstream:\n  url: http://a\n ca: x\n"),
        ["3:2: this line is indented unlike those above it, or a `:` is missing"]
    );
    assert_eq!(complaints("upstream:\n  url: \"http://x\n"), ["2:8: unclosed quote"]);
    assert_eq!(complaints("{}\n---\n{}\n"), ["2:1: a second document begins here; the file is one document"]);
    let empty = read("# nothing\n").unwrap_err().to_string();
    assert_eq!(empty, "outrigger.yaml: the file is empty; `outrigger init` writes one to start from\n");
}

#[test]
fn each_wrong_value_says_what_would_be_right() {
    let mut missing = Vec::new();
    for (text, complaint) in [
        ("listen:\n  address: x", "2:3: expected a list, found keys; a `- ` before the first makes it an item"),
        ("trusted_proxies: 10.0.0.0/8", "1:18: expected a list: write `[10.0.0.0/8]`"),
        ("trusted_proxies: [ten]", "1:19: `ten` is no network such as `10.0.0.0/8`"),
        (
            "realtime: yes",
            "1:11: `yes` cannot stand here; expected keys such as `path`, `allowed_origins`, `heartbeat`, `compression`, …",
        ),
        ("auth: { anonymous: yes }", "1:20: `yes` is neither `true` nor `false`"),
        ("realtime: { outbox: 64 }", "1:21: `64` needs a unit: write `64KiB` or `1MiB`"),
        ("realtime: { outbox: }", "1:13: expected a size, found nothing"),
        ("realtime: { compression: { level: 12 } }", "1:35: 12 is too large: 9 is the most"),
        ("limits: { connections: 0 }", "1:24: 0 is too small: 1 is the least"),
        ("positions: ${NOPE}", "1:12: the variable `NOPE` is not set; `${NOPE:-…}` would give it a default"),
        ("positions: 1h\npositions: 2h", "2:1: `positions` is here twice, first on line 1"),
        ("channels: [ { subscribe: public } ]", "1:13: `match` is missing here"),
        ("api: { keys: [ { name: a, key: { fiel: x }, scope: [push] } ] }", "1:32: expected a text or `{file: PATH}`"),
        ("upstream: { ca: no.pem }", "1:17: cannot read `/nowhere/no.pem`: No such file or directory"),
        (
            "telemetry: { log: inof }",
            "1:19: `inof` is no level: error, warn, info, debug, trace, or `outrigger::proxy=debug,info`",
        ),
        (
            "realtime: { compression: off }",
            "1:26: `off` cannot stand here; expected keys such as `threshold`, `level` or `null` for none",
        ),
        ("api: { keys: [ { name: a } ] }", "1:16: `key`, `scope` are missing here"),
        ("upstream:\n  url:http://a", "2:3: `url:http://a` cannot stand here; write `url: http://a` with a space"),
        (
            "listen: [ { tls: true } ]",
            "1:18: `true` cannot stand here; expected `self_signed` or keys such as `cert`, `key` or `null` for none",
        ),
        ("listen: [ { tls: self_singed } ]", "1:18: `self_singed` is not known; did you mean `self_signed`?"),
        ("upstream: { ca: / }", "1:17: `/` is no file"),
        ("data: { fsync: 1s }", "1:7: `path` is missing here"),
        ("data: { path: d, fsync: 2s }", "1:25: `2s` is not known; did you mean `1s`?"),
        ("data: ''", "1:7: a folder needs a name"),
        (
            "webhooks: { on_error: maybe }",
            "1:23: `maybe` cannot stand here; expected `deny` or `allow` or keys such as",
        ),
        ("webhooks: { on_error: { conect: deny } }", "1:25: unknown key `conect`; did you mean `connect`?"),
        ("webhooks: { batch: 0 }", "1:20: 0 is too small: 1 is the least"),
        ("webhooks: { retry: { for: 0s } }", "1:27: this must be longer than zero"),
        ("webhooks: { events: [disconect] }", "1:22: `disconect` is not known; did you mean `disconnect`?"),
        ("engine: redis", "1:9: `redis` cannot stand here; expected `memory` or keys such as `redis`"),
        ("engine: { redi: {} }", "1:11: unknown key `redi`; did you mean `redis`?"),
    ] {
        let found = complaints(text);
        if !found.iter().any(|it| it.starts_with(complaint)) {
            missing.push(format!("{text}\n  expected {complaint}\n  found {found:#?}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn keys_that_contradict_each_other_are_found() {
    let mut missing = Vec::new();
    for (text, complaint) in [
        (
            "realtime:\n  heartbeat: { interval: 30s, timeout: 10s }",
            "2:40: the timeout of 10s must be longer than the interval of 30s",
        ),
        ("realtime:\n  outbox: 64KiB", "2:11: an outbox of 64KiB cannot hold a publication of 256KiB"),
        ("realtime:\n  poll: { session: 26s }", "2:20: a session of 26s ends before a poll of 25s"),
        (
            "drain: { deadline: 5s }",
            "1:20: the deadline of 5s is over before the delay of 5s and the spread of 20s are",
        ),
        ("listen: []", "1:1: there is no listener"),
        ("api: { listen: 127.0.0.1:8080 }", "1:16: 127.0.0.1:8080 is taken by another listener, 0.0.0.0:8080"),
        ("listen:\n  - { address: 0.0.0.0:80, redirect_to_https: true }", "2:47: no listener has `tls`"),
        ("listen:\n  - { address: 0.0.0.0:80, proxy_protocol: true }", "2:44: PROXY headers are believed only"),
        ("upstream: { url: http://localhost:8080 }", "1:18: http://localhost:8080 is a listener of this node"),
        ("auth: { jwt: { leeway: 1s } }", "1:9: tokens need a key"),
        ("auth: { jwt: { secret: short } }", "1:24: warning: this secret has 5 bytes"),
        ("auth: { jwt: { jwks: 'https://a.example/k', algorithms: [HS256] } }", "1:45: `jwks` holds public keys"),
        ("auth: { cookie: 'a b' }", "1:17: `a b` is no name of a cookie"),
        ("auth: { webhook: true }", "1:18: this asks the backend, but `webhooks.url` is not set"),
        ("auth: { anonymous: false }", "1:1: warning: nobody can connect in real time"),
        ("realtime: { allowed_origins: [app.example.com] }", "1:31: `app.example.com` is no origin"),
        (
            "realtime: { allowed_origins: 'https://a.example/' }",
            "1:30: an origin has no path: write `https://a.example`",
        ),
        (
            "auth: { jwt: { secret: x } }\nrealtime: { allowed_origins: '*' }",
            "2:30: warning: with \"*\" any web page can connect",
        ),
        ("channels: [ { match: a, subscribe: grant } ]", "1:36: nobody can follow `a`: grants come"),
        (
            "channels: [ { match: a, subscribe: public, presence: true } ]",
            "1:54: warning: nobody will be in `a`: members have an id",
        ),
        ("channels: [ { match: a, subscribe: user } ]", "1:36: nobody can follow `a`: nobody has an id"),
        (
            "channels: [ { match: a, subscribe: webhook } ]",
            "1:36: `subscribe: webhook` asks the backend, but `webhooks.url`",
        ),
        (
            "channels:\n  - match: a\n    publish: webhook\nwebhooks: { url: /w, events: [connect] }",
            "3:14: `publish: webhook` asks the backend, but `publish` is not in",
        ),
        ("channels: [ { match: 'a.**' }, { match: a.b } ]", "1:41: warning: this rule is never used: `a.**` above it"),
        ("engine: { redis: {} }", "1:11: an address is missing, such as `redis://host:6379`"),
        ("engine: { redis: { url: 'cache:6379' } }", "1:25: this is no URL such as `redis://host:6379`"),
        ("engine: { redis: { url: 'redis://a/1', cluster: true } }", "1:25: a cluster has no databases"),
        ("engine: { redis: { url: 'redis://a', prefix: '' } }", "1:46: a prefix is at least one letter"),
        (
            "engine: { redis: { url: 'redis://a', sentinel: { master: m, url: 'redis://s' } } }",
            "1:25: the sentinels say where the master is",
        ),
        ("channels: [ { match: a, min_interval: 0s } ]", "1:39: this must be 10ms to 1h"),
        ("realtime: { path: realtime }", "1:19: `realtime` is no path such as `/realtime`"),
        ("webhooks: { url: /w }", "1:1: `webhooks.secret` is missing"),
        ("webhooks: { url: / }", "1:18: the public listeners answer this path with 404"),
        ("webhooks: { url: /realtime/hook }", "1:18: everything under `/realtime` is answered here"),
        ("webhooks: { secret: whsec_# }", "1:21: what follows `whsec_` is not base64"),
        ("api: { keys: [] }", "1:8: warning: `api.keys` is empty"),
        ("api: { listen: 0.0.0.0:8700 }", "1:16: warning: keys travel to 0.0.0.0:8700 unencrypted"),
    ] {
        let found = complaints(text);
        if !found.iter().any(|it| it.starts_with(complaint)) {
            missing.push(format!("{text}\n  expected {complaint}\n  found {found:#?}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn what_holds_without_an_answer_is_one_word_or_one_for_each() {
    let on_error = |text: &str| read(&format!("webhooks: {{ {text} }}")).unwrap().config.webhooks.on_error;
    let all = on_error("on_error: allow");
    assert_eq!((all.connect, all.subscribe, all.publish), (OnError::Allow, OnError::Allow, OnError::Allow));
    let each = on_error("on_error: { publish: allow }");
    assert_eq!((each.connect, each.subscribe, each.publish), (OnError::Deny, OnError::Deny, OnError::Allow));
    assert_eq!(serde_json::to_string(&all).unwrap(), r#""allow""#);
    let written = r#"{"connect":"deny","subscribe":"deny","publish":"allow"}"#;
    assert_eq!(serde_json::to_string(&each).unwrap(), written);
}

#[test]
fn a_rule_that_cannot_be_read_does_not_hide_what_is_wrong_with_the_others() {
    let found = complaints(
        "auth: { anonymous: true }\nchannels:\n  - { match: a, subscribe: publc }\n  - { match: b, subscribe: webhook }\n",
    );
    assert!(found[0].starts_with("3:28: `publc` is not known"), "{found:#?}");
    assert!(found[1].starts_with("4:28: `subscribe: webhook` asks the backend"), "{found:#?}");
}

#[test]
fn no_secret_is_shown_with_a_problem() {
    for text in [
        "auth: { jwt: { secret: hunter2hunter2, algoritms: [] } }",
        "auth: { jwt: { secrets: [hunter2hunter2], leeway: 5 } }",
        "auth:\n  jwt:\n    secret:\n      - hunter2hunter2\n      - \"unclosed\nhunter2hunter2",
        "api: { keys: [ { name: a, key: hunter2hunter2, scope: push } ] }",
        "api: { keys: [ { name: a, key: hunter2hunter2, scope: [push] } }",
        "webhooks: { secret: whsec_hunter2hunter2! }",
        "webhooks:\n  secret:\n    hunter2hunter2: x\n",
        "engine: { redis: { url: 'redis://:hunter2@host:x' } }",
        "engine: { redis: { url: [ 'redis://:hunter2@host' ], password: hunter2hunter2, clustr: true } }",
        "engine: { redis: { url: 'redis://:hunter2@host, clustr: true }",
    ] {
        let shown = read(text).map_or_else(|it| it.to_string(), |it| it.warnings.to_string());
        assert!(!shown.is_empty() && !shown.contains("hunter2"), "{text}\n{shown}");
    }
}

#[test]
fn what_the_environment_holds_is_not_shown_with_a_problem() {
    for text in ["upstream: { url: \"htp://user:${SECRET}@host\" }", "upstream: { response_timeout: \"${SECRET}\" }"] {
        let shown = read(text).unwrap_err().to_string();
        assert!(shown.contains("${SECRET}") && !shown.contains("from the environment"), "{shown}");
    }
}

#[test]
fn aliases_stand_for_what_they_name_but_cannot_fill_the_memory() {
    let loaded = read("limits: { connections: &n 7, connections_per_ip: *n }").unwrap();
    assert_eq!(loaded.config.limits.connections_per_ip, 7);
    let mut text = String::from("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
    for at in 1..9 {
        let before = at - 1;
        text += &format!("a{at}: &a{at} [{}]\n", vec![format!("*a{before}"); 10].join(","));
    }
    assert!(complaints(&text)[0].contains("nested too deeply, or too much"));
}

#[test]
fn a_difference_names_its_keys_and_what_takes_a_restart() {
    let old = read("auth: { jwt: { secret: one } }\nlisten: [ { address: 0.0.0.0:1 } ]").unwrap().config;
    let new = read("auth: { jwt: { secret: two } }\nlisten: [ { address: 0.0.0.0:2 } ]\nchannels: [ { match: a } ]")
        .unwrap()
        .config;
    assert_eq!(diff(&old, &old), []);
    let changes: Vec<(String, String, bool)> =
        diff(&old, &new).into_iter().map(|it| (it.key, format!("{} → {}", it.from, it.to), it.needs_restart)).collect();
    let expected = [
        ("listen.0.address", "\"0.0.0.0:1\" → \"0.0.0.0:2\"", true),
        ("channels.0", "null → {", false),
        ("auth.jwt.secret.0", "\"***\" → \"***\"", false),
    ];
    assert_eq!(changes.len(), expected.len(), "{changes:#?}");
    for ((key, change, restart), (expected_key, expected_change, expected_restart)) in changes.iter().zip(expected) {
        assert_eq!((key.as_str(), *restart), (expected_key, expected_restart));
        assert!(change.starts_with(expected_change), "{change}");
    }
}

/// `UPDATE=1 cargo test example` writes the file anew.
#[test]
fn the_example_holds_every_key_with_its_sentence_and_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.yaml");
    let expected = example::example(&schema());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == expected, "config.example.yaml is not what the code says: UPDATE=1 cargo test example");
    assert_eq!(read(&expected).unwrap().config, Config::default());

    // With the comments taken in, every key of the schema is there, and each fits.
    let taken_in = expected.lines().filter(|it| !it.trim_start().starts_with("# ")).map(|it| it.replacen('#', "", 1));
    let mut lines: Vec<String> = taken_in.collect();
    for at in (1..lines.len()).rev() {
        let key = |line: &str| line.split(": ").next().map(|it| it.trim_end_matches(':').to_owned());
        if key(&lines[at]) == key(&lines[at - 1]) {
            lines.remove(at - 1);
        }
    }
    let found = complaints(&lines.join("\n"));
    let is_expected = |it: &String| it.contains("cannot read") || it.contains("PUSH_KEY") || it.contains("warning");
    assert!(found.iter().all(is_expected), "{found:#?}");
}
