//! Hosts and ports, as the URLs of lock services name them.

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn read(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(self::port(port)?)),
        _ => (text, None),
    };
    let refused = |c: char| matches!(c, ':' | '[' | ']') || c.is_whitespace() || c.is_control();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(refused),
    };
    is_host.then_some((host, port))
}

/// Without sign or leading zero, which `parse` alone would take.
fn port(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}
