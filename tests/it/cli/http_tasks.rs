//! HTTP requests as tasks: their responses, the hosts that are allowed, redirects, and failures.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http_server::{HttpServer, ReceivedRequest, Reply};
use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for};

/// Runs a plan with one request `x`, which may be sent to this machine by its address.
fn run_request(place: &Workspace, http: &str, keys: &str) -> CommandOutput {
    place.write("agents.toml", "[http]\nhosts = [\"127.0.0.1\"]\n");
    place.run_plan(&format!("name: x\ntasks:\n  - id: x\n    http: {{ {http} }}\n{keys}"), &[])
}

fn task(ended: &CommandOutput) -> Value {
    ended.result()["tasks"]["x"].clone()
}

/// Returns the kind and the message of the failure of task `x`.
fn failure(ended: &CommandOutput) -> (String, String) {
    let error = &task(ended)["error"];
    let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no failure: {ended:?}")).to_owned();
    (text("kind"), text("message"))
}

#[test]
fn feature_plan_lists_reads_and_adds() {
    let server = HttpServer::start(|request, _| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/entries") => Reply::json(&json!({"entries": ["a b", "c&d", "gone"]})).with_header("x-server: s1"),
        ("GET", "/entries?name=gone") => Reply::new("404 Not Found", "no such entry"),
        ("GET", path) => Reply::new("200 OK", path.to_owned()).with_header("content-type: text/plain"),
        ("POST", _) => Reply::new("201 Created", ""),
        _ => Reply::new("405 Method Not Allowed", ""),
    });
    let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/features/http.yaml").display().to_string();
    let (place, base) = (Workspace::new(), format!("base={}", server.url()));
    let run = ["run", &plan, "-p", &base, "--output", "json", "--no-input"];
    place.write("agents.toml", "");
    let refused = place.kapell(&run);
    assert_eq!((refused.code, refused.error_codes()), (Some(2), vec!["plan::http_host"; 3]), "{refused:?}");
    assert!(refused.stderr.contains("`hosts` in `[http]`"), "{refused:?}");
    assert!(refused.stderr.contains("`--allow-http HOST`"), "{refused:?}");

    let ended = place.kapell(&[&run[..], &["--allow-http", "127.0.0.1"]].concat());
    // One entry does not exist, and the plan continues without it.
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let expected = json!({"read": ["/entries?name=a+b", "/entries?name=c%26d"], "added": 201});
    assert_eq!(ended.result()["outputs"], expected);
    let posted = server.received().into_iter().find(|request| request.method == "POST").expect("a request");
    assert_eq!(
        (posted.headers["x-request"].as_str(), posted.headers["content-type"].as_str()),
        ("s1", "application/json")
    );
    assert_eq!(
        serde_json::from_str::<Value>(&posted.body).expect("JSON"),
        json!({"name": "new", "after": ["a b", "c&d", "gone"]})
    );
}

#[test]
fn responses_are_values_text_or_files() {
    let server = HttpServer::start(|request, _| match request.path.as_str() {
        "/json" => Reply::json(&json!({"n": [1, 2.5]})).with_header("X-Thing: a").with_header("X-Thing: b"),
        "/broken" => Reply::new("200 OK", "{").with_header("content-type: application/json"),
        "/picture" => Reply::new("200 OK", [0x89, b'P', 0xff]).with_header("content-type: image/png"),
        _ => Reply::new("204 No Content", ""),
    });
    let place = Workspace::new();
    let of = |path: &str| {
        let ended = run_request(&place, &format!("url: '{}{path}'", server.url()), "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        task(&ended)
    };
    let json_task = of("/json");
    assert_eq!((&json_task["output"]["status"], &json_task["output"]["body"]), (&json!(200), &json!({"n": [1, 2.5]})));
    assert_eq!(json_task["output"]["headers"]["x-thing"], json!("a, b"));
    assert_eq!(of("/broken")["output"]["body"], json!("{"));
    assert_eq!((&of("/none")["output"]["body"], &of("/none")["output"]["status"]), (&Value::Null, &json!(204)));
    let picture = of("/picture");
    assert_eq!(picture["output"]["body"], Value::Null);
    assert_eq!((&picture["files"][0]["mime_type"], &picture["files"][0]["bytes"]), (&json!("image/png"), &json!(3)));
}

#[test]
fn other_hosts_are_never_contacted() {
    let server = HttpServer::start(|_, _| Reply::new("200 OK", "no"));
    let place = Workspace::new();
    let local = format!("http://localhost:{}/", server.port);
    let refused = run_request(&place, &format!("url: '{local}'"), "");
    assert_eq!((refused.code, refused.error_code()), (Some(2), "plan::http_host"), "{refused:?}");
    assert!(
        refused.stderr.contains("`\"localhost\"`") && refused.stderr.contains("--allow-http localhost"),
        "{refused:?}"
    );
    // A URL that only the run knows is checked before it is requested.
    let dynamic =
        format!("name: x\ntasks:\n  - {{ id: y, foreach: ['{local}'], http: {{ url: '${{{{ item }}}}' }} }}\n");
    let ended = place.run_plan(&dynamic, &[]);
    let error = ended.result()["tasks"]["y"]["items"][0]["error"].clone();
    assert_eq!(error["kind"], json!("refused"), "{ended:?}");
    assert!(error["help"].as_str().is_some_and(|help| help.contains("`[http]`")), "{error}");
    assert_eq!(server.received().len(), 0);
}

#[test]
fn redirects_stay_on_allowed_hosts_and_keep_secrets_at_home() {
    let other = HttpServer::start(|_, _| Reply::new("200 OK", "other"));
    let (port, other_url) = (other.port, other.url());
    let server = HttpServer::start(move |request, _| match request.path.as_str() {
        "/same" => Reply::redirect("302 Found", "/end"),
        "/see" => Reply::redirect("303 See Other", "/end"),
        "/keep" => Reply::redirect("307 Temporary Redirect", "/end"),
        "/other" => Reply::redirect("302 Found", &format!("{other_url}/end")),
        "/other-keep" => Reply::redirect("308 Permanent Redirect", &format!("{other_url}/end")),
        "/forbidden" => Reply::redirect("302 Found", &format!("http://localhost:{port}/end")),
        "/file" => Reply::redirect("302 Found", "file:///etc/passwd"),
        "/loop" => Reply::redirect("302 Found", "/loop"),
        _ => Reply::new("200 OK", "end"),
    });
    let place = Workspace::new();
    let post = |path: &str| {
        let headers = "headers: { authorization: Bearer t, x-key: k, accept: text/plain }";
        run_request(&place, &format!("url: '{}{path}', method: POST, body: secret, {headers}", server.url()), "")
    };
    let last = |server: &HttpServer| server.received().last().cloned().unwrap_or_default();
    for (path, method, body) in [("/same", "GET", ""), ("/see", "GET", ""), ("/keep", "POST", "secret")] {
        assert_eq!(post(path).code, Some(0), "{path}");
        let ReceivedRequest { method: sent, path: end, headers, body: sent_body } = last(&server);
        assert_eq!((sent.as_str(), end.as_str(), sent_body.as_str()), (method, "/end", body), "{path}");
        assert_eq!(headers.get("authorization").map(String::as_str), Some("Bearer t"), "{path}");
        assert_eq!(headers.contains_key("content-type"), !body.is_empty(), "{path}");
    }
    // Another port is another origin.
    assert_eq!(post("/other").code, Some(0));
    let sent = last(&other);
    assert_eq!((sent.method.as_str(), sent.headers.get("accept").map(String::as_str)), ("GET", Some("text/plain")));
    assert!(!sent.headers.contains_key("authorization") && !sent.headers.contains_key("x-key"), "{sent:?}");
    for (path, problem) in [
        ("/other-keep", "must not get the body"),
        ("/forbidden", "`localhost` are not allowed (the server redirects to it)"),
        ("/file", "invalid address"),
        ("/loop", "more than 10 redirects"),
    ] {
        let (kind, message) = failure(&post(path));
        assert_eq!(kind, "refused", "{path}: {message}");
        assert!(message.contains(problem), "{path}: {message}");
    }
    assert_eq!(other.received().len(), 1);
    // A redirect that is expected is the response.
    let ended = run_request(&place, &format!("url: '{}/same', expect: 302", server.url()), "");
    assert_eq!(task(&ended)["output"]["headers"]["location"], json!("/end"), "{ended:?}");
}

#[test]
fn statuses_decide_about_retries() {
    let server = HttpServer::start(|request, number| match (request.path.as_str(), number) {
        ("/busy", 0) => Reply::new("429 Too Many Requests", "slow down").with_header("retry-after: 1"),
        ("/busy", _) => Reply::new("200 OK", "ok"),
        ("/down", _) => Reply::new("503 Service Unavailable", "down"),
        ("/gateway", _) => Reply::new("502 Bad Gateway", ""),
        ("/missing", _) => Reply::new("404 Not Found", "no such <page>"),
        ("/login", _) => Reply::new("401 Unauthorized", ""),
        _ => Reply::new("201 Created", ""),
    });
    let place = Workspace::new();
    let retry = "    retry: { max_attempts: 3, backoff: { kind: fixed, initial: 10ms } }\n";
    let start = Instant::now();
    let ended = run_request(&place, &format!("url: '{}/busy', method: POST", server.url()), retry);
    assert_eq!((ended.code, &task(&ended)["attempts"]), (Some(0), &json!(2)), "{ended:?}");
    assert!(start.elapsed() >= Duration::from_secs(1), "`Retry-After` is the minimum delay");
    for (path, method, kind, attempts) in [
        ("/down", "POST", "server_error", 3),
        // It is unknown whether the server handled the request.
        ("/gateway", "POST", "connection_lost", 1),
        ("/gateway", "GET", "connection_lost", 3),
        ("/gateway", "PUT", "connection_lost", 3),
        ("/missing", "GET", "refused", 1),
        ("/login", "GET", "unauthorized", 1),
    ] {
        let ended = run_request(&place, &format!("url: '{}{path}', method: {method}", server.url()), retry);
        let (found, message) = failure(&ended);
        assert_eq!((found.as_str(), &task(&ended)["attempts"]), (kind, &json!(attempts)), "{method} {path}: {message}");
    }
    let ended = run_request(&place, &format!("url: '{}/made', expect: [200, 204]", server.url()), "");
    let (kind, message) = failure(&ended);
    assert_eq!(kind, "invalid_result");
    assert!(message.contains("returned HTTP 201 Created, expected 200, 204"), "{message}");
    let ended = run_request(&place, &format!("url: '{}/missing'", server.url()), "    expect: [200, 404]\n");
    assert_eq!(task(&ended)["output"]["status"], json!(404), "{ended:?}");
    // Nothing listens there, so nothing was sent.
    let ended = run_request(&place, "url: 'http://127.0.0.1:9/'", "");
    assert_eq!((failure(&ended).0.as_str(), &task(&ended)["attempts"]), ("not_sent", &json!(2)), "{ended:?}");
}

#[test]
fn silence_and_size_are_limited() {
    let server = HttpServer::start(|request, _| match request.path.as_str() {
        "/large" => Reply::new("200 OK", vec![b'a'; 70_000]),
        _ => Reply { hangs: true, ..Reply::new("200 OK", "begin") },
    });
    let place = Workspace::new();
    let ended = run_request(&place, &format!("url: '{}/hang'", server.url()), "    timeout: 500ms\n");
    assert_eq!(failure(&ended).0, "idle_timeout", "{ended:?}");
    place.write("agents.toml", "[http]\nhosts = [\"127.0.0.1\"]\nmax_response_bytes = 65536\n");
    let plan = format!("name: x\ntasks:\n  - {{ id: x, http: '{}/large' }}\n", server.url());
    let ended = place.run_plan(&plan, &[]);
    assert_eq!(failure(&ended).0, "result_too_large", "{ended:?}");
}

#[test]
fn headers_do_not_appear_in_failures() {
    let server = HttpServer::start(|_, _| Reply::new("500 Internal Server Error", "failed"));
    let place = Workspace::new();
    let url = format!("{}/x?token=hunter22", server.url());
    let ended = run_request(&place, &format!("url: '{url}', headers: {{ x-key: 'hunter33' }}"), "");
    let (_, message) = failure(&ended);
    assert!(!message.contains("hunter") && message.contains("/x` returned HTTP 500"), "{message}");
}

#[test]
fn secret_inputs_reach_requests_and_variables_only() {
    const KEY: &str = "hunter22-correct-horse";
    let server = HttpServer::start(|request, _| {
        // The server returns what it gets.
        let body = format!("{} {}", request.headers["x-key"], request.body);
        Reply::new("200 OK", body)
    });
    let place = Workspace::new();
    place.write("agents.toml", "[shell]\nenabled = true\n[http]\nhosts = [\"127.0.0.1\"]\n");
    let plan = "
        name: x
        inputs: { key: { type: secret, required: true } }
        tasks:
          - { id: x, http: { url: 'URL/x', headers: { x-key: '${{ inputs.key }}' } } }
          - { id: y, http: { method: POST, url: 'URL/y', headers: { x-key: none }, body: { key: '${{ inputs.key }}' } } }
          - id: z
            shell: { command: 'echo \"$KEY\" >&2; echo \"$KEY\"; echo \"$KEY\" | wc -c', env: { KEY: '${{ inputs.key }}' } }
            save: z.txt
          - { id: bad, on_failure: continue, shell: { command: 'echo \"$KEY\" >&2; exit 3', env: { KEY: '${{ inputs.key }}' } } }
          - { id: hook, http: { url: 'URL/hook', headers: { x-key: none } }, finally: [{ id: after, shell: { command: 'echo \"$KEY\"', env: { KEY: '${{ inputs.key }}' } } }] }
        "
    .replace("URL", &server.url());
    place.write("plan.yaml", &plan);
    let mut command =
        place.command(["run", "plan.yaml", "--param", &format!("key={KEY}"), "--journal", "j.db", "--output", "json"]);
    let ended = CommandOutput::of(command.env("KAPELL_LOG", "debug"));
    // The task that fails is tolerated.
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let request = |path: &str| server.received().into_iter().find(|request| request.path == path).expect("a request");
    assert_eq!(request("/x").headers["x-key"], KEY);
    assert_eq!(request("/y").body, format!("{{\"key\":\"{KEY}\"}}"));
    assert_eq!(ended.result()["tasks"]["x"]["output"]["body"].as_str().map(str::trim), Some("***"));
    let length = (KEY.len() + 1).to_string();
    assert!(ended.result()["tasks"]["z"]["output"]["stdout"].as_str().is_some_and(|text| text.contains(&length)));
    let mut printed = vec![ended];
    for arguments in [
        &["logs", "last", "--output", "json"][..],
        &["logs", "last"],
        &["runs", "show", "last"],
        &["runs", "show", "last", "z"],
        &["runs", "show", "last", "bad"],
        &["result", "last"],
        &["replay", "last"],
        &["agents", "logs", "host"],
    ] {
        printed.push(place.kapell(&[arguments, &["--journal", "j.db"]].concat()));
    }
    for output in &printed {
        assert!(!output.stdout.contains(KEY) && !output.stderr.contains(KEY), "{output:?}");
    }
    let mut directories = vec![place.path("")];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("reads") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap_or_default();
            assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
        }
    }
    assert!(files > 3, "the journal and the saved output are among {files} files");
    let refused = place
        .run_plan(&plan.replace("\"$KEY\" >&2; exit", "${{ inputs.key }}; exit"), &["--param", &format!("key={KEY}")]);
    assert_eq!(refused.error_code(), "plan::secret_use", "{refused:?}");
}

#[test]
fn killed_host_repeats_only_requests_that_read() {
    for (method, code, requests) in [("GET", 0, 2), ("POST", 4, 1)] {
        let server = HttpServer::start(|_, number| match number {
            0 => Reply { hangs: true, ..Reply::new("200 OK", "begin") },
            _ => Reply::new("200 OK", "ok"),
        });
        let place = Workspace::new();
        place.write("agents.toml", "[http]\nhosts = [\"127.0.0.1\"]\n");
        let plan =
            format!("name: x\ntasks:\n  - {{ id: x, http: {{ url: '{}/', method: {method} }} }}\n", server.url());
        place.write("plan.yaml", plan);
        let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
        wait_for("the request", || (!server.received().is_empty()).then_some(()));
        send_signal(&host, "KILL");
        host.wait().expect("it ends");
        let ended = place.kapell(&["resume", "--no-input"]);
        assert_eq!((ended.code, server.received().len()), (Some(code), requests), "{method}: {ended:?}");
    }
}
