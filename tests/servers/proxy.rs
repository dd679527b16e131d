use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::eventually::PATIENCE;
use crate::support::{Proxy, eventually};

/// Long enough for an echo to come back if nothing holds it up.
const MOMENT: Duration = Duration::from_millis(200);

/// What has reached the server.
#[derive(Default)]
struct Received {
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

impl Received {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

/// Sends back what it gets.
async fn echo() -> (String, Arc<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let received = Arc::new(Received::default());
    let counter = received.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.connections.fetch_add(1, Ordering::SeqCst);
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut chunk = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                    counter.bytes.fetch_add(length, Ordering::SeqCst);
                    stream.write_all(&chunk[..length]).await.unwrap();
                }
            });
        }
    });
    (address, received)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

/// Fails if the echo is not there within a moment.
async fn exchange(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    hear(stream, text).await
}

async fn hear(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let mut answer = vec![0; text.len()];
    tokio::time::timeout(MOMENT, stream.read_exact(&mut answer)).await??;
    assert_eq!(answer, text.as_bytes());
    Ok(())
}

#[tokio::test]
async fn passes_data_and_the_end_of_it() {
    let (address, _) = echo().await;
    let proxy = Proxy::start(address).await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, "hello").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_cut_resets_what_stands_and_lets_new_connections_through() {
    let (address, _) = echo().await;
    let proxy = Proxy::start(address).await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, "hello").await.unwrap();
    proxy.cut();
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    exchange(&mut connect(&proxy).await, "again").await.unwrap();
}

#[tokio::test]
async fn refusing_is_for_new_connections_only() {
    let (address, _) = echo().await;
    let mut proxy = Proxy::start(address).await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, "hello").await.unwrap();
    proxy.refuse(true).await;
    let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    exchange(&mut stream, "still").await.unwrap();
    proxy.refuse(false).await;
    exchange(&mut connect(&proxy).await, "again").await.unwrap();
}

#[tokio::test]
async fn a_pause_holds_data_up_and_loses_none() {
    let (address, received) = echo().await;
    let proxy = Proxy::start(address).await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, "hello").await.unwrap();

    proxy.pause();
    exchange(&mut stream, "one").await.unwrap_err();
    assert_eq!(received.bytes(), 5);
    let mut newcomer = connect(&proxy).await;
    exchange(&mut newcomer, "two").await.unwrap_err();
    assert_eq!(received.connections(), 1);

    proxy.resume();
    hear(&mut stream, "one").await.unwrap();
    hear(&mut newcomer, "two").await.unwrap();
}

#[tokio::test]
async fn paused_replies_do_not_keep_the_server_from_acting() {
    let (address, received) = echo().await;
    let proxy = Proxy::start(address).await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, "hello").await.unwrap();
    proxy.pause_replies();
    exchange(&mut stream, "one").await.unwrap_err();
    assert_eq!(received.bytes(), 8);
    proxy.resume();
    hear(&mut stream, "one").await.unwrap();
}

#[tokio::test]
async fn a_cut_on_request_loses_the_reply_but_not_the_request() {
    let (address, received) = echo().await;
    let proxy = Proxy::start(address).await;
    let mut bystander = connect(&proxy).await;
    let mut stream = connect(&proxy).await;
    let happened = proxy.cut_on_request(|chunk| chunk.starts_with(b"commit"));
    exchange(&mut stream, "begin").await.unwrap();
    stream.write_all(b"commit").await.unwrap();
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    happened.await.unwrap();
    assert_eq!(received.bytes(), 11);
    // Once only, and nobody else.
    exchange(&mut bystander, "commit").await.unwrap();
}

#[tokio::test]
async fn a_delay_counts_in_both_directions() {
    let (address, _) = echo().await;
    let proxy = Proxy::start(address).await;
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(50));
    let start = Instant::now();
    exchange(&mut stream, "hello").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_dropped_proxy_closes_everything() {
    let (address, _) = echo().await;
    let proxy = Proxy::start(address).await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, "hello").await.unwrap();
    let address = proxy.addr();
    drop(proxy);
    stream.read(&mut [0; 8]).await.unwrap_err();
    eventually(PATIENCE, async || TcpStream::connect(address).await.is_err()).await;
}
