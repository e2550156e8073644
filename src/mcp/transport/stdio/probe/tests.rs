//! Children that read the probe late. They wait for a file, and no limit depends on the load of the machine.

use std::fs;
use std::process::Stdio;

use rmcp::model::{DiscoverRequest, DiscoverRequestParams, InitializeRequest, InitializeRequestParams};
use rmcp::transport::Transport as _;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::*;
use crate::mcp::process::log::AgentLog;
use crate::mcp::samples::connection_state;
use crate::mcp::transport::stdio::pipes::StdioTransport;
use crate::mcp::transport::stdio::unread_input::UnreadInput;

const NEVER: Duration = Duration::from_secs(60 * 60);

/// A child, and the transport over its pipes.
struct LateChild {
    folder: TempDir,
    process: Child,
    transport: StdioTransport,
    state: Arc<ConnectionState>,
    _unread: UnreadInput,
}

impl LateChild {
    /// Starts a shell that waits for the file `go` before it runs `script`. `reply` in the script writes a response.
    fn start(script: &str, (late_timeout, fallback): (Duration, ProbeFallback)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let reply = r#"reply() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$1" "$2"; }"#;
        let script = format!("until [ -e go ]; do sleep 0.01; done\n{reply}\n{script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().expect("sh starts");
        let pipes = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        let limits = ProbeLimits { timeout: Duration::ZERO, late_timeout, fallback };
        let (state, log) = (connection_state(), AgentLog::new(folder.path(), &"a".into(), 0));
        let (transport, unread) = StdioTransport::new(pipes, state.clone(), log, limits);
        Self { folder, process, transport, state, _unread: unread }
    }

    async fn probe(&mut self) {
        let probe = ClientRequest::DiscoverRequest(DiscoverRequest::new(DiscoverRequestParams {}));
        self.send(ClientJsonRpcMessage::request(probe, RequestId::Number(0))).await;
    }

    /// Sends the probe, receives the error in place of its response, and sends `initialize`.
    async fn fall_back(&mut self) {
        self.probe().await;
        let error = self.receive().await;
        assert_eq!(error.pointer("/error/code"), Some(&json!(-32601)), "{error}");
        let initialize = InitializeRequest::new(InitializeRequestParams::default());
        let initialize = ClientRequest::InitializeRequest(initialize);
        self.send(ClientJsonRpcMessage::request(initialize, RequestId::Number(1))).await;
    }

    async fn send(&mut self, message: ClientJsonRpcMessage) {
        self.transport.send(message).await.expect("is sent");
    }

    async fn receive(&mut self) -> serde_json::Value {
        let message = self.transport.receive().await.expect("a message");
        serde_json::to_value(message).expect("JSON")
    }

    /// Lets the child read.
    fn go(&self) {
        fs::write(self.folder.path().join("go"), "").expect("is written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("is there")
    }
}

#[tokio::test]
async fn late_modern_response_replaces_that_of_initialize() {
    let script = r#"read -r probe
reply 0 '"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions":"Be brief."}'
cat > rest"#;
    let mut child = LateChild::start(script, (NEVER, ProbeFallback::Initialize));
    child.fall_back().await;
    child.go();
    let response = child.receive().await;
    let expected = json!({
        "protocolVersion": "2026-07-28",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "", "version": ""},
        "instructions": "Be brief.",
    });
    assert_eq!((&response["id"], &response["result"]), (&json!(1), &expected));
    assert!(!child.state.requests.is_open(&RequestId::Number(1)), "nothing more is awaited");

    let initialized = ClientNotification::InitializedNotification(Default::default());
    child.send(ClientJsonRpcMessage::notification(initialized)).await;
    let LateChild { mut process, transport, _unread, folder, .. } = child;
    drop((transport, _unread));
    process.wait().await.expect("it ends with its input");
    let rest = fs::read_to_string(folder.path().join("rest")).expect("is there");
    assert_eq!(rest, "", "neither `initialize` nor `initialized` is sent");
}

#[tokio::test]
async fn late_legacy_response_leads_to_initialize() {
    let script = r#"read -r probe; reply 0 '"error":{"code":-32601,"message":"no such method"}'
read -r initialize; echo "$initialize" > initialize
reply 1 '"result":{"protocolVersion":"2025-11-25","capabilities":{}}'; cat"#;
    let mut child = LateChild::start(script, (NEVER, ProbeFallback::Initialize));
    child.fall_back().await;
    child.go();
    let response = child.receive().await;
    assert_eq!((&response["id"], &response["result"]["protocolVersion"]), (&json!(1), &json!("2025-11-25")));
    assert!(child.read("initialize").contains(r#""method":"initialize""#));
    assert!(!child.state.probe_failed.load(Ordering::Relaxed), "it is known to be legacy");
}

#[tokio::test]
async fn silence_of_a_late_child_leads_to_initialize_and_shows_no_era() {
    let script = r#"read -r probe; read -r initialize
reply 1 '"result":{"protocolVersion":"2025-11-25","capabilities":{}}'; cat"#;
    let mut child = LateChild::start(script, (Duration::ZERO, ProbeFallback::Initialize));
    child.fall_back().await;
    child.go();
    assert_eq!(child.receive().await["result"]["protocolVersion"], "2025-11-25");
    assert!(child.state.probe_failed.load(Ordering::Relaxed));
}

#[tokio::test]
async fn probe_without_a_fallback_waits_until_the_child_reads() {
    let script = r#"read -r probe
reply 0 '"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}'; cat"#;
    let mut child = LateChild::start(script, (NEVER, ProbeFallback::None));
    child.probe().await;
    let go = child.folder.path().join("go");
    let (response, ()) = tokio::join!(child.receive(), async { fs::write(go, "").expect("is written") });
    assert_eq!(response["result"]["supportedVersions"], json!(["2026-07-28"]));
}
