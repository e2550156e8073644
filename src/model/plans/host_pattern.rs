//! Patterns of host names, which decide where HTTP requests of plans may go.

use std::fmt;

use url::{Host, Url};

/// A pattern of an allowed host: `api.example.com`, `*.example.org` for all subdomains, or `*`, each with an optional
/// port. Without a port, every port is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    hosts: AllowedHosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedHosts {
    /// Any host.
    All,
    /// One host, as it is in a parsed URL.
    One(String),
    /// All hosts that end in this text, which starts with a dot.
    SubdomainsOf(String),
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Returns what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains("://") {
            return Err("is a URL; expected only its host");
        }
        let (host, port) = match text.rsplit_once(':') {
            // The last colon of an IPv6 address is not before a port.
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| "has a port that is not a number up to 65535")?))
            }
            _ => (text, None),
        };
        let normal = |host: &str| match Host::parse(host) {
            Ok(host) => Ok(host.to_string().trim_end_matches('.').to_owned()),
            Err(_) => Err("is not the name of a host"),
        };
        let hosts = match host.strip_prefix("*.") {
            Some(domain) if !domain.contains('*') => AllowedHosts::SubdomainsOf(format!(".{}", normal(domain)?)),
            _ if host == "*" => AllowedHosts::All,
            _ if host.contains('*') => {
                return Err("has a `*` that is not in place of all subdomains, as in `*.example.org`");
            }
            _ => AllowedHosts::One(normal(host)?),
        };
        Ok(Self { hosts, port })
    }

    /// Returns whether requests to the host and port of `url` are allowed.
    pub fn allows(&self, url: &Url) -> bool {
        let Some(host) = url.host_str().map(|host| host.trim_end_matches('.')) else { return false };
        let is_host = match &self.hosts {
            AllowedHosts::All => true,
            AllowedHosts::One(known) => host == known,
            AllowedHosts::SubdomainsOf(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
        };
        is_host && self.port.is_none_or(|port| url.port_or_known_default() == Some(port))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            AllowedHosts::All => f.write_str("*")?,
            AllowedHosts::One(host) => f.write_str(host)?,
            AllowedHosts::SubdomainsOf(domain) => write!(f, "*{domain}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_allow_hosts_and_ports() {
        for (pattern, url, expected) in [
            ("api.example.com", "https://api.example.com/v1", true),
            ("API.example.com", "https://api.EXAMPLE.com.:8443/v1", true),
            ("api.example.com", "https://example.com", false),
            ("api.example.com", "https://api.example.com.evil.org", false),
            ("api.example.com:8443", "https://api.example.com", false),
            ("api.example.com:443", "https://api.example.com", true),
            ("*.example.org", "http://a.b.example.org", true),
            ("*.example.org", "http://example.org", false),
            ("*.example.org", "http://notexample.org", false),
            ("*", "http://anything:99", true),
            ("*:80", "https://anything", false),
            ("127.0.0.1", "http://127.0.0.1:3000/x", true),
            ("127.0.0.1", "http://0x7f.1/x", true),
            ("[::1]:80", "http://[::1]/", true),
            ("[::1]", "http://[::1]:8080/", true),
            ("b\u{fc}cher.example", "https://xn--bcher-kva.example", true),
        ] {
            let url = Url::parse(url).expect("a URL");
            assert_eq!(
                HostPattern::parse(pattern).map(|pattern| pattern.allows(&url)),
                Ok(expected),
                "{pattern} {url}"
            );
        }
        for wrong in ["", "https://a.example", "a.*.example", "*a.example", "a b", "a.example:http", "a/b"] {
            assert!(HostPattern::parse(wrong).is_err(), "{wrong}");
        }
        for text in ["*", "*.example.org:80", "a.example", "[::1]:9"] {
            assert_eq!(HostPattern::parse(text).expect("a pattern").to_string(), text);
        }
    }
}
