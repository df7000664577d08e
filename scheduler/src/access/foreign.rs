//! Whether a request without a key may come from a web page of somebody else's.
//!
//! A page in a browser on this machine can send requests to a loopback address. It is kept out twice: browsers add
//! `Origin` to what a foreign page sends, and a name that was made to point here (DNS rebinding) stands in `Host`. A
//! request with a key needs neither: a foreign page has none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{
    HeaderMap, StatusCode,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use crate::server::{ApiError, Keyless};

/// Refuses requests that a browser sends for another site.
pub(super) fn refuse_foreign(
    headers: &HeaderMap,
    address: SocketAddr,
    keyless: Keyless,
) -> Result<(), ApiError> {
    if headers.contains_key(ORIGIN) {
        let message = "requests from web pages are refused, since this server asks for no API key";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "origin_refused", message).param("Origin"));
    }
    // A client that speaks HTTP/1.0 may leave it out; a browser never does.
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    if keyless == Keyless::AnyAddress || host.to_str().is_ok_and(|host| is_ours(host, address.ip())) {
        return Ok(());
    }
    let message =
        "the request's Host is not this server; use localhost, 127.0.0.1 or the address it listens on";
    Err(ApiError::new(StatusCode::FORBIDDEN, "host_refused", message).param("Host"))
}

fn is_ours(host: &str, listen: IpAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| {
            [listen, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].contains(&address)
        })
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_names_of_this_machine_are_ours() {
        let listen = "127.0.0.2".parse().unwrap();
        for ours in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "127.0.0.2"] {
            assert!(is_ours(ours, listen), "{ours}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example", "127.0.0.3", "", "127.0.0.1.evil.example:80"]
        {
            assert!(!is_ours(foreign, listen), "{foreign}");
        }
    }
}
