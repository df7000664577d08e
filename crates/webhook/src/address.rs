//! Which addresses may be called. Whoever names a URL must not reach through us what only we can reach: our own host, its
//! network, a cloud's metadata.
//!
//! Names are judged by the addresses that they lead to, at the moment of connecting (`resolver`); what is an address in the
//! URL itself, however it is written, is judged here. Only what is known to be public is public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_domain::{Network, WebhookUrl};
use thiserror::Error;
use url::{Host, Url};

/// A target that is not called. It says nothing that its submitter did not know.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RefusedTarget {
    /// It is no URL, or none with a host.
    #[error("webhook is no URL that can be called")]
    NotCallable,
    /// It leads to an address that is not public, and that the configuration doesn't allow.
    #[error(
        "webhook leads to an address that is not public; an operator may allow it (webhooks.allow_addresses)"
    )]
    NotPublic,
    /// It asks for `http` to an address that the configuration doesn't allow.
    #[error(
        "webhook must be https; http is for addresses that an operator allows (webhooks.allow_addresses)"
    )]
    NotEncrypted,
}

/// What may be called.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Vec<Network>,
}

impl Guard {
    /// Allows all public addresses, and `allowed` ones beside.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    /// Judges what of a URL can be judged before its host's name is looked up.
    pub fn check(&self, url: &WebhookUrl) -> Result<Url, RefusedTarget> {
        let url = Url::parse(url.as_str()).map_err(|_| RefusedTarget::NotCallable)?;
        let is_encrypted = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(RefusedTarget::NotCallable),
        };
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) if !name.is_empty() => {
                let is_lost = !is_encrypted && self.allowed.is_empty();
                return if is_lost { Err(RefusedTarget::NotEncrypted) } else { Ok(url) };
            }
            _ => return Err(RefusedTarget::NotCallable),
        };
        self.check_address(address, is_encrypted)?;
        Ok(url)
    }

    /// Judges an address that is about to be connected to.
    pub(crate) fn check_address(&self, address: IpAddr, is_encrypted: bool) -> Result<(), RefusedTarget> {
        if self.allowed.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        if !is_public(address) {
            return Err(RefusedTarget::NotPublic);
        }
        if is_encrypted { Ok(()) } else { Err(RefusedTarget::NotEncrypted) }
    }
}

/// Whether an address belongs to the public internet (IANA's registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or_else(|| is_public_v6(address), is_public_v4),
    }
}

/// Special ranges of IPv4: network, and how many bits count.
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),           // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by carriers (CGNAT)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, metadata of clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

/// Special ranges within 2000::/3; all else of IPv6 is not public anyway: loopback, unique local, link-local, multicast,
/// NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), IPv4-compatible ones.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: any IPv4 address within
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_in =
        |(network, bits): &(Ipv4Addr, u32)| (network.to_bits() ^ address.to_bits()).leading_zeros() >= *bits;
    !SPECIAL_V4.iter().any(is_in)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_in =
        |(network, bits): &(Ipv6Addr, u32)| (network.to_bits() ^ address.to_bits()).leading_zeros() >= *bits;
    address.to_bits() >> 125 == 1 && !SPECIAL_V6.iter().any(is_in)
}

#[cfg(test)]
mod tests;
