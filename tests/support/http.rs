//! The least of an HTTP client, to ask a server whether it is ready without a client library.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The whole answer, headers included.
pub async fn get(port: u16, path: &str) -> Result<String, String> {
    exchange(port, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")).await
}

/// Sends the text, and reads until the server closes the connection.
pub async fn exchange(port: u16, request: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    exchange.await.map_err(|error: std::io::Error| error.to_string())
}
