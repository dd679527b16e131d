//! The least of a client of the gateway: it sends what a test wants sent, and shows the answer as it is.

use std::{sync::Once, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, header::HeaderMap};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::documented;

#[derive(Clone)]
pub struct Client {
    port: u16,
    http: reqwest::Client,
}

impl Client {
    pub fn of(port: u16) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self { port, http }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("http://127.0.0.1:{}{path}", self.port))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// Asks for a lease with this JSON.
    pub async fn lease(&self, fence: &str, asked: Value) -> Answer {
        let request = self.request(Method::POST, &lease(fence));
        Answer::to(request.body(asked.to_string())).await
    }

    /// Acquires for longer than the test takes, and returns the token.
    pub async fn acquire(&self, fence: &str) -> String {
        let asked = serde_json::json!({"ttl": "5m"});
        self.lease(fence, asked).await.expect(201).token()
    }

    /// Waits for as long as it takes, and returns the token.
    pub async fn wait_for(&self, fence: &str) -> String {
        let asked = serde_json::json!({"ttl": "5m", "wait": "30s"});
        self.lease(fence, asked).await.expect(201).token()
    }

    pub async fn renew(&self, fence: &str, token: &str) -> Answer {
        Answer::to(
            self.request(Method::PUT, &lease(fence))
                .header("fencing-token", token),
        )
        .await
    }

    pub async fn release(&self, fence: &str, token: &str) -> Answer {
        Answer::to(
            self.request(Method::DELETE, &lease(fence))
                .header("fencing-token", token),
        )
        .await
    }

    pub async fn check(&self, fence: &str, token: &str) -> Answer {
        let path = format!("/v1/fences/{}/check", encode(fence));
        Answer::to(self.request(Method::POST, &path).header("fencing-token", token)).await
    }

    pub async fn put(&self, fence: &str, key: &str, token: &str, value: &str) -> Answer {
        let request = self.request(Method::PUT, &record(fence, key));
        Answer::to(request.header("fencing-token", token).body(value.to_owned())).await
    }

    pub async fn delete(&self, fence: &str, key: &str, token: &str) -> Answer {
        let request = self.request(Method::DELETE, &record(fence, key));
        Answer::to(request.header("fencing-token", token)).await
    }

    pub async fn read(&self, fence: &str, key: &str) -> Answer {
        self.get(&record(fence, key)).await
    }

    /// The record's text; none if there is no record.
    pub async fn value(&self, fence: &str, key: &str) -> Option<String> {
        let answer = self.read(fence, key).await;
        match answer.status {
            200 => Some(String::from_utf8(answer.body).unwrap()),
            404 => None,
            _ => panic!("{answer:?}"),
        }
    }

    /// The fence's mark, as epoch-sequence.
    pub async fn mark(&self, fence: &str) -> Option<String> {
        let answer = self.get(&format!("/v1/fences/{}", encode(fence))).await;
        let known = answer.status == 200;
        known
            .then(|| answer.json()["mark"].as_str().map(str::to_owned))
            .flatten()
    }

    /// Sends these bytes over a connection of their own, and reads until it is closed.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_ref()).await.unwrap();
        Answer::read(stream).await
    }
}

pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub fn lease(fence: &str) -> String {
    format!("/v1/fences/{}/lease", encode(fence))
}

pub fn record(fence: &str, key: &str) -> String {
    format!("/v1/fences/{}/records/{}", encode(fence), encode(key))
}

/// What everybody may see of a token.
pub fn number(token: &str) -> String {
    token.rsplit_once('-').unwrap().0.to_owned()
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub async fn to(request: reqwest::RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let answer = client.execute(request).await.expect("the gateway answers");
        let answer = Self {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.bytes().await.unwrap().to_vec(),
        };
        documented::check(&method, &path, &answer);
        answer
    }

    /// Reads an answer to the end of the connection.
    pub async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A reset after the answer is no loss.
        let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes))
            .await
            .expect("the gateway closes the connection");
        Self::parse(&bytes)
    }

    /// Of all that a connection brought.
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|at| at == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: reqwest::header::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The whole token of a lease.
    #[track_caller]
    pub fn token(&self) -> String {
        self.json()["token"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
            .to_owned()
    }

    /// Finds that this is a problem of this type, whole and of one piece.
    #[track_caller]
    pub fn problem(self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(
            problem["type"],
            format!("urn:fencegate:problem:{name}"),
            "{self:?}"
        );
        assert_eq!(problem["status"], status, "{self:?}");
        assert_eq!(
            problem["request_id"].as_str(),
            self.header("x-request-id"),
            "{self:?}"
        );
        for field in ["title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "{self:?}"
            );
        }
        let retryable = problem["retryable"].as_bool().unwrap();
        assert_eq!(retryable, self.header("retry-after").is_some(), "{self:?}");
        problem
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} {:?} {body}", self.status, self.headers)
    }
}
