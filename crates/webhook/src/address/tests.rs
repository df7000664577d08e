//! Targets that somebody may name to reach what is not theirs, in all the ways of writing them.

use proptest::prelude::*;
use sluice_domain::WebhookUrl;

use super::*;

/// Each is refused: as no URL of a webhook at all, or by its address.
const REFUSED: &[&str] = &[
    // Loopback.
    "https://127.0.0.1/",
    "https://127.0.0.1:8080/x",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.255.255.254/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://0x7f.1/",
    "https://127.0x1/",
    "https://127.0.0.0x1/",
    "https://127.00.00.01/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::0001]:443/",
    "https://127.0.0.1./",
    "https://%31%32%37.0.0.1/",
    // This host, this network.
    "https://0.0.0.0/",
    "https://0/",
    "https://0x0/",
    "https://0.1.2.3/",
    "https://[::]/",
    "https://[::]:8080/",
    // Private.
    "https://10.0.0.1/",
    "https://10.255.255.255/",
    "https://167772161/",
    "https://0xa000001/",
    "https://012.0.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://172.20.1/",
    "https://192.168.0.1/",
    "https://192.168.1/",
    "https://3232235777/",
    "https://0xc0a80101/",
    "https://0300.0250.1.1/",
    // Carriers.
    "https://100.64.0.1/",
    "https://100.127.255.255/",
    "https://100.100.100.200/latest/meta-data/",
    // Link-local and metadata of clouds.
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.0.1/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://0251.0376.0251.0376/",
    "https://169.254.43518/",
    "https://[fe80::1]/",
    "https://[febf::1]/",
    "https://[fd00:ec2::254]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::ffff:a9fe:a9fe]/",
    // Unique local, site-local.
    "https://[fc00::1]/",
    "https://[fd12:3456:789a::1]/",
    "https://[fdff:ffff::1]/",
    "https://[fec0::1]/",
    // Special assignments and documentation.
    "https://192.0.0.1/",
    "https://192.0.0.170/",
    "https://192.0.2.1/",
    "https://198.51.100.7/",
    "https://203.0.113.9/",
    "https://192.88.99.1/",
    "https://198.18.0.1/",
    "https://198.19.255.255/",
    "https://[2001:db8::1]/",
    "https://[2001::1]/",
    "https://[2001:10::1]/",
    "https://[2001:1ff:ffff::1]/",
    "https://[3fff::1]/",
    "https://[100::1]/",
    // Multicast, reserved, broadcast.
    "https://224.0.0.1/",
    "https://239.255.255.255/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://4294967295/",
    "https://[ff02::1]/",
    "https://[ff0e::1]/",
    "https://[5f00::1]/",
    // IPv4 within IPv6: mapped, compatible, translated, 6to4, Teredo, NAT64.
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:0a00:1]/",
    "https://[::ffff:192.168.1.1]/",
    "https://[0:0:0:0:0:ffff:127.0.0.1]/",
    "https://[::127.0.0.1]/",
    "https://[::7f00:1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::a00:1]/",
    "https://[64:ff9b::8.8.8.8]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a00:1::1]/",
    "https://[2002:808:808::1]/",
    "https://[2001:0:7f00:1::]/",
    // Not encrypted, not a web address, or written to mislead.
    "http://example.com/",
    "http://8.8.8.8/",
    "http://127.0.0.1/",
    "http://[2606:4700::1111]/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/x",
    "https:///127.0.0.1/",
    "https://",
    "https://?x",
    "//127.0.0.1/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://exa mple.com/",
    "https://example.com\r\nHost: internal/",
    "https://[::1",
    "https://[::1%25eth0]/",
    "https://1.2.3.4.5.6:99999/",
    "https://example.com:99999/",
    "https://127.0.0.1:80\\@example.com/",
    "https://\u{2460}27.0.0.1/",
    "https://127。0。0。1/",
    "https://256.256.256.256/",
    "https://0x100000000/",
    "https://%00.example.com/",
];

const TAKEN: &[&str] = &[
    "https://example.com/hook",
    "https://example.com:8443/hook?token=abc",
    "https://8.8.8.8/",
    "https://134744072/",
    "https://172.15.255.255/",
    "https://172.32.0.1/",
    "https://100.63.255.255/",
    "https://100.128.0.1/",
    "https://192.0.1.1/",
    "https://223.255.255.255/",
    "https://[2606:4700:4700::1111]/",
    "https://[2a00:1450::1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://localhost.example.com/",
    "https://xn--exmple-cua.com/",
];

fn verdict(guard: &Guard, text: &str) -> Result<(), String> {
    let url = WebhookUrl::new(text).map_err(|error| error.to_string())?;
    guard.check(&url).map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_public_is_refused_however_it_is_written() {
    assert!(REFUSED.len() >= 100, "{}", REFUSED.len());
    let taken: Vec<_> = REFUSED.iter().filter(|text| verdict(&Guard::default(), text).is_ok()).collect();
    assert!(taken.is_empty(), "{taken:?}");
    for text in TAKEN {
        assert_eq!(verdict(&Guard::default(), text), Ok(()), "{text}");
    }
}

#[test]
fn what_an_operator_allows_is_taken_and_nothing_beside() {
    let guard = Guard::new(vec!["127.0.0.1".parse().unwrap(), "10.1.0.0/16".parse().unwrap()]);
    for text in [
        "http://127.0.0.1:9000/",
        "https://127.0.0.1/",
        "http://10.1.2.3/",
        "http://[::ffff:10.1.2.3]/",
        "https://8.8.8.8/",
    ] {
        assert_eq!(verdict(&guard, text), Ok(()), "{text}");
    }
    for text in ["http://127.0.0.2/", "http://10.2.0.1/", "http://[::1]/", "http://8.8.8.8/"] {
        assert!(verdict(&guard, text).is_err(), "{text}");
    }
    // A name is judged by its addresses, when it is called.
    assert_eq!(verdict(&guard, "http://internal.example.com/"), Ok(()));
}

proptest! {
    /// What the standard library takes for special is never public.
    #[test]
    fn no_special_address_is_public(bits in any::<u32>(), wide in any::<u128>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!(is_special && is_public(v4.into())));
        prop_assert_eq!(is_public(v4.into()), is_public(v4.to_ipv6_mapped().into()));
        let v6 = Ipv6Addr::from_bits(wide);
        let is_special = v6.is_loopback() || v6.is_multicast() || v6.is_unique_local() || v6.is_unicast_link_local()
            || v6.is_unspecified();
        prop_assert!(!(is_special && is_public(v6.into())));
        prop_assert!(!is_public(v4.to_ipv6_compatible().into()));
    }
}
