//! Redacts secrets in URLs.

/// Returns a URL without user, password, query, and fragment, which may contain secrets.
pub fn redact_url(url: &str) -> String {
    let url = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    let (scheme, rest) = url.find("://").map_or(("", url), |at| url.split_at(at + 3));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::redact_url;

    #[test]
    fn credentials_and_query_are_redacted() {
        for (url, shown) in [
            ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
            ("https://me:secret@host/mcp?key=secret#secret", "https://host/mcp"),
            ("https://host?key=secret", "https://host"),
            ("https://secret@more@host", "https://host"),
            ("https://host/a@b", "https://host/a@b"),
            ("me:secret@host/x?secret", "host/x"),
            ("", ""),
        ] {
            assert_eq!(redact_url(url), shown, "{url}");
        }
    }
}
