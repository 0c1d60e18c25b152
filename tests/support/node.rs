//! The real program as a child process, which can be stopped, killed and started again, and calls that may fail with it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use super::{settings, soon};

/// A process; it is killed when this is dropped.
pub struct Node {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub public: SocketAddr,
    pub api: SocketAddr,
}

/// A backend that is not there.
const NOBODY: &str = "http://127.0.0.1:9";

impl Node {
    /// Starts the program in a folder, over the folder `data` in it; resolves once it listens.
    pub async fn start(folder: &Path, fsync: &str) -> Self {
        Self::started(folder, fsync, NOBODY, Command::new(env!("CARGO_BIN_EXE_outrigger"))).await
    }

    /// The same in front of a backend.
    pub async fn start_before(backend: &str, folder: &Path) -> Self {
        Self::started(folder, "always", backend, Command::new(env!("CARGO_BIN_EXE_outrigger"))).await
    }

    /// The same, where no file may grow beyond so many KiB.
    pub async fn start_cramped(folder: &Path, kib: usize) -> Self {
        let mut shell = Command::new("bash");
        let script = format!("trap '' XFSZ; ulimit -S -f {kib}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_outrigger")]);
        Self::started(folder, "1s", NOBODY, shell).await
    }

    async fn started(folder: &Path, fsync: &str, backend: &str, mut command: Command) -> Self {
        let file = folder.join("outrigger.yaml");
        // Where there is no backend it cannot hear how clients left.
        let notices = if backend == NOBODY { "" } else { ", disconnect" };
        let data = format!(
            "data: {{ path: data, fsync: {fsync} }}\n\
             auth: {{ anonymous: true, jwt: {{ secret: '{}' }} }}\n\
             webhooks: {{ url: /hooks, secret: {}, events: [subscribe, publish{notices}] }}\n",
            settings::JWT_SECRET,
            settings::WEBHOOK_SECRET,
        );
        std::fs::write(&file, settings::yaml(backend, &data)).unwrap();
        command.args(["--log-format", "json", "run", "--config"]).arg(file);
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let public = address(&until(&mut log, "\"listening\"").await);
        let api = address(&until(&mut log, "listening for the backend").await);
        Self { child, log, public, api }
    }

    /// The next line of the log with these words.
    pub async fn says(&mut self, words: &str) -> String {
        until(&mut self.log, words).await
    }

    /// SIGKILL: no time for anything.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and the end of the drain.
    pub async fn stop(mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        soon("the node ends", self.child.wait()).await.unwrap()
    }

    pub fn pid(&self) -> Pid {
        let id = self.child.id().expect("it was not waited for");
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    /// `POST /push`, which must be answered.
    pub async fn push(&self, body: Value) -> (StatusCode, Value) {
        push(self.api, &body).await.expect("the node answers")
    }

    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", "api.test").body(Full::default()).unwrap();
        let (status, bytes) = call(self.api, request).await.expect("the node answers");
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }
}

async fn until(log: &mut Lines<BufReader<ChildStderr>>, words: &str) -> String {
    let mut said = Vec::new();
    loop {
        match soon(words, log.next_line()).await.unwrap() {
            Some(line) if line.contains(words) => return line,
            Some(line) => said.push(line),
            None => panic!("it never said {words}, but:\n{}", said.join("\n")),
        }
    }
}

fn address(line: &str) -> SocketAddr {
    let line: Value = serde_json::from_str(line).unwrap();
    let found = line.pointer("/fields/address").or(line.get("address")).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no address in {line}")).parse().unwrap()
}

/// None when the node goes away meanwhile.
pub async fn push(api: SocketAddr, body: &Value) -> Option<(StatusCode, Value)> {
    let request = Request::post("/push")
        .header("host", "api.test")
        .header("authorization", format!("Bearer {}", settings::PUSH_KEY))
        .body(Full::from(body.to_string()))
        .unwrap();
    let (status, bytes) = call(api, request).await?;
    Some((status, serde_json::from_slice(&bytes).ok()?))
}

/// A whole answer; none when the node goes away meanwhile.
pub async fn call(address: SocketAddr, request: Request<Full<Bytes>>) -> Option<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let response = soon("an answer or its end", sender.send_request(request)).await.ok()?;
    let status = response.status();
    let bytes = soon("the body or its end", response.into_body().collect()).await.ok()?.to_bytes();
    Some((status, bytes))
}
