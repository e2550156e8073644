//! Shows the relevant facts about a URL before a page is opened, and opens it.

use std::process::{Command, Stdio};
use std::time::Duration;

use url::{Host, Url};

use crate::system::process::OwnChild;

/// The time in which the opener can report a failure.
const OPENER_TIMEOUT: Duration = Duration::from_secs(3);

/// The URL of a web page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageUrl {
    url: Url,
}

impl PageUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// Describes why the URL cannot be opened. Only `http` and `https` are allowed.
    pub(crate) fn parse(address: &str) -> Result<Self, String> {
        let url = Url::parse(address).map_err(|error| format!("`{address}` is not a valid URL: {error}"))?;
        if matches!(url.scheme(), "http" | "https") {
            Ok(Self { url })
        } else {
            Err(format!("`{address}` is not an `http` or `https` URL and is not opened"))
        }
    }

    /// Returns the full URL in its normalized form, which is also the form that is opened.
    pub(crate) fn address(&self) -> &str {
        self.url.as_str()
    }

    /// Returns the host and the port for display.
    pub(crate) fn displayed_host(&self) -> String {
        let port = self.url.port().map(|port| format!(", port {port}")).unwrap_or_default();
        format!("{}{port}", self.url.host_str().unwrap_or("nowhere"))
    }

    /// Returns warnings about suspicious parts of the URL.
    pub(crate) fn warnings(&self) -> Vec<&'static str> {
        let labels = |domain: &str| domain.split('.').any(|label| label.starts_with("xn--"));
        let is_here = match self.url.host() {
            Some(Host::Domain(domain)) => domain == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let mut warnings = Vec::new();
        if !self.url.username().is_empty() || self.url.password().is_some() {
            warnings.push("the text before `@` is not the host: the address is misleading");
        }
        if self.url.domain().is_some_and(labels) {
            warnings.push("the host has letters of other alphabets, which can imitate a familiar host");
        }
        if self.url.scheme() == "http" && !is_here {
            warnings.push("the connection is not encrypted");
        }
        warnings
    }
}

/// The commands that open an address, in the order in which they are tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Browser(pub(crate) fn(&str) -> Vec<Command>);

impl Default for Browser {
    fn default() -> Self {
        Self(|address| open::commands(address))
    }
}

impl Browser {
    /// Opens the page with the first command that works.
    ///
    /// # Errors
    /// Describes why the first command could not open the page.
    pub(crate) async fn open(self, page: &PageUrl) -> Result<(), String> {
        let mut problem = None;
        for command in (self.0)(page.address()) {
            match launch(command).await {
                Ok(()) => return Ok(()),
                Err(reason) => problem.get_or_insert(reason),
            };
        }
        Err(problem.unwrap_or_else(|| "this system has no program that opens pages".to_owned()))
    }
}

/// Runs an opener in a separate process group, so that Ctrl-C here does not close the browser.
///
/// The process is registered, so that it is not reaped as an orphan of an agent before its status is read.
async fn launch(command: Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    let mut opener = tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("`{program}` could not be started: {error}"))?;
    let _own = opener.id().map(OwnChild::new);
    match tokio::time::timeout(OPENER_TIMEOUT, opener.wait()).await {
        Ok(Ok(status)) if !status.success() => Err(format!("`{program}` failed: {status}")),
        Ok(Err(error)) => Err(format!("`{program}` failed: {error}")),
        // Still running: some openers run as long as the browser.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_about_deceptive_urls() {
        let user = "the text before `@` is not the host: the address is misleading";
        let letters = "the host has letters of other alphabets, which can imitate a familiar host";
        let plain = "the connection is not encrypted";
        for (address, shown, host, warnings) in [
            ("https://example.com/a?b=c", "https://example.com/a?b=c", "example.com", vec![]),
            (
                "https://bank.com@evil.test:8443/",
                "https://bank.com@evil.test:8443/",
                "evil.test, port 8443",
                vec![user],
            ),
            ("https://аpple.com", "https://xn--pple-43d.com/", "xn--pple-43d.com", vec![letters]),
            ("http://example.com", "http://example.com/", "example.com", vec![plain]),
            ("http://127.0.0.1:80/x", "http://127.0.0.1/x", "127.0.0.1", vec![]),
            ("http://[::1]:9/", "http://[::1]:9/", "[::1], port 9", vec![]),
        ] {
            let page = PageUrl::parse(address).expect(address);
            assert_eq!((page.address(), page.displayed_host(), page.warnings()), (shown, host.to_owned(), warnings));
        }
    }

    #[test]
    fn accepts_only_web_urls() {
        for address in ["file:///etc/passwd", "javascript:alert(1)", "-flag", "", "https://"] {
            assert!(PageUrl::parse(address).is_err(), "{address}");
        }
    }

    #[tokio::test]
    async fn reports_failure_to_open_a_page() {
        let page = PageUrl::parse("https://example.com").expect("an address");
        let works = |_: &str| vec![Command::new("true")];
        assert_eq!(Browser(works).open(&page).await, Ok(()));
        let fails = |_: &str| vec![Command::new("false"), Command::new("/nonexistent/opener")];
        assert_eq!(Browser(fails).open(&page).await, Err("`false` failed: exit status: 1".to_owned()));
        let missing = |_: &str| vec![Command::new("/nonexistent/opener")];
        let problem = Browser(missing).open(&page).await.expect_err("no opener");
        assert!(problem.starts_with("`/nonexistent/opener` could not be started: "), "{problem}");
        let second = |_: &str| vec![Command::new("/nonexistent/opener"), Command::new("false"), Command::new("true")];
        assert_eq!(Browser(second).open(&page).await, Ok(()));
    }

    #[test]
    fn address_is_passed_to_each_opener_as_a_whole() {
        let address = "https://example.com/?a=$(id)&b=`id`;c";
        for command in open::commands(address) {
            let mut given = command.get_args().chain(command.get_envs().filter_map(|(_, value)| value));
            assert!(given.any(|text| text == address), "{command:?}");
        }
    }
}
