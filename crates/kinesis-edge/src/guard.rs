//! Where requests to endpoints that others name never go: to addresses of this host's own link, by
//! which clouds hand out credentials, however they are written or looked up.

use std::{
    error::Error as StdError,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};

use crate::names::look_up;

/// Metadata services that are at no link-local address; the last is Azure's, which hands out the
/// secrets of a machine.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// Is it an address of this host's link, or of a metadata service? Also where IPv4 stands in IPv6.
pub fn is_guarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_guarded_v4(v4),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            let is_own = v6.is_unicast_link_local()
                // Site-local, fec0::/10.
                || first & 0xffc0 == 0xfec0
                // A network's own NAT64, 64:ff9b:1::/48, and Teredo, 2001::/32: where they end is
                // not to be seen.
                || v6.segments()[..3] == [0x64, 0xff9b, 1]
                || (first, second) == (0x2001, 0)
                || v6.is_multicast()
                // AWS's fd00:ec2::/32, and Google's.
                || (first, second) == (0xfd00, 0x0ec2)
                || v6 == Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
            is_own || embedded(v6).is_some_and(is_guarded_v4)
        }
    }
}

fn is_guarded_v4(address: Ipv4Addr) -> bool {
    address.is_link_local() || address.is_multicast() || METADATA_V4.contains(&address)
}

/// The IPv4 address within: mapped, compatible, by NAT64 or by 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// An address that is never asked.
#[derive(Debug)]
pub(crate) struct Guarded {
    host: String,
    address: IpAddr,
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address } = self;
        write!(
            f,
            "{host} is at {address}: link-local and metadata addresses are never asked"
        )
    }
}

impl StdError for Guarded {}

/// Fails where one of a host's addresses is guarded: a name that is here and there is not trusted.
pub(crate) fn check(host: &str, addresses: &[IpAddr]) -> Result<(), Guarded> {
    let guarded = addresses.iter().find(|address| is_guarded(**address));
    guarded.map_or(Ok(()), |address| {
        Err(Guarded {
            host: host.to_owned(),
            address: *address,
        })
    })
}

/// The system's resolver, whose answer is the one that is connected to: what a name meant before
/// does not count.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver;

impl ResolveDns for GuardedResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let addresses = look_up(name).await.map_err(ResolveDnsError::new)?;
            check(name, &addresses).map_err(ResolveDnsError::new)?;
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("169.254.169.254", true)]
    #[case("169.254.170.2", true)]
    #[case("100.100.100.200", true)]
    #[case("fd00:ec2::254", true)]
    #[case("fe80::1", true)]
    #[case("::ffff:169.254.169.254", true)]
    #[case("::169.254.169.254", true)]
    #[case("::ffff:0:169.254.169.254", true)]
    #[case("64:ff9b::169.254.169.254", true)]
    #[case("2002:a9fe:a9fe::1", true)]
    #[case("ff02::1", true)]
    #[case("168.63.129.16", true)]
    #[case("::ffff:168.63.129.16", true)]
    #[case("64:ff9b:1::a9fe:a9fe", true)]
    #[case("64:ff9b:1:a9fe:a9:fe00::", true)]
    #[case("64:ff9b:2::1", false)]
    #[case("2001:0:4136:e378:8000:63bf:5601:5601", true)]
    #[case("2001:db8::1", false)]
    #[case("fec0::1", true)]
    #[case("feff::1", true)]
    #[case("127.0.0.1", false)]
    #[case("10.0.0.1", false)]
    #[case("::1", false)]
    #[case("::ffff:10.0.0.1", false)]
    #[case("fd00:ec3::254", false)]
    #[case("2600:1f18::1", false)]
    fn addresses(#[case] address: IpAddr, #[case] guarded: bool) {
        assert_eq!(is_guarded(address), guarded);
    }

    #[test]
    fn one_address_of_many_is_enough() {
        let addresses = ["10.0.0.1", "169.254.169.254"].map(|it| it.parse().unwrap());
        let error = check("rebound.example.com", &addresses).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rebound.example.com is at 169.254.169.254: link-local and metadata addresses are never asked"
        );
        check("host", &addresses[..1]).unwrap();
    }
}
