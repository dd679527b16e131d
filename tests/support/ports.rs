//! Free ports that stay ours, over a server's crash and restart and against tests in other processes.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::process::NotReady;

const ATTEMPTS: usize = 5;

/// A TCP port on loopback for a server of ours. It is reserved as long as the value lives, by holding the
/// UDP port of the same number: that costs no file, works between processes, and ends with this one.
pub struct Port {
    number: u16,
    _reservation: UdpSocket,
}

impl Port {
    #[track_caller]
    pub fn reserve() -> Self {
        let range = candidates();
        let span = u64::from(range.end - range.start);
        for _ in 0..1000 {
            let number = range.start + (getrandom::u64().unwrap() % span) as u16;
            let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self {
                    number,
                    _reservation: reservation,
                };
            }
        }
        panic!("no free port in {range:?}")
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Below the ports that the kernel gives to clients: one of those could be taken by any connection while our
/// server is down.
fn candidates() -> std::ops::Range<u16> {
    let first_of_clients = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(32768);
    if first_of_clients >= 15_000 {
        10_000..first_of_clients
    } else {
        40_000..65_000
    }
}

/// Starts a server, and again on other ports if a stranger has taken one in between.
pub async fn with_free_ports<S, F>(mut start: impl FnMut() -> F) -> S
where
    F: Future<Output = Result<S, NotReady>>,
{
    let mut attempt = 1;
    loop {
        match start().await {
            Ok(server) => return server,
            Err(error) if error.is_port_in_use() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => panic!("{}", error.text),
        }
    }
}
