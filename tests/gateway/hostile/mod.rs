//! Clients that mean harm: they cost little memory, and others are served meanwhile.

mod crowded;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use axum::http::Request;
use futures::future::select_all;
use reqwest::Method;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Answer, Client, client::record, program::Program};
use crate::support::{Process, eventually, eventually::PATIENCE};

const MIB: usize = 1 << 20;

/// This process holds the other end of every connection.
fn more_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

struct Attacked {
    _program: Program,
    process: Process,
    client: Client,
    port: u16,
    token: String,
}

impl Attacked {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let program = Program::new();
        let command = program.command(&["serve", "--listen", "127.0.0.1:0"]);
        Self::run(program, command, settings).await
    }

    /// Where the system lets it open so many files, and no more.
    async fn with_files(files: usize) -> Self {
        let program = Program::new();
        let serve = format!("ulimit -n {files} && exec \"$0\" serve --listen 127.0.0.1:0");
        let mut command = Command::new("/bin/sh");
        command.current_dir(program.folder.path()).env_clear();
        command.args(["-c", &serve, env!("CARGO_BIN_EXE_fencegate")]);
        Self::run(program, command, &[]).await
    }

    async fn run(program: Program, mut command: Command, settings: &[(&str, &str)]) -> Self {
        more_files();
        command.envs(settings.iter().copied());
        let (process, client) = program.serve(command).await;
        let token = client.lease("a", json!({"ttl": "1h"})).await.expect(201).token();
        let port = client.port();
        Self {
            _program: program,
            process,
            client,
            port,
            token,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// A connection on which this was sent, and nothing is read.
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        // It may be closed in the middle.
        let _ = stream.write_all(bytes).await;
        stream
    }

    async fn crowd(&self, size: usize) -> Vec<TcpStream> {
        let mut crowd = Vec::new();
        for _ in 0..size {
            crowd.push(self.connect().await);
        }
        crowd
    }

    /// Asks over a connection of its own, until there is an answer at all.
    async fn ask(&self, path: &str) -> Answer {
        self.ask_with(path, "Connection: close\r\n").await
    }

    async fn ask_with(&self, path: &str, header: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        let mut answer = Vec::new();
        eventually(PATIENCE, async || {
            answer.clear();
            let mut stream = self.send(request.as_bytes()).await;
            // Closed after the answer, or without one.
            let _ = stream.read_to_end(&mut answer).await;
            !answer.is_empty()
        })
        .await;
        Answer::parse(&answer)
    }

    async fn put_large(&self) -> Answer {
        self.client.put("a", "large", &self.token, &"x".repeat(MIB)).await
    }

    async fn post(&self, path: &str, body: String) -> Answer {
        Answer::to(self.client.request(Method::POST, path).body(body)).await
    }

    fn put(&self, rest: &str) -> String {
        format!(
            "PUT {} HTTP/1.1\r\nHost: localhost\r\nFencing-Token: {}\r\n{rest}",
            record("a", "k"),
            self.token
        )
    }

    /// Somebody who means no harm.
    async fn serves(&self) {
        let begun = Instant::now();
        let written = self.client.put("a", "good", &self.token, "well meant").await;
        assert!(matches!(written.status, 200 | 201), "{written:?}");
        let token = self.client.acquire("b").await;
        self.client.release("b", &token).await.expect(204);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "served after {took:?}");
    }

    /// Somebody who was there before the crowd.
    async fn serves_early(&self, early: &mut TcpStream) {
        let request = self.put("Content-Length: 1\r\n\r\nv");
        early.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let answered = early.read_exact(&mut answer);
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        answered.expect("an answer").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 201");
    }

    /// How often the log says so.
    fn said(&self, what: &str) -> usize {
        self.process.log().matches(what).count()
    }

    /// Bytes of memory that the gateway has had at the most.
    fn most_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// How many sockets it has open.
    fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }
}

/// One test, so that all of them are there at once.
#[tokio::test]
async fn a_crowd_of_hostile_clients_costs_little_and_others_are_served() {
    let gateway = Attacked::new(&[
        ("FENCEGATE_MAX_BODIES", "16MiB"),
        ("FENCEGATE_BODY_TIMEOUT", "5m"),
    ])
    .await;
    gateway.serves().await;
    let before = gateway.most_memory();

    let mut open = Vec::new();
    for _ in 0..2000 {
        open.push(gateway.connect().await);
    }
    for _ in 0..200 {
        open.push(gateway.send(b"GET /livez HTTP/1.1\r\nHost: loc").await);
    }
    gateway.serves().await;

    // Bodies that stay half way. Not all of them have room.
    let half = gateway.put(&format!("Content-Length: {MIB}\r\n\r\n")) + &"x".repeat(MIB / 2);
    let mut slow = Vec::new();
    for _ in 0..64 {
        slow.push(gateway.send(half.as_bytes()).await);
    }
    let answers = slow.iter_mut().map(|stream| {
        Box::pin(async {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.map(|_| answer)
        })
    });
    // Which of them, depends on who is read first.
    let first = tokio::time::timeout(PATIENCE, select_all(answers)).await;
    assert_eq!(&first.unwrap().0.unwrap(), b"HTTP/1.1 503");
    // Those that were refused have left room for others of their kind.
    let mut large = gateway.put_large().await;
    while large.status < 300 && slow.len() < 128 {
        slow.push(gateway.send(half.as_bytes()).await);
        large = gateway.put_large().await;
    }
    large.problem(503, "too-many-bodies");
    gateway.serves().await;

    // A gigabyte, announced or not.
    let announced = gateway.put("Content-Length: 1000000000\r\n\r\n");
    let chunked = gateway.put("Transfer-Encoding: chunked\r\n\r\n");
    for head in [announced, chunked.clone()] {
        let mut stream = gateway.send(head.as_bytes()).await;
        let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; MIB], b"\r\n"].concat();
        let mut sent = 0;
        while sent < 1000 && stream.write_all(&chunk).await.is_ok() {
            sent += 1;
        }
        assert!(sent < 100, "{sent} MiB were taken");
    }
    gateway.serves().await;

    let deep = "[".repeat(7_000);
    let deeper = "[".repeat(15_000);
    gateway
        .post("/v1/fences/a/lease", deep)
        .await
        .problem(400, "body-malformed");
    gateway
        .post("/v1/transactions", deeper)
        .await
        .problem(400, "body-malformed");
    let headers = "X-Header: x\r\n".repeat(10_000);
    for (garbage, status) in [
        (gateway.put(&headers), "HTTP/1.1 431"),
        ("\u{0}\u{1}\r\n\r\n".repeat(1000), "HTTP/1.1 400"),
        (
            "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".into(),
            "HTTP/1.1 400",
        ),
        (chunked + "fffffffffffffffff\r\n", "HTTP/1.1 400"),
    ] {
        let mut stream = gateway.send(garbage.as_bytes()).await;
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        // A reset is an answer as well.
        let _ = tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("the connection is closed");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with(status),
            "{status}: {answer}"
        );
    }
    // Cut in the middle, and gone.
    for _ in 0..100 {
        drop(gateway.send(&half.as_bytes()[..half.len() / 2]).await);
    }
    gateway.serves().await;
    let more = gateway.most_memory() - before;
    assert!(more < 160 * MIB as u64, "{} MiB more", more / MIB as u64);

    // What they had is there again when they are gone.
    drop((open, slow));
    eventually(PATIENCE, async || gateway.put_large().await.status < 300).await;
}

/// A client that asks and asks, and takes nothing of the answers.
#[tokio::test]
async fn whoever_takes_nothing_of_its_answer_is_cut_off() {
    let gateway = Attacked::new(&[("FENCEGATE_STALL_TIMEOUT", "500ms")]).await;
    gateway.put_large().await.expect(201);
    let before = gateway.sockets();
    let large = record("a", "large");
    let ask = format!("GET {large} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut idle = gateway.connect().await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        greedy.push(gateway.send(ask.repeat(50).as_bytes()).await);
    }
    eventually(PATIENCE, async || gateway.sockets() > before + 10).await;
    // Only the idle one is left.
    eventually(PATIENCE, async || gateway.sockets() <= before + 1).await;
    gateway.serves().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    Answer::read(idle).await.expect(200);
    // Slow, but it takes what it is sent.
    let request = gateway.client.request(Method::GET, &large);
    let mut answer = request.send().await.unwrap();
    let mut taken = 0;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        taken += chunk.len();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(taken, MIB);
}

/// Each answer is as large as a record may be, and its client lets none of it come.
#[tokio::test]
async fn whoever_takes_nothing_of_its_answers_by_http2_is_cut_off() {
    let gateway = Attacked::new(&[("FENCEGATE_STALL_TIMEOUT", "500ms")]).await;
    gateway.put_large().await.expect(201);
    let ask = || {
        let large = record("a", "large");
        Request::get(format!("http://localhost{large}")).body(()).unwrap()
    };
    for window in [0, 1, 20_000] {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (mut requests, connection) = builder
            .handshake::<_, Bytes>(gateway.connect().await)
            .await
            .unwrap();
        let end = tokio::spawn(connection);
        let mut answers = Vec::new();
        for _ in 0..50 {
            requests = requests.ready().await.unwrap();
            answers.push(requests.send_request(ask(), true).unwrap().0);
        }
        // None of them is read, and its window stays as it is.
        let ended = tokio::time::timeout(PATIENCE, end).await;
        // In an error or not: that is for the client's end of it to see.
        let _ = ended.unwrap_or_else(|_| panic!("it stands, with a window of {window}"));
        drop(answers);
    }
    gateway.serves().await;
    // Slow, but it takes what it is sent.
    let (requests, connection) = h2::client::handshake(gateway.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let (answer, _) = requests.send_request(ask(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["content-length"], MIB.to_string());
    let (mut body, mut taken) = (answer.into_body(), 0);
    let _: &mut h2::client::SendRequest<Bytes> = &mut requests;
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
        taken += length;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(taken, MIB);
}
