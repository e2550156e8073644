//! A server in a workspace, and requests to it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::workspace::{Workspace, send_signal, wait_for};

/// The token of all servers of the tests.
pub(super) const TOKEN: &str = "a-token-for-the-tests-only";
/// The variable with the token.
const TOKEN_VARIABLE: &str = "KAPELL_TEST_TOKEN";

/// A response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Response {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Returns the code of the error.
    pub(super) fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().expect("a code").to_owned()
    }
}

/// An event of a stream.
#[derive(Debug)]
pub(super) struct StreamEvent {
    pub(super) id: Option<u64>,
    pub(super) name: String,
    pub(super) data: Value,
}

/// A running `kapell serve`.
pub(super) struct Server<'w> {
    child: Child,
    pub(super) port: u16,
    place: &'w Workspace,
}

impl<'w> Server<'w> {
    pub(super) fn start(place: &'w Workspace) -> Self {
        Self::start_at(place, 0)
    }

    /// Starts a server at a port; 0 chooses one.
    pub(super) fn start_at(place: &'w Workspace, port: u16) -> Self {
        std::fs::create_dir_all(place.path("plans")).expect("a folder");
        let address = format!("127.0.0.1:{port}");
        let mut arguments = vec!["serve", "--addr", &address, "--journal", "journal.db", "--token-env", TOKEN_VARIABLE];
        arguments.extend(["--agents", "agents.toml"]);
        let mut child = place
            .command(&arguments)
            .env(TOKEN_VARIABLE, TOKEN)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("an address");
        let port = line.trim().trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("an address, not {line:?}")), place }
    }

    /// Sends a request with exactly these headers and this body.
    pub(super) fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        stream.write_all((head + "\r\n").as_bytes()).expect("sent");
        // A server may refuse a body before it has read it.
        let _ = stream.write_all(body);
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received);
        let text = String::from_utf8_lossy(&received);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("a response, not {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Response { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
    }

    fn connect(&self) -> TcpStream {
        let stream = wait_for("the server", || TcpStream::connect(("127.0.0.1", self.port)).ok());
        // A server that says nothing fails the test, and does not stop it.
        stream.set_read_timeout(Some(Duration::from_secs(600))).expect("a timeout");
        stream
    }

    /// Returns the name of the server in requests.
    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn bearer(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let authorization = format!("Bearer {TOKEN}");
        self.raw(method, path, &[("Host", &self.host()), ("Authorization", &authorization)], body)
    }

    /// Returns the JSON at a path.
    pub(super) fn get(&self, path: &str) -> Value {
        let response = self.bearer("GET", path, b"");
        assert_eq!(response.status, 200, "{path}: {response:?}");
        response.json()
    }

    pub(super) fn get_response(&self, path: &str) -> Response {
        self.bearer("GET", path, b"")
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Response {
        self.bearer("POST", path, body.to_string().as_bytes())
    }

    /// Opens a stream of events.
    pub(super) fn stream(&self, path: &str, last_id: Option<u64>) -> impl Iterator<Item = StreamEvent> + use<> {
        let mut stream = self.connect();
        let last_id = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let host = self.host();
        let head = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n{last_id}\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let status = lines.next().expect("a status");
        assert!(status.contains(" 200 "), "{status}");
        let mut lines = lines.skip_while(|line| !line.is_empty()).skip(1);
        std::iter::from_fn(move || {
            let (mut id, mut name, mut data) = (None, String::new(), String::new());
            loop {
                let line = lines.next()?;
                match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                    Some(("id", value)) => id = value.parse().ok(),
                    Some(("event", value)) => name = value.to_owned(),
                    Some(("data", value)) => data += value,
                    _ if line.is_empty() && !data.is_empty() => {
                        let data = serde_json::from_str(&data).expect("JSON");
                        return Some(StreamEvent { id, name, data });
                    }
                    // A comment that keeps the connection open.
                    _ => {}
                }
            }
        })
    }

    /// Starts a run of a plan file of the workspace in the background, and returns its ID.
    pub(super) fn run(&self, plan: &str) -> String {
        let started = self.place.kapell(&["run", plan, "--detach", "--journal", "journal.db"]);
        assert_eq!(started.code, Some(0), "{started:?}");
        started.stdout.trim().to_owned()
    }

    /// Waits until a run has one of these statuses, and returns its page.
    pub(super) fn wait_for_status(&self, run: &str, statuses: &[&str]) -> Value {
        wait_for("the status of the run", || {
            let page = self.get(&format!("/api/runs/{run}"));
            statuses.contains(&page["run"]["status"].as_str()?).then_some(page)
        })
    }

    /// Waits until a run has an open question, and returns it.
    pub(super) fn wait_for_question(&self, run: &str) -> Value {
        wait_for("a question", || {
            let page = self.get(&format!("/api/runs/{run}"));
            let questions = page["questions"].as_array()?.clone();
            questions.into_iter().find(|question| question["status"] == "open")
        })
    }

    /// Accepts the confirmation that the demo agent asks for.
    pub(super) fn confirm(&self, run: &str, question: &Value) -> Response {
        let id = question["id"].as_str().expect("an ID");
        let body = json!({"action": "accept", "fields": {"confirm": "yes"}});
        self.post(&format!("/api/runs/{run}/answers/{id}"), &body)
    }

    /// Kills the server, as a crash would.
    pub(super) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Ends the server as Ctrl-C does, and returns its exit code.
    pub(super) fn interrupt(mut self) -> Option<i32> {
        send_signal(&self.child, "INT");
        self.child.wait().expect("ended").code()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process.
pub(super) fn kill_process(process: u64) {
    let killed = Command::new("kill").args(["-KILL", &process.to_string()]).status();
    assert!(killed.expect("kill").success());
}

/// Returns the row of a task.
pub(super) fn row<'p>(page: &'p Value, id: &str) -> &'p Value {
    let rows = page["tasks"].as_array().expect("rows");
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no row {id} in {page}"))
}
