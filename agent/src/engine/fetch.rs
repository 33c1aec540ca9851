//! Gets one page from a server of this node.
//!
//! In: where it listens, and limits. Out: the page's text, or why there is none, within the time limit.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest page that is read: vLLM's has some 100 KiB for each engine.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
/// A page comes within this time, or does not.
pub const TIME_MAX: Duration = Duration::from_secs(2);

/// The page at `path`.
///
/// # Errors
/// It cannot be had, is too long, late, or no text; the error says which.
pub async fn page(server: SocketAddr, path: &str) -> Result<String> {
    timeout(TIME_MAX, get(server, path))
        .await
        .with_context(|| format!("http://{server}{path} takes longer than {TIME_MAX:?}"))?
        .with_context(|| format!("read http://{server}{path}"))
}

async fn get(server: SocketAddr, path: &str) -> Result<String> {
    let stream = TcpStream::connect(server).await.context("connect")?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.context("speak HTTP")?;
    let request = Request::get(path)
        .header("host", server.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .context("write the request")?;
    let exchange = async {
        let response = sender.send_request(request).await.context("ask")?;
        let status = response.status();
        if !status.is_success() {
            bail!("it answers with status {status}");
        }
        let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| anyhow::anyhow!("{error}")).context("take the page")?.to_bytes();
        String::from_utf8(bytes.into()).context("the page is no UTF-8")
    };
    // The connection is driven beside the exchange, and goes with it.
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            page = &mut exchange => return page,
            ended = &mut connection, if open => {
                open = false;
                ended.context("the connection broke")?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers once, with these bytes, and stays open where `then` says so.
    fn server(answer: Vec<u8>, then: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).unwrap();
            let _ = stream.write_all(&answer);
            std::thread::sleep(then);
        });
        address
    }

    async fn error(answer: &[u8], then: Duration) -> String {
        format!("{:#}", page(server(answer.to_vec(), then), "/metrics").await.unwrap_err())
    }

    #[tokio::test]
    async fn a_page_is_read_whole() {
        let text = "vllm:num_requests_running 1\n".repeat(10_000);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        assert_eq!(page(server(answer.into(), Duration::ZERO), "/metrics").await.unwrap(), text);
        let until_close = b"HTTP/1.1 200 OK\r\n\r\nshort".to_vec();
        assert_eq!(page(server(until_close, Duration::ZERO), "/metrics").await.unwrap(), "short");
    }

    #[tokio::test]
    async fn what_is_no_page_is_an_error_that_says_why() {
        let none = Duration::ZERO;
        assert!(
            error(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", none).await.contains("status 404")
        );
        assert!(error(b"SSH-2.0-OpenSSH\r\n", none).await.contains("read http://127.0.0.1:"));
        assert!(
            error(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", none).await.contains("take the page")
        );
        assert!(error(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff", none).await.contains("no UTF-8"));
        let refused = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
        assert!(format!("{:#}", page(refused, "/metrics").await.unwrap_err()).contains("connect"));
    }

    #[tokio::test]
    async fn a_page_that_does_not_end_is_given_up() {
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'#'; PAGE_BYTES_MAX + 1]].concat();
        assert!(error(&endless, Duration::ZERO).await.contains("take the page"));
        let slow = error(b"HTTP/1.1 200 OK\r\n\r\nabc", TIME_MAX * 2).await;
        assert!(slow.contains("takes longer"), "{slow}");
    }
}
