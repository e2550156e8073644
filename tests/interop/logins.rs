//! Logs in to the example server of the TypeScript SDK, which has an authorization server of its own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::host::HostRun;
use crate::root;

const EXAMPLE: &str =
    ".interop/npm/node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js";
/// The time for the server to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

struct ExampleServer(Child);

impl Drop for ExampleServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the example with a login. Returns its address, too.
fn start_example() -> Result<(ExampleServer, String), Failed> {
    let listeners = [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
    let [port, login_port] = listeners.map(|listener| listener.local_addr().map(|address| address.port()));
    let (port, login_port) = (port?, login_port?);
    let server = Command::new("node")
        .arg(root().join(EXAMPLE))
        .args(["--oauth", "--oauth-strict"])
        .env("MCP_PORT", port.to_string())
        .env("MCP_AUTH_PORT", login_port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let server = ExampleServer(server);
    let start = Instant::now();
    while TcpStream::connect(("localhost", port)).is_err() || TcpStream::connect(("localhost", login_port)).is_err() {
        if start.elapsed() > START_TIMEOUT {
            return Err("the example server does not start".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((server, format!("http://localhost:{port}/mcp")))
}

/// Checks that a run without a login is refused, and that a run with one is not.
pub(crate) fn typescript_example() -> Result<(), Failed> {
    let (_server, url) = start_example()?;
    let place = tempfile::tempdir()?;
    let (agents, plan) = (place.path().join("agents.toml"), place.path().join("plan.yaml"));
    std::fs::write(&agents, format!("[agents.protected]\nurl = \"{url}\"\n"))?;
    std::fs::write(&plan, "name: x\ntasks: [{ id: a, agent: protected, tool: greet, with: { name: Ada } }]\n")?;
    let host = HostRun::new(&agents.display().to_string())?;
    let refused = host.run(&plan.display().to_string())?;
    assert_eq!(refused.result["tasks"]["a"]["error"]["kind"], "agent_unavailable", "{:#}", refused.result);
    host.log_in("protected")?;
    let outcome = host.run(&plan.display().to_string())?;
    outcome.assert_succeeded()?;
    assert_eq!(outcome.result["tasks"]["a"]["output"], "Hello, Ada!");
    Ok(())
}
