//! Real servers as child processes on free ports, and a relay in front of them that can swallow what passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::PATIENCE;

/// A redis-server with a folder of its own. It ends with the value, and with the test's thread.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    folder: TempDir,
    options: Vec<String>,
}

impl RedisServer {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// `options` as redis-server takes them: `--appendonly`, `yes`.
    pub async fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        // Somebody may take a free port before the server does.
        for _ in 0..5 {
            let port = free_port();
            let mut child = spawn(port, &folder, &options);
            if answers(port, &mut child).await {
                return Self { child, port, folder, options };
            }
        }
        panic!("redis-server does not start: {}", log_of(&folder));
    }

    /// A sentinel that watches a master and promotes a replica soon after that is gone.
    pub async fn sentinel(master: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let watch = format!(
            "sentinel monitor mymaster 127.0.0.1 {master} 1\nsentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 5000\n"
        );
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, watch).unwrap();
        let port = free_port();
        let mut child = command()
            .arg(file)
            .args(["--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1", "--logfile", "log", "--dir"])
            .arg(folder.path())
            .spawn()
            .expect("redis-server is installed");
        assert!(answers(port, &mut child).await, "the sentinel does not start: {}", log_of(&folder));
        Self { child, port, folder, options: Vec::new() }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Ends it at once; what it has not written is lost.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }

    /// It accepts connections, but does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again on its port, with what it had written.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.child = spawn(self.port, &self.folder, &self.options);
        assert!(answers(self.port, &mut self.child).await, "it does not come back: {}", log_of(&self.folder));
    }

    /// Starts it again on its port, with nothing.
    pub async fn restart_empty(&mut self) {
        self.kill().await;
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        self.restart().await;
    }

    /// One command, as `redis-cli` would send it; the answer as it comes.
    pub async fn ask(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        // What comes before the answer to this is the answer.
        command += "*1\r\n$4\r\nPING\r\n";
        stream.write_all(command.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"+PONG\r\n") {
            let read = super::soon("redis answers", stream.read_buf(&mut answer)).await.unwrap();
            assert!(read > 0, "the connection ends after {}", String::from_utf8_lossy(&answer));
        }
        answer.truncate(answer.len() - b"+PONG\r\n".len());
        String::from_utf8(answer).unwrap()
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id().and_then(|it| Pid::from_raw(i32::try_from(it).unwrap())) {
            // It may have ended by itself.
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn spawn(port: u16, folder: &TempDir, options: &[String]) -> Child {
    command()
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--logfile", "log", "--dir"])
        .arg(folder.path())
        .args(options)
        .spawn()
        .expect("`setpriv` and `redis-server` are installed (Debian: util-linux, redis-server)")
}

/// A test that is killed takes its servers with it.
fn command() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "redis-server"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

async fn answers(port: u16, child: &mut Child) -> bool {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    let trying = async {
        loop {
            every.tick().await;
            if child.try_wait().is_ok_and(|it| it.is_some()) {
                return false;
            }
            if ping(port).await.unwrap_or(false) {
                return true;
            }
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.unwrap_or(false)
}

async fn ping(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    // Anything else is `-LOADING` or, with a password, `-NOAUTH`.
    Ok(&answer == b"+PONG\r\n" || &answer == b"-NOAUTH")
}

fn log_of(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Stands between a node and a server: passes everything on, or swallows it without a word.
pub struct Relay {
    pub address: SocketAddr,
    swallows: watch::Sender<bool>,
    _accepting: JoinSet<()>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let swallows = watch::Sender::new(false);
        let mut accepting = JoinSet::new();
        let watched = swallows.clone();
        accepting.spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let Ok(far) = TcpStream::connect(server).await else { continue };
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                passing.spawn(pass(from_near, to_far, watched.subscribe()));
                passing.spawn(pass(from_far, to_near, watched.subscribe()));
            }
        });
        Self { address, swallows, _accepting: accepting }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// A black hole: connections stay open, and nothing comes through.
    pub fn swallow(&self) {
        self.swallows.send_replace(true);
    }

    pub fn pass_on(&self) {
        self.swallows.send_replace(false);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut swallows: watch::Receiver<bool>,
) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if swallows.wait_for(|it| !it).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
