//! Logins with OAuth: the commands, runs that renew a login or ask for one, and authorization servers that misbehave.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace, wait_for};

const PLAN: &str = "
    name: protected
    tasks:
      - { id: one, agent: box, tool: echo, effect: at_most_once, with: { text: hello } }
    outputs: { text: '${{ tasks.one.text }}' }
";

/// A server that requires a login, with its authorization server.
pub(crate) struct OAuthServer {
    process: Child,
    /// The address for kapell.
    address: String,
    /// The address for this test and the browser.
    test_address: String,
}

impl Drop for OAuthServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl OAuthServer {
    pub(crate) fn start(options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/oauth.py");
        let mut process =
            Command::new("python3").arg(script).args(options).stdout(Stdio::piped()).spawn().expect("python3");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
        let mut next_line = || lines.next().expect("a line").expect("an address");
        let (address, test_address) = (next_line(), next_line());
        Self { process, address, test_address }
    }

    /// Returns the address for kapell.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Writes an agents file with this server as the agent `box`, and further keys.
    fn agents_file(&self, place: &Workspace, keys: &str) {
        let url = format!("{}/mcp", self.address);
        place.write("agents.toml", format!("[agents.box]\nurl = \"{url}\"\nprotocol = \"legacy\"\n{keys}\n"));
    }

    fn post(&self, path: &str) {
        assert_eq!(fetch("POST", &format!("{}{path}", self.test_address)).0, 200);
    }

    /// Returns the requests so far.
    fn log(&self) -> Value {
        serde_json::from_str(&fetch("GET", &format!("{}/log", self.test_address)).1).expect("JSON")
    }

    /// Returns how many tokens of each kind of grant were requested.
    fn grants(&self, grant: &str) -> usize {
        self.log()["grants"].as_array().expect("a list").iter().filter(|given| **given == grant).count()
    }
}

/// Sends a request without a body, and returns the status and the body of the response. Follows redirects.
fn fetch(method: &str, address: &str) -> (u16, String) {
    let (host, path) = address.strip_prefix("http://").expect("HTTP").split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("connects");
    write!(stream, "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .expect("sends");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let location = head.lines().find_map(|line| line.strip_prefix("Location: ").or(line.strip_prefix("location: ")));
    if let Some(location) = location {
        return fetch("GET", location);
    }
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

/// A `kapell agents login` that shows its page.
struct PageLogin {
    process: Child,
    address: String,
}

impl PageLogin {
    /// Starts to log in to the agent `box`, and waits for the address of the page.
    fn start(place: &Workspace) -> Self {
        let mut process = place
            .command(["agents", "login", "box", "--no-browser"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kapell starts");
        let mut address = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout"));
        stdout.read_line(&mut address).expect("a line");
        Self { process, address: address.trim().to_owned() }
    }

    fn end(self) -> CommandOutput {
        CommandOutput::from_output(self.process.wait_with_output().expect("ends"))
    }

    /// Returns a parameter of the address.
    fn parameter(&self, name: &str) -> String {
        let url = url::Url::parse(&self.address).expect("an address");
        url.query_pairs().find(|(known, _)| known == name).expect("a parameter").1.into_owned()
    }
}

/// Logs in as a person with a browser does.
fn log_in(place: &Workspace) -> CommandOutput {
    let login = PageLogin::start(place);
    if !login.address.is_empty() {
        fetch("GET", &login.address);
    }
    login.end()
}

fn logged_in_workspace(server: &OAuthServer) -> Workspace {
    let place = Workspace::new();
    server.agents_file(&place, "");
    let ended = log_in(&place);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    place
}

/// Returns the login in `kapell agents list`.
fn listed_login(place: &Workspace) -> Value {
    let listed = place.kapell(&["agents", "list", "--output", "json"]);
    serde_json::from_str::<Value>(&listed.stdout).expect("JSON")[0]["login"].clone()
}

/// Returns the paths of the stored logins.
fn login_files(place: &Workspace) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(place.path("state/kapell/logins")).into_iter().flatten();
    let files = files.map(|file| file.expect("a file").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

/// Visits a login page as a person does, at the address of `server` for tests.
fn visit_page(server: &OAuthServer, page: &str) -> u16 {
    let url = url::Url::parse(page).expect("an address");
    fetch("GET", &format!("{}{}", server.test_address, &url[url::Position::BeforePath..])).0
}

/// Changes the only stored login.
fn change_login(place: &Workspace, change: impl FnOnce(&mut Value)) {
    let [path] = &login_files(place)[..] else { panic!("one login is expected") };
    let mut login = serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON");
    change(&mut login);
    std::fs::write(path, login.to_string()).expect("writes");
}

#[test]
fn login_is_stored_listed_used_and_forgotten() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = OAuthServer::start(&[]);
    let place = Workspace::new();
    server.agents_file(&place, "");
    assert_eq!(listed_login(&place), Value::Null);
    let ended = log_in(&place);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stderr.contains("agent `box`: logged in"), "{ended:?}");

    let login = listed_login(&place);
    assert_eq!((&login["issuer"], &login["is_renewable"]), (&json!(server.address), &json!(true)));
    assert!(login["expires_at"].as_u64().is_some_and(|end| end > 1_700_000_000_000), "{login}");
    let [file] = &login_files(&place)[..] else { panic!("one file") };
    let mode = |path: &Path| std::fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!((mode(file), mode(file.parent().expect("a folder"))), (0o600, 0o700));

    let ran = place.run_plan(PLAN, &[]);
    assert_eq!(ran.result()["outputs"]["text"], "hello", "{ran:?}");
    let log = server.log();
    assert_eq!((&log["registrations"], &log["grants"]), (&json!(1), &json!(["authorization_code"])));

    let ended = place.kapell(&["agents", "logout", "box"]);
    assert!(ended.stderr.contains("logged out"), "{ended:?}");
    assert_eq!((listed_login(&place), login_files(&place).len()), (Value::Null, 0));
    assert!(place.kapell(&["agents", "logout", "box"]).stderr.contains("not logged in"));
}

#[test]
fn run_without_a_login_or_a_person_fails_with_the_command_that_helps() {
    let server = OAuthServer::start(&[]);
    let place = Workspace::new();
    server.agents_file(&place, "required = true");
    for arguments in [&["agents", "test"][..], &["run", "plan.yaml", "--no-input"]] {
        place.write("plan.yaml", PLAN);
        let ended = place.kapell(arguments);
        assert_eq!(ended.code, Some(6), "{ended:?}");
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(shown.contains("kapell agents login box"), "{shown}");
    }
    assert_eq!(server.log()["calls"], json!([]));
}

#[test]
fn refused_call_is_sent_again_with_a_renewed_token_under_the_same_attempt() {
    let server = OAuthServer::start(&[]);
    let place = logged_in_workspace(&server);
    server.post("/expire");
    let ran = place.run_plan(PLAN, &["--journal", "j.db"]);
    assert_eq!(ran.result()["outputs"]["text"], "hello", "{ran:?}");
    assert_eq!((server.grants("refresh_token"), &server.log()["calls"]), (1, &json!(["echo"])));
    assert_eq!(place.logged_events("j.db", "attempt_started").len(), 1);

    // The time of the renewal is known, so nothing is refused.
    change_login(&place, |login| login["credentials"]["token_received_at"] = json!(1));
    assert_eq!(place.run_plan(PLAN, &[]).code, Some(0));
    assert_eq!(server.grants("refresh_token"), 2);
}

#[test]
fn token_that_expires_between_two_calls_is_renewed_in_the_run() {
    let server = OAuthServer::start(&[]);
    let place = logged_in_workspace(&server);
    // The second call waits for a person until the token has expired.
    place.write(
        "plan.yaml",
        "
        name: twice
        tasks:
          - { id: one, agent: box, tool: echo, effect: at_most_once, with: { text: one } }
          - { id: two, needs: [one], approve: Go on?, agent: box, tool: echo, effect: at_most_once, with: { text: two } }
        ",
    );
    let paused = place.kapell(&["run", "plan.yaml", "--journal", "j.db", "--detach"]);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    wait_for("the question", || (!open_questions(&place).is_empty()).then_some(()));
    server.post("/expire");
    assert_eq!(place.kapell(&["answer", "last", "q1", "--accept", "--journal", "j.db"]).code, Some(0));
    crate::support::workspace::wait_for_status(&place, &["succeeded"]);
    assert_eq!((server.grants("refresh_token"), &server.log()["calls"]), (1, &json!(["echo", "echo"])));
    assert_eq!(place.logged_events("j.db", "attempt_started").len(), 2);
}

/// Returns the open questions of the latest run.
fn open_questions(place: &Workspace) -> Vec<Value> {
    let listed = place.kapell(&["questions", "--journal", "j.db", "--output", "json"]);
    serde_json::from_str(&listed.stdout).unwrap_or_default()
}

#[test]
fn two_processes_that_renew_a_login_at_once_make_one_request() {
    let server = OAuthServer::start(&["slow-refresh"]);
    let place = logged_in_workspace(&server);
    server.post("/expire");
    place.write("plan.yaml", PLAN);
    let refused = || server.log()["refused"].as_u64().expect("a number");
    let before = refused();
    let run = |journal: &str| place.start(&["run", "plan.yaml", "--no-input", "--journal", journal]);
    let processes = [run("a.db"), run("b.db")];
    wait_for("a renewal", || (server.grants("refresh_token") > 0).then_some(()));
    // Both processes are refused before either has another token.
    wait_for("both refusals", || (refused() >= before + 2).then_some(()));
    server.post("/release");
    for process in processes {
        let ended = CommandOutput::from_output(process.wait_with_output().expect("ends"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!((server.grants("refresh_token"), &server.log()["calls"]), (1, &json!(["echo", "echo"])));
}

#[test]
fn concurrent_calls_of_a_run_renew_a_login_once() {
    let server = OAuthServer::start(&[]);
    let place = logged_in_workspace(&server);
    server.post("/expire");
    let plan = "
        name: wide
        tasks:
          - { id: each, foreach: '${{ [1, 2, 3, 4, 5, 6, 7, 8] }}', as: n, agent: box, tool: echo, with: { text: x } }
        ";
    let ran = place.run_plan(plan, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!((server.grants("refresh_token"), server.log()["calls"].as_array().map(Vec::len)), (1, Some(8)));
}

#[test]
fn kill_during_a_renewal_costs_the_login_but_nothing_else() {
    let server = OAuthServer::start(&["lost-refresh"]);
    let place = logged_in_workspace(&server);
    server.post("/expire");
    place.write("plan.yaml", PLAN);
    let mut killed = place.start(&["run", "plan.yaml", "--no-input", "--journal", "a.db"]);
    wait_for("a renewal", || (server.grants("refresh_token") > 0).then_some(()));
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    // The authorization server has replaced the refresh token, and no process knows the new one.
    let ended = place.run_plan(PLAN, &[]);
    assert_eq!(ended.task("one"), ("failed".to_owned(), Some("agent_unavailable".to_owned())), "{ended:?}");
    assert!(ended.stdout.contains("kapell agents login box"), "{ended:?}");
    assert_eq!(log_in(&place).code, Some(0));
    assert_eq!(place.run_plan(PLAN, &[]).code, Some(0));
}

/// Starts a detached run whose agent requires a login, and returns its question.
fn run_that_requires_a_login() -> (OAuthServer, Workspace, Value) {
    let server = OAuthServer::start(&[]);
    let place = Workspace::new();
    server.agents_file(&place, "");
    place.write("plan.yaml", PLAN);
    assert_eq!(place.kapell(&["run", "plan.yaml", "--journal", "j.db", "--detach"]).code, Some(0));
    let question = wait_for("the question", || open_questions(&place).into_iter().next());
    (server, place, question)
}

#[test]
fn required_login_is_a_question_of_the_run() {
    for elsewhere in [false, true] {
        let (server, place, question) = run_that_requires_a_login();
        let address = question["form"]["url"]["url"].as_str().expect("a page").to_owned();
        assert!(question["message"].as_str().expect("a text").contains("kapell agents login box"), "{question}");
        if elsewhere {
            assert_eq!(log_in(&place).code, Some(0));
        } else {
            let accepted = place.kapell(&["answer", "last", "q1", "--accept", "--journal", "j.db"]);
            assert_eq!(accepted.code, Some(0), "{accepted:?}");
            let (status, page) = fetch("GET", &address);
            assert!(status == 200 && page.contains("logged in to the agent box"), "{page}");
        }
        crate::support::workspace::wait_for_status(&place, &["succeeded"]);
        assert_eq!(server.log()["calls"], json!(["echo"]));
    }
}

#[test]
fn required_login_of_a_run_is_completed_from_another_machine() {
    let (server, place, question) = run_that_requires_a_login();
    assert!(question["message"].as_str().expect("a text").contains("--redirect-url"), "{question}");
    let page = question["form"]["url"]["url"].as_str().expect("a page");
    let answer =
        |address: &str| place.kapell(&["answer", "last", "q1", "--redirect-url", address, "--journal", "j.db"]);
    for address in ["http://127.0.0.1:1/callback?code=1&state=2", page] {
        let refused = answer(address);
        assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::login_not_completed"), "{refused:?}");
    }
    let address = redirect_of(page);
    let answered = answer(&address);
    assert!(answered.code == Some(0) && answered.stderr.contains("logged in"), "{answered:?}");
    crate::support::workspace::wait_for_status(&place, &["succeeded"]);
    assert_eq!(server.log()["calls"], json!(["echo"]));
    // The code is neither an answer nor an event.
    let logged = place.kapell(&["logs", "last", "--output", "json", "--journal", "j.db"]).stdout;
    assert!(!logged.contains(address.split("code=").nth(1).expect("a code")), "{logged}");
}

#[test]
fn declined_login_fails_the_task() {
    let (_server, place, _) = run_that_requires_a_login();
    assert_eq!(place.kapell(&["answer", "last", "q1", "--decline", "--journal", "j.db"]).code, Some(0));
    crate::support::workspace::wait_for_status(&place, &["failed"]);
    let shown = place.kapell(&["runs", "show", "last", "--journal", "j.db"]);
    assert!(shown.stdout.contains("kapell agents login box"), "{shown:?}");
}

#[test]
fn network_settings_apply_to_the_authorization_server() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/tls");
    let authority = format!("ca_file = {:?}\n", tls.join("authority.pem"));
    let identity = format!("{authority}client_cert_file = {:?}\n", tls.join("client.pem"));
    for (options, keys) in [
        (&["tls"][..], authority.as_str()),
        (&["tls", "identified"], &identity),
        (&["tls", "identified", "other-origin"], &identity),
        (&["behind-proxy"], ""),
    ] {
        let server = OAuthServer::start(options);
        let place = Workspace::new();
        let proxy = format!("proxy = \"{}\"\n", server.test_address);
        server.agents_file(&place, if keys.is_empty() { &proxy } else { keys });
        let login = PageLogin::start(&place);
        assert_eq!(visit_page(&server, &login.address), 200, "{options:?}: {:?}", login.end());
        let ended = login.end();
        assert_eq!(ended.code, Some(0), "{options:?}: {ended:?}");
        server.post("/expire");
        let ran = place.run_plan(PLAN, &[]);
        assert_eq!(ran.result()["outputs"]["text"], "hello", "{options:?}: {ran:?}");
        let log = server.log();
        assert_eq!(log["grants"], json!(["authorization_code", "refresh_token"]), "{options:?}");
        // The certificate of the client is presented at the origin of the `url`, and nowhere else.
        let identified: Vec<_> = log["identified"].as_array().expect("a list").iter().collect();
        let is_identified = |path: &str| identified.iter().any(|known| **known == path);
        assert_eq!(is_identified("/mcp"), options.contains(&"identified"), "{options:?}: {identified:?}");
        assert_eq!(is_identified("/token"), options == ["tls", "identified"], "{options:?}: {identified:?}");
    }
}

#[test]
fn missing_scope_is_requested_by_the_next_login_once() {
    let plan = "
        name: step-up
        tasks:
          - { id: one, agent: box, tool: write, effect: at_most_once, with: { text: hello } }
        ";
    let server = OAuthServer::start(&[]);
    let place = logged_in_workspace(&server);
    let refused = place.run_plan(plan, &[]);
    assert_eq!(refused.task("one").1.as_deref(), Some("unauthorized"), "{refused:?}");
    assert_eq!(log_in(&place).code, Some(0));
    assert_eq!(place.run_plan(plan, &[]).code, Some(0));
    assert_eq!(server.log()["scopes"], json!(["", "write"]));
    assert_eq!(server.log()["calls"], json!(["write"]));

    // The new token has the scope, so another login would not help.
    let server = OAuthServer::start(&["never-enough"]);
    let place = logged_in_workspace(&server);
    place.write("plan.yaml", plan);
    assert_eq!(place.kapell(&["run", "plan.yaml", "--journal", "j.db", "--detach"]).code, Some(0));
    let question = wait_for("the question", || open_questions(&place).into_iter().next());
    fetch("GET", question["form"]["url"]["url"].as_str().expect("a page"));
    crate::support::workspace::wait_for_status(&place, &["failed"]);
    assert_eq!(server.log()["scopes"], json!(["", "write"]));
    let shown = place.kapell(&["runs", "show", "last", "--journal", "j.db"]);
    assert!(shown.stdout.contains("`write` are missing, which its token has"), "{shown:?}");
}

#[test]
fn login_requests_the_scopes_of_the_first_refusal() {
    let server = OAuthServer::start(&["open-handshake"]);
    let place = logged_in_workspace(&server);
    assert_eq!(server.log()["scopes"], json!(["basic"]));
    assert_eq!(listed_login(&place)["scopes"], json!(["basic"]));
    assert_eq!(place.run_plan(PLAN, &[]).code, Some(0));
}

#[test]
fn pasted_redirect_address_completes_a_login() {
    let server = OAuthServer::start(&[]);
    let place = Workspace::new();
    server.agents_file(&place, "");
    let mut login = PageLogin::start(&place);
    // The browser is on another machine, where nothing listens at the redirect address.
    let redirect = redirect_of(&login.address);
    let stdin = login.process.stdin.as_mut().expect("stdin");
    writeln!(stdin, "http://127.0.0.1:1/callback?code=1&state=2\n{redirect}").expect("pastes");
    let ended = login.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("not the address that the login page redirects to"), "{ended:?}");
    assert_eq!(place.run_plan(PLAN, &[]).code, Some(0));
}

/// Returns the address that the login page redirects to, without visiting it.
fn redirect_of(page: &str) -> String {
    let (host, path) = page.strip_prefix("http://").expect("HTTP").split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("connects");
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("sends");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    response.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a redirect").to_owned()
}

#[test]
fn redirect_of_another_login_is_ignored() {
    let server = OAuthServer::start(&[]);
    let place = Workspace::new();
    server.agents_file(&place, "");
    let login = PageLogin::start(&place);
    let (status, _) = fetch("GET", &format!("{}?code=1&state=forged", login.parameter("redirect_uri")));
    assert_eq!(status, 404);
    assert_eq!(fetch("GET", &login.address).0, 200);
    assert_eq!(login.end().code, Some(0));
}

#[test]
fn failed_logins_store_nothing_and_are_explained() {
    for (option, reason) in [
        ("denied", "the authorization server answered `access_denied` (not today)"),
        ("wrong-issuer", "https://other.test"),
        ("expired-code", "invalid_grant"),
    ] {
        let server = OAuthServer::start(&[option]);
        let place = Workspace::new();
        server.agents_file(&place, "");
        let login = PageLogin::start(&place);
        let (status, page) = fetch("GET", &login.address);
        assert!(status == 400 && page.contains(reason), "{option}: {page}");
        let ended = login.end();
        assert_eq!((ended.code, ended.error_code()), (Some(1), "cli::login_failed"), "{option}: {ended:?}");
        assert_eq!(login_files(&place), Vec::<std::path::PathBuf>::new(), "{option}");
    }
}

#[test]
fn servers_without_a_usable_authorization_server_are_explained() {
    for (option, reason) in [
        ("other-resource", "other.test"),
        ("no-registration", "set `client_id` in `[agents.box.oauth]`"),
        ("no-oauth", "set `bearer_token_env_var` in `[agents.box]`"),
    ] {
        let server = OAuthServer::start(&[option]);
        let place = Workspace::new();
        server.agents_file(&place, "");
        let ended = place.kapell(&["agents", "login", "box", "--no-browser"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{option}: {ended:?}");
        let shown = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains(reason), "{option}: {shown}");
    }
}

#[test]
fn login_of_a_server_that_requires_none_changes_nothing() {
    let place = Workspace::new();
    let server = "[agents.box]\ncommand = \"${KAPELL}\"\nargs = [\"demo-agent\", \"research\"]\n";
    place.write("agents.toml", server);
    let ended = place.kapell(&["agents", "login", "box", "--no-browser"]);
    assert_eq!((ended.code, ended.error_code()), (Some(1), "cli::login_failed"), "{ended:?}");
    assert!(ended.stderr.contains("it is started by `command`"), "{ended:?}");
}

#[test]
fn clients_authenticate_themselves_without_a_person() {
    let server = OAuthServer::start(&[]);
    let place = Workspace::new();
    let keys =
        "oauth = { grant = \"client_credentials\", client_id = \"service\", client_secret_env_var = \"SECRET\" }";
    server.agents_file(&place, keys);
    place.write("plan.yaml", PLAN);
    let run = |secret: &str| {
        let mut command = place.command(["run", "plan.yaml", "--no-input", "--output", "json"]);
        CommandOutput::of(command.env("SECRET", secret))
    };
    let refused = run("wrong-secret");
    assert_eq!(refused.task("one").1.as_deref(), Some("agent_unavailable"), "{refused:?}");
    assert!(refused.stdout.contains("check `[agents.box.oauth]`"), "{refused:?}");
    for _ in 0..2 {
        let ran = run("made-up-secret");
        assert_eq!(ran.result()["outputs"]["text"], "hello", "{ran:?}");
    }
    // The second run uses the token of the first one.
    assert_eq!(server.grants("client_credentials"), 2);
    server.post("/expire");
    assert_eq!(run("made-up-secret").code, Some(0));
    assert_eq!(server.grants("client_credentials"), 3);
}

#[test]
fn clients_authenticate_themselves_with_a_key() {
    let server = OAuthServer::start(&[]);
    let place = Workspace::new();
    // The file also contains a certificate.
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/tls/server.pem");
    let keys = "grant = \"client_credentials\", client_id = \"service\"";
    server.agents_file(&place, &format!("oauth = {{ {keys}, private_key_file = {key:?} }}"));
    let ran = place.run_plan(PLAN, &[]);
    assert_eq!(ran.result()["outputs"]["text"], "hello", "{ran:?}");
    assert_eq!(server.log()["authenticated"], json!(["ES256"]));
    let ended = place.kapell(&["agents", "login", "box"]);
    assert!(ended.code == Some(0) && ended.stderr.contains("logged in until"), "{ended:?}");
    assert_eq!(server.grants("client_credentials"), 2);

    server.post("/expire");
    server.agents_file(&place, &format!("oauth = {{ {keys}, private_key_file = \"missing.pem\" }}"));
    let refused = place.run_plan(PLAN, &[]);
    let message = refused.result()["tasks"]["one"]["error"]["message"].to_string();
    assert!(message.contains("missing.pem` cannot be used"), "{message}");
}

#[test]
fn tokens_are_masked_in_results_and_never_printed() {
    let server = OAuthServer::start(&[]);
    let place = logged_in_workspace(&server);
    server.post("/expire");
    let plan = "
        name: leak
        tasks:
          - { id: one, agent: box, tool: whoami }
        outputs: { text: '${{ tasks.one.text }}' }
        ";
    place.write("plan.yaml", plan);
    let mut command = place.command(["run", "plan.yaml", "--no-input", "--output", "json", "--journal", "j.db"]);
    let ran = CommandOutput::of(command.env("KAPELL_LOG", "trace"));
    assert_eq!(ran.result()["outputs"]["text"], "your token is ***", "{ran:?}");
    let logs = place.kapell(&["logs", "last", "--output", "json", "--journal", "j.db"]);
    for shown in [&ran.stdout, &ran.stderr, &logs.stdout] {
        assert!(!shown.contains("access-") && !shown.contains("refresh-"), "{shown}");
    }
}

#[test]
fn token_is_not_sent_to_another_address() {
    let server = OAuthServer::start(&[]);
    let place = logged_in_workspace(&server);
    // Another server at the same agent: it gets no token, and requires a login of its own.
    let other = OAuthServer::start(&[]);
    other.agents_file(&place, "");
    let refused = place.run_plan(PLAN, &[]);
    assert_eq!(refused.task("one").1.as_deref(), Some("agent_unavailable"), "{refused:?}");
    assert_eq!(other.log()["tokens_seen"], json!(0));
    server.agents_file(&place, "");
    assert_eq!(place.run_plan(PLAN, &[]).code, Some(0));
}
