//! More connections than there may be: who comes beyond is told so, over TLS and by HTTP/2 as well, probes are answered,
//! and who was there before is served on.

use std::{sync::Arc, time::Instant};

use axum::{body::Bytes, http::Request};
use h2::client::SendRequest;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::{
    super::{
        Answer,
        program::Program,
        tls::{self, Authority},
    },
    Attacked, more_files,
};
use crate::support::{Process, eventually, eventually::PATIENCE};

/// Few places, which are kept by whoever says nothing.
const FULL: [(&str, &str); 3] = [
    ("FENCEGATE_MAX_CONNECTIONS", "50"),
    ("FENCEGATE_FIRST_HEAD_TIMEOUT", "5m"),
    ("FENCEGATE_HEAD_TIMEOUT", "5m"),
];

#[tokio::test]
async fn who_comes_when_there_are_too_many_connections_is_told_and_probes_are_answered() {
    let gateway = Attacked::new(&FULL).await;
    let begun = Instant::now();
    let mut early = gateway.connect().await;
    let mut crowd = gateway.crowd(60).await;
    gateway.serves_early(&mut early).await;
    for probe in ["/livez", "/readyz", "/metrics"] {
        gateway.ask(probe).await.expect(200);
    }
    let refused = gateway.ask_with("/v1/fences", "").await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("connection"), Some("close"));
    refused.problem(503, "too-many-connections");

    // One line a second, however many come.
    crowd.extend(gateway.crowd(500).await);
    eventually(PATIENCE, async || {
        let text = String::from_utf8(gateway.ask("/metrics").await.body).unwrap();
        let count = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.expect(name).trim().parse().unwrap()
        };
        assert!(count("fencegate_client_connections ") <= 56, "{text}");
        assert!(
            count("fencegate_connections_refused_total{how=\"told\"}") >= 4,
            "{text}"
        );
        count("fencegate_connections_refused_total{how=\"closed\"}") >= 500
    })
    .await;
    let (lines, seconds) = (gateway.said("could not be accepted"), begun.elapsed().as_secs());
    assert!(
        (1..=seconds as usize + 1).contains(&lines),
        "{lines} lines in {seconds} s"
    );

    drop(crowd);
    eventually(PATIENCE, async || gateway.ask("/v1/fences").await.status == 200).await;
}

#[tokio::test]
async fn idle_connections_make_place_for_others() {
    let settings = [
        ("FENCEGATE_MAX_CONNECTIONS", "50"),
        ("FENCEGATE_FIRST_HEAD_TIMEOUT", "1s"),
    ];
    let gateway = Attacked::new(&settings).await;
    let _crowd = gateway.crowd(60).await;
    eventually(PATIENCE, async || gateway.ask("/v1/fences").await.status == 200).await;
}

/// Also where the system allows few of them.
#[tokio::test]
async fn files_are_left_for_the_store_whoever_comes() {
    let gateway = Attacked::with_files(256).await;
    let mut early = gateway.connect().await;
    let _crowd = gateway.crowd(400).await;
    gateway.ask("/readyz").await.expect(200);
    gateway.serves_early(&mut early).await;
    assert_eq!(
        gateway.said("the limit of open files allows fewer connections"),
        1
    );
    assert_eq!(gateway.said("Too many open files"), 0);
}

/// A gateway with 50 places, over TLS.
struct Secured {
    _program: Program,
    authority: Authority,
    _process: Process,
    url: String,
    port: u16,
}

impl Secured {
    async fn new() -> Self {
        let (program, authority) = (Program::new(), Authority::new());
        authority.server(program.folder.path());
        let mut command = program.command(&[
            "serve",
            "--listen=127.0.0.1:0",
            "--tls-certificate=tls.pem",
            "--tls-key=tls.key",
        ]);
        command.envs(FULL);
        let (_process, url) = tls::serve(&program, command).await;
        let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
        Self {
            _program: program,
            authority,
            _process,
            url,
            port,
        }
    }

    /// A connection by HTTP/2, if there is a place.
    async fn http2(&self) -> std::io::Result<Http2> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let mut roots = RootCertStore::empty();
        let pem = self.authority.pem();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Http2::over(stream).await
    }
}

/// A connection by HTTP/2.
struct Http2 {
    requests: SendRequest<Bytes>,
    end: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> std::io::Result<Self> {
        let (requests, connection) = h2::client::handshake(stream)
            .await
            .map_err(std::io::Error::other)?;
        let end = tokio::spawn(connection);
        Ok(Self { requests, end })
    }

    async fn get(&mut self, path: &str) -> Result<Answer, h2::Error> {
        let request = Request::get(format!("http://localhost{path}")).body(()).unwrap();
        let requests = self.requests.clone().ready().await?;
        self.requests = requests;
        let (answer, _) = self.requests.send_request(request, true)?;
        let (head, mut rest) = answer.await?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = rest.data().await {
            body.extend(data?);
        }
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    /// Finds that the gateway says good-bye, and closes the connection.
    async fn ends(mut self) {
        let end = tokio::time::timeout(PATIENCE, &mut self.end).await;
        if let Err(error) = end.expect("the connection is closed").unwrap() {
            // Closed before this end had acknowledged the good-bye.
            assert!(error.is_io(), "{error}");
        }
        assert!(self.get("/livez").await.is_err());
    }
}

/// Asks over a connection by HTTP/2 of its own, until there is a place to be told on.
async fn told_by_http2(connect: impl AsyncFn() -> std::io::Result<Http2>, path: &str) -> Answer {
    let mut told = None;
    eventually(PATIENCE, async || {
        let Ok(mut connection) = connect().await else {
            return false;
        };
        let Ok(answer) = connection.get(path).await else {
            return false;
        };
        connection.ends().await;
        told = Some(answer);
        true
    })
    .await;
    told.unwrap()
}

async fn all_are_told_by_http2(connect: impl AsyncFn() -> std::io::Result<Http2>) {
    // More often than there are places to be told on.
    for _ in 0..5 {
        for probe in ["/livez", "/readyz", "/metrics"] {
            told_by_http2(&connect, probe).await.expect(200);
        }
        let refused = told_by_http2(&connect, "/v1/fences").await;
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.header("connection"), None);
        refused.problem(503, "too-many-connections");
    }
}

#[tokio::test]
async fn by_http_2_they_are_told_so_once_a_connection() {
    let gateway = Attacked::new(&FULL).await;
    let connect = async || Http2::over(gateway.connect().await).await;
    let mut early = connect().await.unwrap();
    early.get("/v1/fences").await.unwrap().expect(200);
    let crowd = gateway.crowd(60).await;
    all_are_told_by_http2(connect).await;
    // Who was there before is not bound to one request.
    for _ in 0..3 {
        early.get("/v1/fences").await.unwrap().expect(200);
    }
    drop(crowd);
    eventually(PATIENCE, async || {
        let Ok(mut late) = connect().await else {
            return false;
        };
        late.get("/v1/fences")
            .await
            .is_ok_and(|answer| answer.status == 200)
            && late.get("/v1/fences").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn over_tls_they_are_told_so_as_well() {
    more_files();
    let gateway = Secured::new().await;
    let mut early = gateway.http2().await.unwrap();
    early.get("/v1/fences").await.unwrap().expect(200);
    // Those who have not begun the handshake have places, too.
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap());
    }
    let http = gateway.authority.client(None);
    let told = async |path: &str| {
        let mut told = None;
        eventually(PATIENCE, async || {
            let request = http.get(format!("{}{path}", gateway.url));
            told = request.send().await.ok();
            told.is_some()
        })
        .await;
        told.unwrap()
    };
    for _ in 0..5 {
        for probe in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(told(probe).await.status(), 200);
        }
        let refused = told("/v1/fences").await;
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(refused.headers()["connection"], "close");
        assert!(refused.text().await.unwrap().contains("too-many-connections"));
    }
    all_are_told_by_http2(async || gateway.http2().await).await;
    early.get("/v1/fences").await.unwrap().expect(200);
    drop(crowd);
    eventually(PATIENCE, async || told("/v1/fences").await.status() == 200).await;
}
