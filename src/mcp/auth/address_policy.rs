//! Decides which addresses a request to an authorization server may reach. The server of the agent names its
//! authorization server, and must not direct requests to services that trust this machine or its network.
//!
//! The policy is that of rmcp's own client with private addresses permitted, which cannot use network settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use crate::mcp::network::is_loopback;
use crate::system::environment::{PROXY_VARIABLES, variable};

/// The addresses that requests may reach, and the resolver that applies it to names. Public and private addresses are
/// permitted, loopback addresses only if the server of the agent has one, and reserved ones never.
#[derive(Clone)]
pub(super) struct AddressPolicy {
    /// The address in the URL of the agent, which a person has configured.
    server: Option<IpAddr>,
    permits_loopback: bool,
    /// The hosts of proxies, which a person has configured. Behind a proxy, no other names are resolved here.
    proxies: Arc<[String]>,
}

/// The kinds of addresses that the policy distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressKind {
    /// Public, or private to a network.
    Ordinary,
    /// Of this machine.
    Loopback,
    /// For a single link, such as the metadata service of a cloud, or for no host at all.
    Reserved,
}

impl AddressPolicy {
    /// Creates the policy of an agent at `server` whose requests go through `proxy`, or else through the proxies of the
    /// environment.
    pub(super) fn new(server: &Url, proxy: Option<&str>) -> Self {
        let proxies = match proxy {
            Some(proxy) => vec![proxy.to_owned()],
            None => PROXY_VARIABLES.iter().filter_map(|name| variable(name)?.into_string().ok()).collect(),
        };
        let proxies = proxies.iter().filter_map(|proxy| proxy_host(proxy)).collect();
        Self { server: literal_address(server), permits_loopback: is_loopback(server), proxies }
    }

    /// Returns whether a request to `url` is permitted, as far as its text shows it. A name is checked when it is
    /// resolved.
    pub(super) fn permits_url(&self, url: &Url) -> bool {
        literal_address(url).is_none_or(|address| self.server == Some(address) || self.permits(address))
    }

    fn permits(&self, address: IpAddr) -> bool {
        match AddressKind::of(address) {
            AddressKind::Ordinary => true,
            AddressKind::Loopback => self.permits_loopback,
            AddressKind::Reserved => false,
        }
    }

    /// Returns those of the addresses of `host` that are permitted.
    ///
    /// # Errors
    /// Returns an error if none is.
    fn permitted(&self, host: &str, mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        if !self.proxies.contains(&host.to_ascii_lowercase()) {
            addresses.retain(|address| self.permits(address.ip()));
        }
        match addresses.is_empty() {
            true => Err(format!("`{host}` has no address that a request to an authorization server may reach")),
            false => Ok(addresses),
        }
    }
}

impl Resolve for AddressPolicy {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.clone();
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted = policy.permitted(name.as_str(), addresses)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

impl AddressKind {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_ipv4(address),
            IpAddr::V6(address) if address.is_loopback() => Self::Loopback,
            IpAddr::V6(address) => match embedded_ipv4(address) {
                Some(embedded) => Self::of_ipv4(embedded),
                None => Self::of_ipv6(address),
            },
        }
    }

    fn of_ipv4(address: Ipv4Addr) -> Self {
        let is_reserved = address.is_link_local()
            || address.is_broadcast()
            || address.is_multicast()
            // This network, and benchmarks of devices.
            || matches!(address.octets(), [0, ..] | [198, 18 | 19, ..]);
        match address.is_loopback() {
            true => Self::Loopback,
            false if is_reserved => Self::Reserved,
            false => Self::Ordinary,
        }
    }

    fn of_ipv6(address: Ipv6Addr) -> Self {
        let is_reserved = address.is_unspecified()
            || address.is_multicast()
            || address.is_unicast_link_local()
            // Teredo, and translation within a network: both contain an IPv4 address in forms of their own.
            || matches!(address.segments(), [0x2001, 0, ..] | [0x64, 0xff9b, 1, ..]);
        if is_reserved { Self::Reserved } else { Self::Ordinary }
    }
}

/// Returns the IPv4 address that an IPv6 address stands for: mapped, compatible, translated (`64:ff9b::/96`), or 6to4
/// (`2002::/16`).
fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from_segments = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x2002, high, low, ..] => Some(from_segments(high, low)),
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(from_segments(high, low))
        }
        _ => None,
    }
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Returns the host of a proxy, which may be written without a scheme.
fn proxy_host(proxy: &str) -> Option<String> {
    let url = if proxy.contains("://") { Url::parse(proxy) } else { Url::parse(&format!("http://{proxy}")) };
    url.ok()?.host_str().map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: [&str; 5] = ["93.184.216.34", "10.0.0.9", "192.168.1.1", "2606:2800::1", "fd00::1"];
    const LOOPBACK: [&str; 3] = ["127.0.0.1", "::1", "::ffff:127.0.0.1"];
    const RESERVED: [&str; 14] = [
        "169.254.169.254",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "198.18.0.1",
        "::",
        "fe80::1",
        "ff02::1",
        "2001::1",
        "64:ff9b:1::1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ];

    fn policy(server: &str) -> AddressPolicy {
        AddressPolicy::new(&server.parse().unwrap(), Some("http://Proxy.test:8080"))
    }

    fn permitted(policy: &AddressPolicy, addresses: &[&'static str]) -> Vec<&'static str> {
        addresses.iter().copied().filter(|address| policy.permits(address.parse().unwrap())).collect()
    }

    #[test]
    fn reserved_addresses_are_refused_and_loopback_needs_a_loopback_server() {
        let all = [&ORDINARY[..], &LOOPBACK, &RESERVED].concat();
        for server in ["https://a.test/mcp", "https://10.0.0.1/mcp", "https://[fd00::7]/mcp"] {
            assert_eq!(permitted(&policy(server), &all), ORDINARY, "{server}");
        }
        for server in ["http://localhost:1/mcp", "http://127.0.0.1:1/mcp", "http://[::1]:1/mcp"] {
            assert_eq!(permitted(&policy(server), &all), [&ORDINARY[..], &LOOPBACK].concat(), "{server}");
        }
    }

    #[test]
    fn addresses_in_urls_are_checked_except_that_of_the_server() {
        let policy = policy("http://169.254.7.7/mcp");
        let permits = |url: &str| policy.permits_url(&url.parse().unwrap());
        assert!(permits("http://169.254.7.7:81/token") && permits("https://10.0.0.9/") && permits("https://a.test/"));
        assert!(!permits("http://169.254.169.254/token") && !permits("http://[::1]/") && !permits("http://127.0.0.1/"));
    }

    #[test]
    fn names_keep_the_addresses_that_are_permitted() {
        let policy = policy("https://a.test/mcp");
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
        };
        let permitted = |host: &str, texts: &[&str]| policy.permitted(host, addresses(texts));
        assert_eq!(permitted("b.test", &["127.0.0.1", "10.0.0.9"]), Ok(addresses(&["10.0.0.9"])));
        assert_eq!(permitted("proxy.test", &["127.0.0.1"]), Ok(addresses(&["127.0.0.1"])));
        assert!(permitted("b.test", &["127.0.0.1"]).unwrap_err().contains("`b.test`"));
    }

    #[test]
    fn proxies_need_no_scheme() {
        let hosts = ["proxy.test:8080", "http://me:secret@Proxy.test", "socks5://proxy.test"].map(proxy_host);
        assert_eq!(hosts, [const { "proxy.test" }; 3].map(|host| Some(host.to_owned())));
    }
}
