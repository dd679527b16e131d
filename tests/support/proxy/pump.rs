//! One connection through the proxy.

use std::io::{Error, Result};
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::{Traps, Weather};

const CHUNK: usize = 64 * 1024;

/// Ends when both sides have closed, one of them fails, or the proxy cuts or goes.
pub async fn connection(
    client: TcpStream,
    upstream: String,
    weather: watch::Receiver<Weather>,
    traps: Traps,
) {
    let cuts = weather.borrow().cuts;
    let mut warned = weather.clone();
    let (mut client, mut server) = (Some(client), None);
    tokio::select! {
        _ = warned.wait_for(|now| now.cuts > cuts) => {
            for end in [client, server].into_iter().flatten() {
                // Dropped now, and with this option that is a reset.
                let _ = end.set_zero_linger();
            }
        }
        _ = pass(&mut client, &mut server, &upstream, weather, &traps) => {}
    }
}

async fn pass(
    client: &mut Option<TcpStream>,
    server: &mut Option<TcpStream>,
    upstream: &str,
    mut weather: watch::Receiver<Weather>,
    traps: &Traps,
) -> Result<()> {
    // Over a silent network a server does not answer a handshake either.
    weather
        .wait_for(|now| !now.requests_silent && !now.replies_silent)
        .await
        .map_err(Error::other)?;
    let to_client = client.as_mut().unwrap();
    let to_server = server.insert(TcpStream::connect(upstream).await?);
    to_client.set_nodelay(true)?;
    to_server.set_nodelay(true)?;
    let (mut client_reads, mut client_writes) = to_client.split();
    let (mut server_reads, mut server_writes) = to_server.split();

    let sprung = Mutex::new(None);
    let requests = pump(
        (&mut client_reads, &mut server_writes),
        weather.clone(),
        |now| now.requests_silent,
        |chunk| {
            let mut trap = traps.lock().unwrap();
            if trap.as_mut().is_some_and(|trap| (trap.matches)(chunk)) {
                // Known before the request goes out, so that no reply can be faster.
                *sprung.lock().unwrap() = trap.take().map(|trap| trap.sprung);
            }
            Ok(())
        },
    );
    let mut caught = None;
    let replies = pump(
        (&mut server_reads, &mut client_writes),
        weather.clone(),
        |now| now.replies_silent,
        |_| {
            caught = sprung.lock().unwrap().take();
            if caught.is_some() {
                Err(Error::other("the reply is lost"))
            } else {
                Ok(())
            }
        },
    );
    let passed = tokio::try_join!(requests, replies);
    let Some(caught) = caught else {
        return passed.map(|_| ());
    };
    to_client.set_zero_linger()?;
    *client = None;
    // Whoever wanted to know may have gone.
    let _ = caught.send(());
    // The server finishes what it does, and tells nobody.
    tokio::io::copy(to_server, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Passes data on in one direction until its end. `see` is shown each piece before it goes out, and an empty
/// one for the end.
async fn pump(
    (from, to): (&mut ReadHalf<'_>, &mut WriteHalf<'_>),
    mut weather: watch::Receiver<Weather>,
    is_silent: impl Fn(&Weather) -> bool,
    mut see: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        let delay = weather.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        weather
            .wait_for(|now| !is_silent(now))
            .await
            .map_err(Error::other)?;
        see(&chunk[..length])?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..length]).await?;
    }
}
