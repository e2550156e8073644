//! Builds HTTP clients with the network settings of an agent, for its server and its authorization server.

use std::net::IpAddr;
use std::path::Path;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Proxy, Url};

use crate::model::text::root_cause;
use crate::model::{NetworkSettings, redact_url};
use crate::system::files;

/// The maximum number of redirects, all within the same origin.
const MAX_REDIRECTS: usize = 5;
/// The maximum size of a file with certificates: several times that of all public authorities.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// Returns a builder of clients for requests to the origin of `url`.
///
/// # Errors
/// Returns the reason: a file or the proxy is invalid.
pub(crate) fn client_builder(url: &Url, settings: &NetworkSettings) -> Result<reqwest::ClientBuilder, String> {
    let NetworkSettings { ca_file, client_cert_file, proxy } = settings;
    let is_local = is_loopback(url);
    let mut builder = reqwest::Client::builder();
    builder = match proxy {
        Some(proxy) => builder.proxy(Proxy::all(proxy).map_err(|_| "`proxy` is not valid".to_owned())?),
        None if is_local => builder.no_proxy(),
        None => builder,
    };
    if let Some(path) = ca_file {
        builder = builder.tls_certs_merge(read_authorities(path)?);
    } else if is_local && url.scheme() == "http" && proxy.is_none() {
        // Loading TLS roots is slow, and plain HTTP does not need them.
        builder = builder.tls_certs_only([]);
    }
    if let Some(path) = client_cert_file {
        builder = builder.identity(read_identity(path)?);
    }
    Ok(builder)
}

/// Builds a client.
///
/// # Errors
/// Returns the reason: a certificate is invalid, or the system provides no TLS roots.
pub(crate) fn build_client(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder.build().map_err(|error| format!("cannot create an HTTP client: {}", root_cause(&error)))
}

/// Returns a policy that follows redirects within an origin, and repeats the request there as it is.
pub(super) fn same_origin_redirects() -> Policy {
    Policy::custom(|attempt| {
        let from = attempt.previous().last().map(Url::origin);
        if from.as_ref() != Some(&attempt.url().origin()) {
            // Headers may contain secrets, and not all of those are known.
            let to = format!("`{}`, another origin", redact_url(attempt.url().as_str()));
            attempt.error(to)
        } else if !matches!(attempt.status().as_u16(), 307 | 308) {
            // Other redirects turn a POST into a GET without the message.
            let to = format!(
                "`{}` with HTTP {}, which loses the message",
                redact_url(attempt.url().as_str()),
                attempt.status()
            );
            attempt.error(to)
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("one address after the other, more than five")
        } else {
            attempt.follow()
        }
    })
}

/// Returns whether the host of `url` is `localhost` or a loopback address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// Reads the certificates of `ca_file`.
fn read_authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let certificates = Certificate::from_pem_bundle(&read_pem("ca_file", path)?).unwrap_or_default();
    if certificates.is_empty() {
        return Err(format!("`ca_file` `{}` contains no certificate in PEM form", path.display()));
    }
    Ok(certificates)
}

/// Reads the certificate and the private key of `client_cert_file`.
fn read_identity(path: &Path) -> Result<Identity, String> {
    // The error could repeat a part of the key.
    Identity::from_pem(&read_pem("client_cert_file", path)?).map_err(|_| {
        format!("`client_cert_file` `{}` does not contain a certificate and a private key in PEM form", path.display())
    })
}

fn read_pem(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    files::read(path, MAX_PEM_BYTES).map_err(|error| format!("`{key}` `{}` cannot be read: {error}", path.display()))
}
