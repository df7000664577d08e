//! Where a request comes from that a proxy has passed on.
//!
//! Anybody can write `X-Forwarded-For`; what a proxy adds at its end is true only if the proxy is one of ours. So the list is
//! read from its end, as long as the one who said so is trusted: whoever a trusted proxy names, and is none itself, is the
//! client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use sluice_domain::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// So many entries are looked at.
const MOST_ENTRIES: usize = 32;

/// The client of a request whose connection comes from `peer`; an address of nobody where a trusted proxy names none that can
/// be read.
pub(super) fn client_of(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let nobody = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let mut client = peer;
    let values: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    // Several headers are one list.
    let entries = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries.take(MOST_ENTRIES) {
        let named = std::str::from_utf8(entry).ok().and_then(|text| address_of(text.trim()));
        let Some(named) = named else { return nobody };
        client = named;
        if !is_trusted(named) {
            return client;
        }
    }
    client
}

/// An address, perhaps with a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_whom_the_last_trusted_proxy_names() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let table: [(&str, &[&str], &str); 14] = [
            ("203.0.113.7", &[], "203.0.113.7"),
            ("203.0.113.7", &["198.51.100.1"], "203.0.113.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["127.0.0.1,198.51.100.1 , 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["127.0.0.1", "198.51.100.1", "10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::7]:443"], "2001:db8::7"),
            ("fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "::"),
            ("10.0.0.1", &["198.51.100.1,"], "::"),
        ];
        for (peer, lists, expected) in table {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(FORWARDED_FOR, list.parse().unwrap());
            }
            let client = client_of(&headers, peer.parse().unwrap(), &trusted);
            assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{peer} {lists:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, "198.51.100.1".parse().unwrap());
        assert_eq!(
            client_of(&headers, "10.0.0.1".parse().unwrap(), &[]),
            "10.0.0.1".parse::<IpAddr>().unwrap()
        );
    }
}
