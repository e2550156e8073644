//! Tests the common behavior of all demo agents: errors, cancellation, and connections.

use super::*;

#[tokio::test]
async fn invalid_arguments_are_explained() {
    let cases = [
        (DemoAgent::Travel, "book_trip", json!({"city": "Lisbon", "nights": 0}), "`nights` is 0: expected 1 to 30"),
        (DemoAgent::Travel, "book_trip", json!({"city": " "}), "`city` is empty: expected a city"),
        (DemoAgent::Research, "research", json!({"topic": "x", "depth": 9}), "`depth` is 9: expected 1 to 5"),
        (
            DemoAgent::Archive,
            "fetch_document",
            json!({"uri": "archive:///../../etc/passwd"}),
            "`archive:///../../etc/passwd` is not the URI of a document: expected `archive:///NAME`, as returned by \
             `store_document`",
        ),
        (
            DemoAgent::Archive,
            "fetch_document",
            json!({"url": "archive:///a.md"}),
            "invalid arguments for `fetch_document`: unknown field `url`, expected `uri` or `delay_ms`",
        ),
    ];
    for (agent, tool, arguments, expected) in cases {
        let client =
            TestAgent::new(agent).connect(TestClient::default(), (ClientEra::Legacy, ClientTransport::Stdio)).await;
        let result = client.call_tool(call(tool, arguments)).await.expect("an answer");
        assert_eq!((result.is_error, text(&result).as_str()), (Some(true), expected));
    }
}

#[tokio::test]
async fn unknown_tools_and_documents_are_errors() {
    for connection in ALL_CONNECTIONS {
        let client = TestAgent::new(DemoAgent::Archive).connect(TestClient::default(), connection).await;
        let refused = client.call_tool(call("book_trip", json!({}))).await;
        let Err(ServiceError::McpError(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(error.message, "the demo agent `archive` has no tool `book_trip`");
        let unknown = client.read_resource(ReadResourceRequestParams::new("archive:///none-0.md")).await;
        let Err(ServiceError::McpError(error)) = unknown else { panic!("{unknown:?}") };
        assert_eq!(error.message, "document `archive:///none-0.md` does not exist", "{connection:?}");
    }
}

#[tokio::test]
async fn canceled_calls_book_nothing() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Travel);
        let client_config = TestClient { answer: accepted(json!({"confirm": true})), ..TestClient::default() };
        let client = agent.connect(client_config.clone(), connection).await;
        let request = CallToolRequest::new(call("book_trip", json!({"city": "Lisbon", "delay_ms": 3_600_000})));
        let request = ClientRequest::CallToolRequest(request);
        let handle = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.expect("sent");
        handle.cancel(Some("changed my mind".into())).await.expect("cancelled");
        let other = client.call_tool(call("book_trip", json!({"city": "Kyoto", "delay_ms": 0}))).await;
        assert_eq!(other.expect("an answer").structured_content.expect("structured")["status"], "booked");
        assert_eq!(agent.effects().len(), 1, "{connection:?}");
    }
}

#[tokio::test]
async fn server_ends_with_its_input_during_a_call() {
    let agent = TestAgent::new(DemoAgent::Travel);
    let (mut client_stream, server_stream) = tokio::io::duplex(64 * 1024);
    let (input, output) = tokio::io::split(server_stream);
    let server = tokio::spawn(stdio::serve(agent.server(), input, output));
    let lines = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "guest", "version": "0"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
            "name": "book_trip", "arguments": {"city": "Lisbon", "delay_ms": 3_600_000}}}),
    ];
    for line in lines {
        use tokio::io::AsyncWriteExt as _;
        client_stream.write_all(format!("{line}\n").as_bytes()).await.expect("written");
    }
    tokio::io::AsyncWriteExt::shutdown(&mut client_stream).await.expect("shut down");
    server.await.expect("not panicked").expect("served");
    let mut output = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client_stream, &mut output).await.expect("readable");
    // If the end of input waited for the call, this response would never arrive.
    let last: Value = serde_json::from_str(output.lines().last().expect("an answer")).expect("JSON");
    assert_eq!(last["id"], 2);
    assert_eq!(last["error"]["message"], "the call was cancelled");
    assert_eq!(agent.effects(), [] as [Value; 0]);
}

#[tokio::test]
async fn silent_clients_are_accepted_and_invalid_ones_refused() {
    let server = || TestAgent::new(DemoAgent::Travel).server();
    let silent = Box::pin(stdio::serve(server(), tokio::io::empty(), tokio::io::sink())).await;
    assert!(matches!(silent, Ok(())), "{silent:?}");
    let hello = &b"{\"jsonrpc\": \"2.0\", \"method\": \"notifications/initialized\"}\n"[..];
    let nonsense = Box::pin(stdio::serve(server(), hello, tokio::io::sink())).await;
    assert!(matches!(nonsense, Err(DemoError::Conversation(_))), "{nonsense:?}");
}

#[tokio::test]
async fn busy_port_is_named_in_the_error() {
    let agent = TestAgent::new(DemoAgent::Research);
    let port = agent.listen().await.port();
    let error = http::serve(agent.server(), port).await.expect_err("taken");
    let expected = format!("cannot listen on `127.0.0.1:{port}`");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

/// Returns the `id:` and the `data:` of the next server-sent event with data.
async fn next_event(response: &mut reqwest::Response, buffer: &mut String) -> (Option<String>, Option<Value>) {
    loop {
        if let Some((event, rest)) = buffer.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let id = field("id:").map(str::to_owned);
            let data = field("data:").and_then(|data| serde_json::from_str(data).ok());
            *buffer = rest.to_owned();
            if id.is_some() || data.is_some() {
                return (id, data);
            }
            continue;
        }
        let chunk = response.chunk().await.expect("readable").expect("the stream goes on");
        buffer.push_str(std::str::from_utf8(&chunk).expect("text"));
    }
}

#[tokio::test]
async fn broken_streams_resume_at_the_last_event() {
    let agent = TestAgent::new(DemoAgent::Research);
    let url = format!("http://{}/mcp", agent.listen().await);
    let client = reqwest::Client::new();
    let post = |session: Option<String>, message: Value| {
        let mut request = client
            .post(&url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string());
        if let Some(session) = session {
            request = request.header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25");
        }
        request.send()
    };
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "guest", "version": "0"}}});
    let response = post(None, initialize).await.expect("initialized");
    let session = response.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    post(Some(session.clone()), json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await.expect("sent");

    let request = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "research", "arguments": {"topic": "Lisbon", "depth": 5, "delay_ms": 20}, "_meta": {"progressToken": "p"}}});
    let mut broken = post(Some(session.clone()), request).await.expect("called");
    let (mut buffer, mut last) = (String::new(), None);
    let mut seen = Vec::new();
    while seen.is_empty() {
        let (id, data) = next_event(&mut broken, &mut buffer).await;
        last = id.or(last);
        seen.extend(data);
    }
    drop(broken);

    let mut resumed = client
        .get(&url)
        .header("accept", "text/event-stream")
        .header("mcp-session-id", &session)
        .header("mcp-protocol-version", "2025-11-25")
        .header("last-event-id", last.expect("an event id"))
        .send()
        .await
        .expect("resumed");
    buffer.clear();
    while seen.last().is_none_or(|event| event.get("id").is_none()) {
        let (_, data) = next_event(&mut resumed, &mut buffer).await;
        seen.extend(data);
    }
    let progress: Vec<f64> = seen.iter().filter_map(|event| event["params"]["progress"].as_f64()).collect();
    assert_eq!(progress, [18.0, 36.0, 54.0, 72.0, 90.0, 100.0]);
    assert_eq!(seen.last().expect("the answer")["id"], 7);
    assert_eq!(seen.last().expect("the answer")["result"]["structuredContent"]["summarised"], false);
}
