//! Ends the host in the middle of calls to third-party servers, and reattaches to the calls in another host. The
//! servers see one call each. These tests exercise the connections, without the binary.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kapell::mcp::Agents as _;
use kapell::model::ToolCall;
use libtest_mimic::Failed;
use serde_json::json;
use tokio::net::TcpStream;

use crate::recording_proxy::RecordingProxy;
use crate::support::pools::{RecordingHost, answering_host, attempt, pool};
use crate::support::restarts::{call, legacy_agent, reattach, restarted_pool, run_until_killed, unresponsive_host};
use crate::{root, task_manager};

/// The duration of a call: long enough for a slow machine to end one host and start another meanwhile.
pub(crate) const CALL_DURATION: Duration = Duration::from_secs(4);
/// The additional time in which a server usually finishes. If it does not, the call is still running, and the test still
/// holds.
pub(crate) const COMPLETION_MARGIN: Duration = Duration::from_millis(500);

/// The servers under test.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ServerKind {
    /// npm server-everything, whose event store does not replay live streams.
    Everything,
    /// The TypeScript SDK with the event store of its examples.
    TypeScript,
    /// The Python SDK 1.x with an event store.
    Python,
    /// The experimental tasks of npm server-everything, by the protocol of 2025-11-25.
    EverythingTasks,
    /// rmcp's task manager, by the protocol of 2026-07-28.
    TaskManager,
}

/// A server behind a recording proxy.
pub(crate) struct RecordedServer {
    kind: ServerKind,
    process: Child,
    url: String,
    proxy: RecordingProxy,
}

impl ServerKind {
    fn command(self, port: u16) -> Result<Command, Failed> {
        let interop = root().join(".interop");
        let modules = interop.join("npm/node_modules");
        Ok(match self {
            Self::Everything | Self::EverythingTasks => {
                let mut command = Command::new("node");
                let script = modules.join("@modelcontextprotocol/server-everything/dist/index.js");
                command.arg(script).arg("streamableHttp").env("PORT", port.to_string());
                command
            }
            Self::TypeScript => {
                let mut command = Command::new("node");
                let script = root().join("tests/interop/servers/resumable.mjs");
                command.arg(script).arg(modules).arg(port.to_string());
                command
            }
            Self::Python => {
                let mut command = Command::new(interop.join("python-1/bin/python"));
                command.arg(root().join("tests/interop/servers/resumable.py")).arg(port.to_string());
                command
            }
            Self::TaskManager => task_manager::command(port)?,
        })
    }

    /// Returns its era, as spelled in an agents file.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Everything | Self::TypeScript | Self::Python | Self::EverythingTasks => "legacy",
            Self::TaskManager => "modern",
        }
    }

    /// Returns a call that lasts for [`CALL_DURATION`] and reports progress.
    pub(crate) fn long_call(self) -> ToolCall {
        match self {
            Self::Everything => attempt("trigger-long-running-operation", json!({"duration": 4, "steps": 4})),
            Self::TypeScript | Self::Python => attempt("work", json!({"seconds": 4, "steps": 4})),
            Self::EverythingTasks => research_call(false),
            Self::TaskManager => attempt("work", json!({"seconds": 4, "steps": 4})),
        }
    }

    /// Returns the result of the long call, or its beginning.
    pub(crate) fn long_call_result(self) -> &'static str {
        match self {
            Self::Everything => "Long running operation completed. Duration: 4 seconds, Steps: 4.",
            Self::TypeScript | Self::Python | Self::TaskManager => "done",
            Self::EverythingTasks => "# Research Report: python\n",
        }
    }

    /// Returns a call that asks a person.
    pub(crate) fn asking_call(self) -> ToolCall {
        match self {
            Self::Everything => attempt("trigger-elicitation-request", json!({})),
            Self::TypeScript | Self::Python | Self::TaskManager => attempt("ask", json!({})),
            Self::EverythingTasks => research_call(true),
        }
    }

    /// Returns the person's answer as a field and its value.
    pub(crate) fn answer_field(self) -> &'static str {
        match self {
            Self::Everything | Self::TypeScript | Self::Python | Self::TaskManager => "name=Ada",
            Self::EverythingTasks => "interpretation=snake",
        }
    }

    /// Returns the result of the call with that answer.
    pub(crate) fn answered_result(self) -> &'static str {
        match self {
            Self::Everything | Self::TypeScript | Self::Python | Self::TaskManager => "Ada",
            Self::EverythingTasks => "# Research Report: python (snake)\n",
        }
    }

    /// Returns the number of `initialize` requests of all hosts together.
    fn initialize_count(self) -> usize {
        match self {
            Self::Everything | Self::TypeScript | Self::Python | Self::EverythingTasks => 1,
            Self::TaskManager => 0,
        }
    }
}

impl RecordedServer {
    pub(crate) async fn start(kind: ServerKind) -> Result<Self, Failed> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let process = kind.command(port)?.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let proxy = RecordingProxy::start(address).await?;
        let mut server = Self { kind, process, url: format!("http://{}/mcp", proxy.address), proxy };
        let mut tries = 0;
        while TcpStream::connect(address).await.is_err() {
            tries += 1;
            if tries > 600 || server.process.try_wait()?.is_some() {
                return Err(format!("{kind:?} does not listen").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    /// Returns the address of the recording proxy.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns how often a tool was called.
    pub(crate) fn count_calls(&self, tool: &str) -> usize {
        self.proxy.count_sent(&format!("\"name\":\"{tool}\""))
    }

    pub(crate) fn assert_called_once(&self) {
        let texts =
            ["\"method\":\"tools/call\"", "\"method\":\"initialize\"", "notifications/cancelled", "tasks/cancel"];
        assert_eq!(texts.map(|text| self.proxy.count_sent(text)), [1, self.kind.initialize_count(), 0, 0]);
    }
}

impl Drop for RecordedServer {
    fn drop(&mut self) {
        // Both fail only if the server has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn on_runtime(test: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

fn has_progressed(host: &RecordingHost) -> bool {
    !host.progress().is_empty() && !host.saved_checkpoints().calls.is_empty()
}

/// Tests a call that is running when the next host starts.
pub(crate) fn call_running(kind: ServerKind) -> Result<(), Failed> {
    on_runtime(async {
        let server = RecordedServer::start(kind).await?;
        let checkpoints = run_until_killed(&server.url, kind.long_call(), &answering_host(), has_progressed).await;
        let host = answering_host();
        let pool = restarted_pool(&server.url, &host, &checkpoints);
        assert_eq!(reattach(&pool, kind.long_call(), &checkpoints).await, Ok(kind.long_call_result().to_owned()));
        assert_eq!(host.progress().last().map(|progress| progress.progress), Some(4.0));
        server.assert_called_once();
        pool.close().await;
        Ok(())
    })
}

/// Tests a call that ends between two hosts.
pub(crate) fn call_finished_while_down(kind: ServerKind) -> Result<(), Failed> {
    on_runtime(async {
        let server = RecordedServer::start(kind).await?;
        let checkpoints = run_until_killed(&server.url, kind.long_call(), &answering_host(), has_progressed).await;
        tokio::time::sleep(CALL_DURATION + COMPLETION_MARGIN).await;
        let pool = restarted_pool(&server.url, &answering_host(), &checkpoints);
        assert_eq!(reattach(&pool, kind.long_call(), &checkpoints).await, Ok(kind.long_call_result().to_owned()));
        server.assert_called_once();
        pool.close().await;
        Ok(())
    })
}

/// Tests a question that is open when the first host ends.
pub(crate) fn question_pending(kind: ServerKind) -> Result<(), Failed> {
    on_runtime(async {
        let server = RecordedServer::start(kind).await?;
        let first = unresponsive_host();
        let checkpoints =
            run_until_killed(&server.url, kind.asking_call(), &first, |host| !host.elicited().is_empty()).await;
        let second = answering_host();
        let pool = restarted_pool(&server.url, &second, &checkpoints);
        let output = reattach(&pool, kind.asking_call(), &checkpoints).await.map_err(|failure| failure.to_string())?;
        assert!(output.contains("Ada"), "{output}");
        let origins = |host: &RecordingHost| host.elicited().into_iter().map(|(origin, _)| origin).collect::<Vec<_>>();
        assert_eq!((origins(&second).len(), origins(&second)), (1, origins(&first)));
        server.assert_called_once();
        pool.close().await;
        Ok(())
    })
}

/// Returns a call that server-everything accepts only as a task, by the protocol of 2025-11-25.
fn research_call(ambiguous: bool) -> ToolCall {
    attempt("simulate-research-query", json!({"topic": "python", "ambiguous": ambiguous}))
}

fn assert_one_task(server: &RecordedServer) {
    server.assert_called_once();
    assert_eq!(server.proxy.count_sent("\"task\":{}"), 1);
}

fn progress_stages(host: &RecordingHost) -> Vec<String> {
    host.progress().into_iter().filter_map(|progress| progress.message).collect()
}

/// Tests a call that is a task from its beginning to its end.
pub(crate) fn task_completes() -> Result<(), Failed> {
    on_runtime(async {
        let server = RecordedServer::start(ServerKind::EverythingTasks).await?;
        let host = answering_host();
        let pool = pool(vec![legacy_agent(&server.url)], &host);
        let output = call(&pool, research_call(true)).await.map_err(|failure| failure.to_string())?;
        assert!(output.contains("# Research Report: python (User accepted without selection)"), "{output}");
        assert_eq!(host.elicited().len(), 1);
        assert_eq!(progress_stages(&host).first().map(String::as_str), Some("Gathering sources..."));
        assert_one_task(&server);
        pool.close().await;
        Ok(())
    })
}

/// Tests a task that is running when the next host starts.
pub(crate) fn task_running() -> Result<(), Failed> {
    on_runtime(async {
        let server = RecordedServer::start(ServerKind::EverythingTasks).await?;
        let checkpoints = run_until_killed(&server.url, research_call(false), &answering_host(), has_progressed).await;
        let host = answering_host();
        let pool = restarted_pool(&server.url, &host, &checkpoints);
        let output =
            reattach(&pool, research_call(false), &checkpoints).await.map_err(|failure| failure.to_string())?;
        assert!(output.starts_with("# Research Report: python\n"), "{output}");
        assert!(!progress_stages(&host).is_empty());
        assert_one_task(&server);
        pool.close().await;
        Ok(())
    })
}

/// Tests a question of a task that is open when the first host ends.
pub(crate) fn task_with_question() -> Result<(), Failed> {
    on_runtime(async {
        let server = RecordedServer::start(ServerKind::EverythingTasks).await?;
        let checkpoints = run_until_killed(&server.url, research_call(true), &unresponsive_host(), |host| {
            !host.elicited().is_empty()
        })
        .await;
        let host = answering_host();
        let pool = restarted_pool(&server.url, &host, &checkpoints);
        let output = reattach(&pool, research_call(true), &checkpoints).await.map_err(|failure| failure.to_string())?;
        assert!(output.contains("User accepted without selection"), "{output}");
        assert_eq!(host.elicited().len(), 1);
        assert_one_task(&server);
        pool.close().await;
        Ok(())
    })
}
