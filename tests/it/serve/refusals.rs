//! What a server refuses, and hostile agents.

use serde_json::json;

use super::client::{Server, TOKEN};
use crate::support::workspace::Workspace;

#[test]
fn requests_without_the_right_host_origin_or_secret_are_refused() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    let (host, bearer) = (server.host(), format!("Bearer {TOKEN}"));
    let session = json!({"token": TOKEN}).to_string();
    let opened =
        server.raw("POST", "/api/session", &[("Host", &host), ("Sec-Fetch-Site", "same-origin")], session.as_bytes());
    assert_eq!(opened.status, 204, "{opened:?}");
    let cookie = &opened.headers["set-cookie"];
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair");
    let own = format!("http://{host}");
    let refused = [
        // A page of another site that resolves its name to this machine.
        (vec![("Host", "evil.example"), ("Authorization", &bearer)], "GET", "/api/runs", 403, "serve::unknown_host"),
        (vec![("Host", "evil.example")], "GET", "/", 403, "serve::unknown_host"),
        (vec![("Host", &host)], "GET", "/api/runs", 401, "serve::no_session"),
        (vec![("Host", &host)], "GET", "/metrics", 401, "serve::no_session"),
        (vec![("Host", &host), ("Cookie", "kapell_session=x")], "GET", "/api/runs", 401, "serve::no_session"),
        (vec![("Host", &host), ("Authorization", "Bearer wrong")], "GET", "/api/runs", 401, "serve::no_session"),
        (vec![("Host", &host), ("Cookie", cookie)], "GET", "/api/runs?token=x", 400, "serve::token_in_query"),
        (vec![("Host", &host), ("Cookie", cookie)], "POST", "/api/runs", 403, "serve::foreign_origin"),
        (vec![("Host", &host), ("Cookie", cookie)], "GET", "/api/stream", 403, "serve::foreign_origin"),
        (
            vec![("Host", &host), ("Cookie", cookie), ("Origin", "http://evil.example")],
            "POST",
            "/api/runs/last/cancel",
            403,
            "serve::foreign_origin",
        ),
        (
            vec![("Host", &host), ("Cookie", cookie), ("Sec-Fetch-Site", "cross-site")],
            "POST",
            "/api/runs",
            403,
            "serve::foreign_origin",
        ),
        (
            vec![("Host", &host), ("Origin", "http://evil.example")],
            "POST",
            "/api/session",
            403,
            "serve::foreign_origin",
        ),
        (vec![("Host", &host), ("Origin", &own)], "POST", "/api/session", 401, "serve::no_session"),
    ];
    for (headers, method, path, status, code) in refused {
        let body = if path == "/api/session" { br#"{"token": "wrong"}"#.as_slice() } else { b"{}" };
        let response = server.raw(method, path, &headers, body);
        assert_eq!((response.status, response.error_code().as_str()), (status, code), "{method} {path} {headers:?}");
    }
    let allowed = server.raw("GET", "/api/runs", &[("Host", &host), ("Cookie", cookie)], b"");
    assert_eq!(allowed.status, 200, "{allowed:?}");
    let by_origin = server.raw("POST", "/api/runs", &[("Host", &host), ("Cookie", cookie), ("Origin", &own)], b"{}");
    assert_eq!(by_origin.error_code(), "serve::invalid_body");
}

#[test]
fn every_response_has_the_headers_that_protect_a_page() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    for path in ["/", "/assets/app.js", "/assets/other.js", "/api/runs", "/api/info", "/nowhere"] {
        let response = server.get_response(path);
        let policy = &response.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(response.headers["x-content-type-options"], "nosniff");
        assert_eq!(response.headers["referrer-policy"], "no-referrer");
        assert!(!response.headers.contains_key("access-control-allow-origin"));
    }
}

#[test]
fn paths_lead_to_no_other_files() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", "name: secret\ntasks: [{ id: a, sleep: 1ms }]\n");
    let server = Server::start(&place);
    place.write("plans/ok.yaml", "name: ok\ntasks: [{ id: a, sleep: 1ms }]\n");
    let run = server.run("plan.yaml");
    server.wait_for_status(&run, &["succeeded"]);
    std::fs::create_dir_all(place.path(&format!("journal.files/{run}"))).expect("a folder");
    std::os::unix::fs::symlink(place.path("agents.toml"), place.path(&format!("journal.files/{run}/link.txt")))
        .expect("linked");
    for path in [
        "/assets/../agents.toml",
        "/assets/%2e%2e/%2e%2e/agents.toml",
        "/assets/..%2f..%2fagents.toml",
        "/api/plans/..%2fplan.yaml",
        "/api/plans/%2e%2e%2fplan.yaml",
        "/api/plans/../plan.yaml",
        "/api/plans/%2fetc%2fpasswd",
        &format!("/api/runs/{run}/files/..%2f..%2fagents.toml"),
        &format!("/api/runs/{run}/files/../../agents.toml"),
        &format!("/api/runs/{run}/files/%2e%2e/%2e%2e/agents.toml"),
        &format!("/api/runs/{run}/files/%2fetc%2fpasswd"),
        &format!("/api/runs/{run}/files/link.txt"),
        &format!("/api/runs/..%2f{run}"),
    ] {
        let response = server.get_response(path);
        assert!(matches!(response.status, 400 | 404), "{path}: {response:?}");
        assert!(!response.body.contains("KAPELL_DEMO_DIR") && !response.body.contains("root:"), "{path}: {response:?}");
    }
    for plan in ["../plan.yaml", "/etc/passwd", "plans/ok.yaml"] {
        let response = server.post("/api/runs", &json!({"plan": plan}));
        assert_eq!((response.status, response.error_code().as_str()), (404, "serve::unknown_plan"), "{plan}");
    }
}

#[test]
fn large_bodies_are_refused() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let server = Server::start(&place);
    let response = server.post("/api/runs", &json!({"goal": "x".repeat(10 << 20)}));
    assert_eq!((response.status, response.error_code().as_str()), (413, "serve::body_too_large"));
    assert_eq!(server.get("/api/runs")["runs"], json!([]));
}

#[test]
fn server_beyond_this_machine_needs_a_chosen_token() {
    let place = Workspace::new();
    let refused = place.kapell(&["serve", "--addr", "0.0.0.0:0", "--journal", "journal.db"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::token_required"));
    let refused = place.kapell(&["serve", "--addr", "0.0.0.0:0", "--token-env", "NOT_SET", "--journal", "journal.db"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::invalid_token"));
}

#[test]
fn text_of_agents_stays_text() {
    let hostile =
        "</script><script>alert(1)</script> [x](javascript:alert(1)) <img src=x onerror=alert(1)> \u{1b}[31m\u{202e}";
    let place = Workspace::new();
    place.write_agents(&[]);
    let plan = json!({
        "name": hostile,
        "tasks": [{
            "id": "a", "title": hostile, "agent": "research", "tool": "research",
            "with": {"topic": hostile, "depth": 1, "delay_ms": 1},
        }],
    });
    place.write("plan.yaml", plan.to_string());
    let server = Server::start(&place);
    let run = server.run("plan.yaml");
    server.wait_for_status(&run, &["succeeded"]);
    for path in [format!("/api/runs/{run}"), format!("/api/runs/{run}/tasks/a"), "/api/runs".to_owned()] {
        let response = server.get_response(&path);
        assert_eq!(response.headers["content-type"], "application/json");
        assert!(!response.body.contains(['\u{1b}']), "{path}");
    }
    let task = server.get(&format!("/api/runs/{run}/tasks/a"));
    let html = task["output"]["html"].as_str().unwrap_or_default();
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("href=\"javascript"), "{html}");
    let page = server.get(&format!("/api/runs/{run}"));
    let name = page["tasks"][0]["name"].as_str().expect("a name");
    assert!(!name.contains(['\u{1b}', '\u{202e}']), "{name:?}");
}
