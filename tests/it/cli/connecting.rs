//! Connections to difficult agents: servers that exit on the probe, are not ready yet, request a delay, or speak
//! another protocol.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command};

use serde_json::Value;

use crate::support::workspace::{CommandOutput, Workspace, wait_for};

fn server_script() -> String {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/connecting.py").display().to_string()
}

/// Returns a workspace whose agent `hard` behaves as `mode` says, with further `keys` in its section.
fn workspace(mode: &str, keys: &str) -> Workspace {
    let place = Workspace::new();
    let text = format!(
        "[agents.hard]\ncommand = \"python3\"\nargs = [{:?}, {mode:?}, {:?}]\n{keys}\n",
        server_script(),
        place.path("").display().to_string()
    );
    place.write("agents.toml", text);
    place
}

/// Returns such a workspace with the agent over Streamable HTTP.
fn http_workspace(mode: &str, keys: &str) -> Workspace {
    let place = Workspace::new();
    let text = format!(
        "[agents.hard]\ncommand = \"python3\"\nargs = [{:?}, {mode:?}, {:?}, \"${{PORT}}\"]\n\
         url = \"http://127.0.0.1:${{PORT}}/mcp\"\n{keys}\n",
        server_script(),
        place.path("").display().to_string()
    );
    place.write("agents.toml", text);
    place
}

fn run_work(place: &Workspace, keys: &str) -> CommandOutput {
    place.run_plan(&format!("name: x\ntasks: [{{ id: a, agent: hard, tool: work, {keys} }}]\n"), &[])
}

fn file_lines(place: &Workspace, file: &str) -> Vec<String> {
    std::fs::read_to_string(place.path(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn assert_worked(ended: &CommandOutput) {
    assert_eq!((ended.task("a"), ended.code), (("succeeded".into(), None), Some(0)), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["a"]["output"], "worked");
}

/// Returns the kind, the message, and the help of the failed task, without what differs between runs.
fn task_error(place: &Workspace, ended: &CommandOutput) -> String {
    let error = &ended.result()["tasks"]["a"]["error"];
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    // The rest of a message describes the process, whose state depends on the load of the machine.
    let message = text("message").split("; `python3` ").next().unwrap_or_default();
    let help = text("help").split("; the program does not inherit ").next().unwrap_or_default();
    let text = [text("kind"), message, help].join("\n");
    let text = text.replace(&place.path("").display().to_string(), "PLACE/");
    let mut parts = text.split("://127.0.0.1:");
    let start = parts.next().unwrap_or_default().to_owned();
    let without_port = |part: &str| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    parts.fold(start, |text, part| text + "://127.0.0.1:PORT" + &without_port(part))
}

#[test]
fn restarts_a_server_that_exits_on_the_probe_and_caches_its_era() {
    let place = workspace("ends-on-probe", "");
    assert_worked(&run_work(&place, ""));
    assert_eq!(file_lines(&place, "starts").len(), 2);
    assert_worked(&run_work(&place, ""));
    assert_eq!(file_lines(&place, "starts").len(), 3, "the second run does not probe");
    let methods = file_lines(&place, "methods");
    assert_eq!(methods.iter().filter(|method| *method == "server/discover").count(), 1, "{methods:?}");
}

#[test]
fn restarts_a_server_that_stops_reading_on_the_probe() {
    let place = workspace("hangs-on-probe", "startup_timeout = \"3s\"");
    assert_worked(&run_work(&place, ""));
    assert_eq!(file_lines(&place, "starts").len(), 2);
}

#[test]
fn wrong_cached_era_falls_back() {
    let place = workspace("updated", "");
    assert_worked(&run_work(&place, ""));
    assert_eq!(file_lines(&place, "starts").len(), 1);
    assert_worked(&run_work(&place, ""));
    assert!(file_lines(&place, "methods").iter().filter(|method| *method == "server/discover").count() == 2);
}

#[test]
fn restarts_a_server_that_crashes_on_startup() {
    let place = workspace("crashes-once", "");
    assert_worked(&run_work(&place, ""));
    assert_eq!(file_lines(&place, "starts").len(), 3);
}

#[test]
fn slow_startup_is_not_retried_and_names_the_key() {
    let place = workspace("slow", "startup_timeout = \"1s\"");
    let ended = run_work(&place, "");
    insta::assert_snapshot!(task_error(&place, &ended));
    assert_eq!(file_lines(&place, "starts").len(), 1);
}

#[test]
fn initialize_decides_after_any_probe_response() {
    for mode in
        ["probe-400", "probe-401", "probe-403", "probe-405", "probe-429", "probe-500", "probe-503", "probe-drop"]
    {
        let place = http_workspace(mode, "");
        assert_worked(&run_work(&place, ""));
        let methods = file_lines(&place, "methods");
        assert_eq!(methods[..2], ["server/discover", "initialize"], "{mode}");
    }
}

#[test]
fn retries_a_server_that_is_not_ready() {
    for mode in ["starting", "modern-starting"] {
        let place = http_workspace(mode, "");
        assert_worked(&run_work(&place, ""));
    }
}

#[test]
fn retry_after_beyond_the_startup_timeout_fails() {
    let place = http_workspace("limited-start", "startup_timeout = \"5s\"");
    let ended = run_work(&place, "");
    insta::assert_snapshot!(task_error(&place, &ended));
    assert_eq!(file_lines(&place, "methods"), ["server/discover", "initialize"]);
}

#[test]
fn redirect_names_the_new_url() {
    for status in ["301", "302", "303"] {
        let place = http_workspace(&format!("redirects-{status}"), "");
        insta::assert_snapshot!(format!("redirect_{status}"), task_error(&place, &run_work(&place, "")));
    }
    for status in ["307", "308"] {
        assert_worked(&run_work(&http_workspace(&format!("redirects-{status}"), ""), ""));
    }
}

#[test]
fn http_sse_is_remembered_and_a_stale_memory_does_no_harm() {
    let place = Workspace::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/http_sse.py").display().to_string();
    let start = |mode: &str, port: &str| {
        let mut server = Command::new("python3");
        server.args([&script, mode, &place.path("").display().to_string(), port]);
        Running(server.spawn().expect("python3 starts"))
    };
    let first = start("plain", "0");
    let port = wait_for("the server", || file_lines(&place, "listens").pop());
    place.write("agents.toml", format!("[agents.hard]\nurl = \"http://127.0.0.1:{port}/sse-stream\"\n"));
    let echo = || place.run_plan("name: x\ntasks: [{ id: a, agent: hard, tool: echo, with: { text: worked } }]\n", &[]);
    assert_worked(&echo());
    assert_eq!(file_lines(&place, "streams").len(), 2, "one of them is the detection");
    assert_worked(&echo());
    assert_eq!(file_lines(&place, "streams").len(), 3);
    let tested = place.kapell(&["agents", "test"]);
    assert!(tested.stdout.contains("MCP 2024-11-05 over HTTP+SSE"), "{tested:?}");
    drop(first);
    let _second = start("streamable", &port);
    wait_for("the second server", || (file_lines(&place, "listens").len() == 2).then_some(()));
    assert_worked(&echo());
    assert_eq!(file_lines(&place, "streams").len(), 4);
    let methods = file_lines(&place, "methods").len();
    assert_worked(&echo());
    assert_eq!(file_lines(&place, "streams").len(), 4, "the new transport is remembered");
    assert!(file_lines(&place, "methods").len() > methods);
}

#[test]
fn refused_requests_on_modern_connections_switch_to_the_legacy_era() {
    let place = workspace("refuses-modern-requests", "");
    let ended = run_work(&place, "");
    assert_worked(&ended);
    assert_eq!(ended.result()["tasks"]["a"]["attempts"], 2);
    let ended = run_work(&place, "effect: at_most_once");
    assert_worked(&ended);
    assert_eq!(ended.result()["tasks"]["a"]["attempts"], 1, "the second run knows");
    let tested = place.kapell(&["agents", "test"]);
    assert!(tested.stdout.contains("known: elicitation and sampling fail on modern connections"), "{tested:?}");
}

#[test]
fn refused_requests_are_not_repeated_if_the_effect_forbids_it() {
    let place = workspace("refuses-modern-requests", "");
    insta::assert_snapshot!(task_error(&place, &run_work(&place, "effect: at_most_once")));
    assert_worked(&run_work(&place, "effect: at_most_once"));
    let modern = workspace("refuses-modern-requests", "protocol = \"modern\"");
    insta::assert_snapshot!("refused_requests_with_a_configured_era", task_error(&modern, &run_work(&modern, "")));
}

#[test]
fn versions_of_initialize_are_accepted_up_to_the_latest() {
    for version in ["2024-11-05", "2025-03-26", "2025-11-25"] {
        assert_worked(&run_work(&workspace(&format!("version-{version}"), ""), ""));
    }
    let place = workspace("version-2099-01-01", "");
    insta::assert_snapshot!(task_error(&place, &run_work(&place, "")));
}

#[test]
fn odd_responses_to_the_probe_lead_to_initialize() {
    for mode in ["discover-empty", "discover-null", "discover-text", "discover-legacy-only"] {
        assert_worked(&run_work(&workspace(mode, ""), ""));
        assert_worked(&run_work(&http_workspace(mode, ""), ""));
    }
}

#[test]
fn server_that_declares_no_tools_may_refuse_to_list_them() {
    for place in [workspace("without-tools", ""), http_workspace("without-tools", "")] {
        let tested = place.kapell(&["agents", "test"]);
        assert_eq!(tested.code, Some(0), "{tested:?}");
        assert!(tested.stdout.contains("  0 tools\n"), "{tested:?}");
    }
}

#[test]
fn pretty_printed_messages_are_read() {
    assert_worked(&run_work(&workspace("pretty", ""), ""));
}

#[test]
fn arguments_in_the_command_are_reported() {
    let place = Workspace::new();
    place.write("agents.toml", "[agents.hard]\ncommand = \"npx -y some-server\"\n");
    insta::assert_snapshot!(task_error(&place, &run_work(&place, "")));
}

#[test]
fn configured_era_mismatch_is_reported() {
    let place = workspace("ends-not", "protocol = \"modern\"");
    insta::assert_snapshot!(task_error(&place, &run_work(&place, "")));
}

#[test]
fn server_cache_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = workspace("ends-on-probe", "");
    assert_worked(&run_work(&place, ""));
    let file = place.path("state/kapell/servers.json");
    let mode = std::fs::metadata(&file).expect("the file of facts").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text: Value = serde_json::from_slice(&std::fs::read(&file).expect("reads")).expect("JSON");
    assert_eq!(text["servers"].as_object().map(|servers| servers.len()), Some(1));
}

#[test]
fn honors_retry_after_of_a_server() {
    for mode in ["limited-call", "busy-call"] {
        let ended = run_work(&http_workspace(mode, ""), "retry: { max_attempts: 2, backoff: { initial: 1ms } }");
        assert_worked(&ended);
        assert_eq!(ended.result()["tasks"]["a"]["attempts"], 2, "{mode}");
    }
}

#[test]
fn retry_after_beyond_the_deadline_fails_the_task() {
    let place = http_workspace("limited-for-long", "");
    let ended = run_work(&place, "retry: 3, deadline: 1m");
    assert_eq!(ended.result()["tasks"]["a"]["attempts"], 1);
    insta::assert_snapshot!(task_error(&place, &ended));
}

#[test]
fn task_waits_for_a_late_agent() {
    let place = workspace("comes-later", "");
    let text = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let opens = text.replace("[agents.hard]", "[agents.opens]").replace("\"comes-later\"", "\"opens\"");
    place.write("agents.toml", text + &opens);
    // The server waits for `opens`, a fallback that is connected only when it is needed.
    let plan = "name: x\ntasks:\n\
                \x20 - { id: early, agent: hard, tool: work, on_failure: continue }\n\
                \x20 - { id: open, needs: [early], agent: hard, tool: work, fallback: [{ agent: opens, tool: work }] }\n\
                \x20 - { id: late, needs: [open], agent: hard, tool: work, retry: { max_attempts: 4, backoff: { initial: 100ms } } }\n";
    let ended = place.run_plan(plan, &[]);
    assert_eq!(ended.task("early"), ("failed".into(), Some("agent_unavailable".into())), "{ended:?}");
    assert_eq!(
        (ended.task("open"), ended.task("late")),
        (("succeeded".into(), None), ("succeeded".into(), None)),
        "{ended:?}"
    );
    assert_eq!(ended.result()["tasks"]["late"]["agent"], "hard");
}

#[test]
fn stale_tool_list_does_not_reject_calls() {
    for mode in ["modern-changes", "modern-announces"] {
        let place = workspace(mode, "");
        let plan = "name: x\ntasks:\n\
                    \x20 - { id: change, agent: hard, tool: migrate }\n\
                    \x20 - { id: a, needs: [change], agent: hard, tool: read, with: { id: 7 } }\n\
                    \x20 - { id: bad, needs: [a], agent: hard, tool: read, with: { id: x }, on_failure: continue }\n";
        let ended = place.run_plan(plan, &[]);
        assert_eq!(ended.task("a"), ("succeeded".into(), None), "{mode} {ended:?}");
        assert_eq!(ended.task("bad"), ("failed".into(), Some("invalid_arguments".into())), "{mode} {ended:?}");
        let subscribes = file_lines(&place, "methods").contains(&"subscriptions/listen".to_owned());
        assert_eq!(subscribes, mode == "modern-announces");
    }
}

/// A process that is killed at the end of a test, even if the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // This fails only if the process has already ended, as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn unknown_certificate_authority_is_reported() {
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/tls/authority.pem");
    let own = http_workspace("tls", "startup_timeout = \"1h\"");
    let agents = std::fs::read_to_string(own.path("agents.toml")).expect("written").replace("http://", "https://");
    own.write("agents.toml", agents);

    let other = Workspace::new();
    let mut server = Command::new("python3");
    server.args([&server_script(), "tls", &other.path("").display().to_string(), "0"]);
    let _server = Running(server.spawn().expect("python3 starts"));
    let port = wait_for("the server", || file_lines(&other, "listens").pop());
    let url = format!("url = \"https://127.0.0.1:{port}/mcp\"\nstartup_timeout = \"1h\"\n");
    other.write("agents.toml", format!("[agents.hard]\n{url}"));

    for place in [own, other] {
        insta::assert_snapshot!("unknown_authority", task_error(&place, &run_work(&place, "")));
        let mut command = place.command(["run", "plan.yaml", "--output", "json", "--no-input"]);
        let known = CommandOutput::of(command.env("SSL_CERT_FILE", &authority));
        assert_worked(&known);
        let agents = std::fs::read_to_string(place.path("agents.toml")).expect("written");
        place.write("agents.toml", format!("{agents}\nca_file = {:?}\n", authority.display().to_string()));
        assert_worked(&run_work(&place, ""));
    }
}

#[test]
fn client_certificate_is_presented() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/tls");
    let [authority, client] = ["authority.pem", "client.pem"].map(|file| tls.join(file).display().to_string());
    let place = Workspace::new();
    let mut command = Command::new("python3");
    command.args([&server_script(), "mutual-tls", &place.path("").display().to_string(), "0"]);
    let _server = Running(command.spawn().expect("python3 starts"));
    let port = wait_for("the server", || file_lines(&place, "listens").pop());
    let with = |keys: &str| {
        let url = format!("url = \"https://127.0.0.1:{port}/mcp\"\nca_file = {authority:?}\nstartup_timeout = \"2s\"");
        place.write("agents.toml", format!("[agents.hard]\n{url}\n{keys}\n"));
        run_work(&place, "")
    };
    assert_worked(&with(&format!("client_cert_file = {client:?}")));
    assert_eq!(with("").task("a").0, "failed");
    let mut errors = String::new();
    place.write("empty.pem", "");
    for keys in [
        "client_cert_file = \"missing.pem\"".to_owned(),
        format!("client_cert_file = {authority:?}"),
        "ca_file = \"empty.pem\"".to_owned(),
    ] {
        let text = format!("[agents.hard]\nurl = \"https://127.0.0.1:{port}/mcp\"\n{keys}\n");
        place.write("agents.toml", text);
        errors += &task_error(&place, &run_work(&place, ""));
        errors += "\n";
    }
    insta::assert_snapshot!(errors.replace(&tls.display().to_string(), "TLS"));
}

#[test]
fn proxy_of_an_agent_is_used_and_its_password_is_masked() {
    let place = Workspace::new();
    let mut command = Command::new("python3");
    command.args([&server_script(), "echo-proxy", &place.path("").display().to_string(), "0"]);
    let _proxy = Running(command.spawn().expect("python3 starts"));
    let port = wait_for("the proxy", || file_lines(&place, "listens").pop());
    let keys = format!("url = \"http://agent.example/mcp\"\nproxy = \"http://me:hunter22@127.0.0.1:{port}\"\n");
    place.write("agents.toml", format!("[agents.hard]\n{keys}"));
    let ended = run_work(&place, "");
    assert_eq!(ended.result()["tasks"]["a"]["output"], "the password is ***", "{ended:?}");
    let proxied = file_lines(&place, "proxied");
    assert!(proxied.iter().all(|line| line == "http://agent.example/mcp Basic bWU6aHVudGVyMjI="), "{proxied:?}");
}

#[test]
fn agents_inherit_what_reaches_the_network_and_no_other_secrets() {
    let place = workspace("environment", "");
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: hard, tool: work }]\n");
    let mut command = place.command(["run", "plan.yaml", "--output", "json", "--no-input"]);
    command.env("HTTPS_PROXY", "http://me:hunter22@proxy.example:8080").env("no_proxy", "localhost");
    command.env("NODE_EXTRA_CA_CERTS", "/etc/ca.pem").env("NPM_TOKEN", "npm-secret").env("DISPLAY", ":7");
    let ended = CommandOutput::of(&mut command);
    let output = &ended.result()["tasks"]["a"]["output"];
    let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
    let environment: Value = serde_json::from_str(&text).expect("the environment");
    assert_eq!(environment["HTTPS_PROXY"], "http://me:***@proxy.example:8080");
    assert_eq!([&environment["no_proxy"], &environment["NODE_EXTRA_CA_CERTS"]], ["localhost", "/etc/ca.pem"]);
    assert_eq!(environment["DISPLAY"], ":7");
    assert!(environment.get("NPM_TOKEN").is_none());
}

#[test]
fn slow_startup_names_variables_that_the_program_does_not_inherit() {
    let place = workspace("slow", "startup_timeout = \"1s\"\nenv_vars = [\"NODE_OPTIONS\"]");
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: hard, tool: work }]\n");
    let mut command = place.command(["run", "plan.yaml", "--output", "json", "--no-input"]);
    command.env("BUN_CONFIG_TOKEN", "x").env("NODE_OPTIONS", "y");
    let ended = CommandOutput::of(&mut command);
    let help = ended.result()["tasks"]["a"]["error"]["help"].as_str().unwrap_or_default().to_owned();
    assert!(help.contains("the program does not inherit `BUN_CONFIG_TOKEN`"), "{help}");
    assert!(!help.contains("NODE_OPTIONS"), "{help}");
}

#[test]
fn installation_is_reported_and_has_more_time() {
    let place = Workspace::new();
    let installer = format!(
        "#!/bin/sh\nwhile [ ! -e {0}done ]; do sleep 0.05; done\nexec python3 {1} plain {0}\n",
        place.path("").display(),
        server_script()
    );
    place.write("npx", installer);
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path("npx"), permissions).expect("executable");
    place.write("agents.toml", "[agents.hard]\ncommand = \"./npx\"\nargs = [\"-y\", \"@acme/server\"]\n");
    let mut test = place.start(&["agents", "test"]);
    let mut stderr = BufReader::new(test.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("text");
    assert_eq!(line, "hard  still starting: `npx` is probably installing `@acme/server` (limit: 5m30s)\n");
    place.write("done", "");
    let tested = CommandOutput::from_output(test.wait_with_output().expect("it ends"));
    assert_eq!(tested.code, Some(0), "{tested:?}");

    std::fs::remove_file(place.path("done")).expect("written");
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: hard, tool: work }]\n");
    let mut run = place.start(&["run", "plan.yaml", "--output", "json", "--no-input"]);
    let lines = BufReader::new(run.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let mut reported = lines.filter(|line| line.contains("still starting: `npx` is probably installing"));
    assert!(reported.next().is_some());
    place.write("done", "");
    // The rest of the output is read, so that the program can write it.
    assert_eq!(reported.count(), 0);
    assert_worked(&CommandOutput::from_output(run.wait_with_output().expect("it ends")));
}
