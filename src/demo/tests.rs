//! The demo agents as clients see them: in both eras, over both transports.
//! Never tests what rmcp itself does.

#![expect(deprecated, reason = "sampling and logging are deprecated since 2026-07-28 and still in use everywhere")]

use std::sync::{Arc, Mutex};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient, ServiceError,
    model::*,
    service::{NotificationContext, PeerRequestOptions, RequestContext, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DemoAgent, DemoError, DemoSettings, http, server::DemoServer, stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    Legacy,
    Modern,
}

#[derive(Debug, Clone, Copy)]
enum Wire {
    Stdio,
    Http,
}

const EVERY_WAY: [(Era, Wire); 4] =
    [(Era::Legacy, Wire::Stdio), (Era::Legacy, Wire::Http), (Era::Modern, Wire::Stdio), (Era::Modern, Wire::Http)];

/// A host that answers as it is told and remembers what it was asked and told.
#[derive(Clone, Default)]
struct Guest {
    answer: Option<ElicitResult>,
    model: Option<Result<&'static str, &'static str>>,
    /// Whether it can follow tasks.
    tasks: bool,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    questions: Vec<ElicitRequestParams>,
    prompts: Vec<CreateMessageRequestParams>,
    progress: Vec<(f64, Option<f64>, Option<String>)>,
    logs: Vec<Value>,
}

impl ClientHandler for Guest {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation =
            self.answer.is_some().then(|| ElicitationCapability::new().with_form(FormElicitationCapability::new()));
        capabilities.sampling = self.model.is_some().then(SamplingCapability::default);
        let tasks = || ExtensionCapabilities::from([(TASKS_EXTENSION_ID.to_owned(), JsonObject::new())]);
        capabilities.extensions = self.tasks.then(tasks);
        ClientConfig::new(capabilities, Implementation::new("guest", "0"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.heard.lock().expect("not poisoned").questions.push(request);
        Ok(self.answer.clone().expect("declared only with an answer"))
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.heard.lock().expect("not poisoned").prompts.push(request);
        match self.model.expect("declared only with a model") {
            Ok(text) => Ok(CreateMessageResult::new(SamplingMessage::assistant_text(text), "guest-model".into())),
            Err(reason) => Err(ErrorData::internal_error(reason, None)),
        }
    }

    async fn on_progress(&self, told: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.heard.lock().expect("not poisoned").progress.push((told.progress, told.total, told.message));
    }

    async fn on_logging_message(
        &self,
        told: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.heard.lock().expect("not poisoned").logs.push(told.data);
    }
}

/// A demo agent and its traces.
struct House {
    agent: DemoAgent,
    directory: TempDir,
}

impl House {
    fn of(agent: DemoAgent) -> Self {
        Self { agent, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn server(&self) -> DemoServer {
        let effects = Some(self.directory.path().join("effects.jsonl"));
        DemoServer::new(self.agent, DemoSettings { effects, directory: Some(self.directory.path().join("archive")) })
    }

    /// The recorded effects so far, one JSON object each.
    fn effects(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("effects.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    async fn welcome(&self, guest: Guest, (era, wire): (Era, Wire)) -> RunningService<RoleClient, Guest> {
        let lifecycle = match era {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Modern => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        };
        match wire {
            Wire::Stdio => {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                let (input, output) = tokio::io::split(theirs);
                tokio::spawn(stdio::serve(self.server(), input, output));
                guest.serve_with_lifecycle(ours, lifecycle).await.expect("connected")
            }
            Wire::Http => {
                let address = self.listen().await;
                let transport = StreamableHttpClientTransport::from_uri(format!("http://{address}/mcp"));
                guest.serve_with_lifecycle(transport, lifecycle).await.expect("connected")
            }
        }
    }

    async fn listen(&self) -> std::net::SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(http::serve_on(self.server(), listener));
        address
    }
}

fn call(tool: &'static str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    CallToolRequestParams::new(tool).with_arguments(arguments)
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| Some(block.as_text()?.text.clone())).collect()
}

fn accepted(content: Value) -> Option<ElicitResult> {
    Some(ElicitResult::new(ElicitationAction::Accept).with_content(content))
}

/// What a tool promises its structured content to be, and what it was.
async fn assert_keeps_its_promise(client: &RunningService<RoleClient, Guest>, tool: &str, result: &CallToolResult) {
    let tools = client.list_all_tools().await.expect("listed");
    let tool = tools.iter().find(|offered| offered.name == tool).expect("offered");
    let schema = Value::Object(tool.output_schema.as_deref().expect("has an output schema").clone());
    let structured = result.structured_content.as_ref().expect("has structured content");
    if let Err(error) = jsonschema::validate(&schema, structured) {
        panic!("{structured} breaks {schema}: {error}");
    }
}

#[tokio::test]
async fn books_a_trip_that_is_confirmed() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Travel);
        let guest = Guest { answer: accepted(json!({"confirm": true, "notes": "a quiet room"})), ..Guest::default() };
        let client = house.welcome(guest.clone(), way).await;
        let arguments = json!({"city": "Lisbon", "nights": 2, "from": "Bern", "delay_ms": 0});
        let result = client.call_tool(call("book_trip", arguments.clone())).await.expect("an answer");

        assert_keeps_its_promise(&client, "book_trip", &result).await;
        let booking = result.structured_content.clone().expect("structured");
        assert_eq!(booking["status"], "booked", "{way:?}");
        assert_eq!(booking["notes"], "a quiet room");
        let price = booking["price"].as_u64().expect("a price");
        let confirmation = booking["confirmation"].as_str().expect("a number");
        assert_eq!(text(&result), format!("Booked 2 nights in a hotel in Lisbon for {price} EUR: {confirmation}."));
        assert_eq!(house.effects(), [json!({"agent": "travel", "tool": "book_trip", "arguments": arguments})]);

        let heard = guest.heard.lock().expect("not poisoned");
        let [ElicitRequestParams::FormElicitationParams { message, requested_schema, .. }] = &heard.questions[..]
        else {
            panic!("{way:?}: {:?}", heard.questions)
        };
        assert_eq!(*message, format!("Book 2 nights in a hotel in Lisbon for an estimated {price} EUR?"));
        let schema = serde_json::to_value(requested_schema).expect("a schema");
        assert_eq!(schema["properties"]["confirm"]["type"], "boolean");
        assert_eq!(schema["properties"]["notes"]["type"], "string");
        assert_eq!(schema["required"], json!(["confirm"]));
    }
}

#[tokio::test]
async fn cancels_a_trip_that_is_not_confirmed() {
    let no = [
        (accepted(json!({"confirm": false})), "the price was not confirmed"),
        (Some(ElicitResult::new(ElicitationAction::Decline)), "the question was declined"),
        (Some(ElicitResult::new(ElicitationAction::Cancel)), "the question was dismissed"),
        (None, "the host cannot ask anybody to confirm the price"),
    ];
    for way in EVERY_WAY {
        for (answer, reason) in no.clone() {
            let house = House::of(DemoAgent::Travel);
            let client = house.welcome(Guest { answer, ..Guest::default() }, way).await;
            let result =
                client.call_tool(call("book_trip", json!({"city": "Kyoto", "delay_ms": 0}))).await.expect("an answer");
            assert_keeps_its_promise(&client, "book_trip", &result).await;
            assert_eq!(result.is_error, Some(false));
            assert_eq!(text(&result), format!("Cancelled the trip to Kyoto: {reason}. Nothing was booked."), "{way:?}");
            let booking = result.structured_content.expect("structured");
            assert_eq!((&booking["status"], &booking["reason"]), (&json!("cancelled"), &json!(reason)));
            assert_eq!(house.effects(), [] as [Value; 0]);
        }
    }
}

#[tokio::test]
async fn reports_four_steps_on_the_way_to_a_booking() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Travel);
        let guest = Guest { answer: accepted(json!({"confirm": true})), ..Guest::default() };
        let client = house.welcome(guest.clone(), way).await;
        client.call_tool(call("book_trip", json!({"city": "Lisbon", "delay_ms": 5}))).await.expect("an answer");
        // Notifications are handled beside the call: the last may still be on its way.
        while guest.heard.lock().expect("not poisoned").progress.len() < 4 {
            tokio::task::yield_now().await;
        }
        let mut progress = guest.heard.lock().expect("not poisoned").progress.clone();
        progress.sort_by(|left, right| left.0.total_cmp(&right.0));
        let steps: Vec<(f64, Option<f64>)> = progress.iter().map(|(done, total, _)| (*done, *total)).collect();
        assert_eq!(steps, [25.0, 50.0, 75.0, 100.0].map(|step| (step, Some(100.0))), "{way:?}");
        assert_eq!(progress[0].2.as_deref(), Some("looking for a place to stay in Lisbon"));
    }
}

#[tokio::test]
async fn offers_the_best_stay_within_the_budget() {
    let house = House::of(DemoAgent::Travel);
    let client = house.welcome(Guest::default(), (Era::Modern, Wire::Stdio)).await;
    let stay = async |budget: Value| {
        let arguments = json!({"city": "Lisbon", "nights": 4, "budget": budget, "delay_ms": 0});
        let result = client.call_tool(call("book_trip", arguments)).await.expect("an answer");
        result.structured_content.expect("structured")["stay"].clone()
    };
    assert_eq!(stay(json!(null)).await, "hotel");
    assert_eq!(stay(json!(10_000)).await, "grand hotel");
    assert_eq!(stay(json!(1)).await, "guest house");
}

#[tokio::test]
async fn records_the_callers_key_with_an_effect() {
    let house = House::of(DemoAgent::Travel);
    let guest = Guest { answer: accepted(json!({"confirm": true})), ..Guest::default() };
    let client = house.welcome(guest, (Era::Legacy, Wire::Stdio)).await;
    let mut meta = RequestMetaObject::new();
    meta.insert("org.example/idempotency-key".into(), json!("run/trip/1"));
    let request = CallToolRequest::new(call("book_trip", json!({"city": "Lisbon", "delay_ms": 0})));
    let options = PeerRequestOptions::no_options().with_meta(meta);
    let handle = client.send_request_with_option(ClientRequest::CallToolRequest(request), options).await.expect("sent");
    handle.await_response().await.expect("an answer");
    assert_eq!(house.effects()[0]["idempotency_key"], "run/trip/1");
}

#[tokio::test]
async fn refuses_a_state_that_it_did_not_give() {
    let house = House::of(DemoAgent::Travel);
    let client = house
        .welcome(Guest { answer: accepted(json!({"confirm": true})), ..Guest::default() }, (Era::Modern, Wire::Http));
    let mut forged = call("book_trip", json!({"city": "Lisbon", "delay_ms": 0}));
    forged.request_state = Some("forged".into());
    forged.input_responses =
        Some(InputResponses::from([("confirm".to_owned(), json!({"action": "accept", "content": {"confirm": true}}))]));
    let refused = client.await.call_tool_once(forged).await;
    let Err(ServiceError::McpError(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    assert_eq!(error.message, "`requestState` `forged` does not belong to these arguments of `book_trip`");
    assert_eq!(house.effects(), [] as [Value; 0]);
}

#[tokio::test]
async fn has_the_hosts_model_sum_up_what_it_found() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Research);
        let guest = Guest { model: Some(Ok("Three books about rain.")), ..Guest::default() };
        let client = house.welcome(guest.clone(), way).await;
        let arguments = json!({"topic": "Lisbon", "depth": 2, "delay_ms": 0});
        let result = client.call_tool(call("research", arguments)).await.expect("an answer");

        assert_keeps_its_promise(&client, "research", &result).await;
        let research = result.structured_content.clone().expect("structured");
        assert_eq!((&research["summary"], &research["summarised"]), (&json!("Three books about rain."), &json!(true)));
        assert_eq!(research["findings"].as_array().map(Vec::len), Some(2), "{way:?}");
        assert!(text(&result).starts_with("From the demo library, on Lisbon:\n- The Book of Disquiet"));
        assert_eq!(house.effects().len(), 1);

        let heard = guest.heard.lock().expect("not poisoned");
        let [prompt] = &heard.prompts[..] else { panic!("{way:?}: {:?}", heard.prompts) };
        assert_eq!(prompt.max_tokens, 100);
        assert!(prompt.system_prompt.is_some());
    }
}

#[tokio::test]
async fn says_when_its_findings_are_not_summed_up() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Research);
        let client = house.welcome(Guest::default(), way).await;
        let result =
            client.call_tool(call("research", json!({"topic": "basalt", "delay_ms": 0}))).await.expect("an answer");
        assert_keeps_its_promise(&client, "research", &result).await;
        let research = result.structured_content.expect("structured");
        assert_eq!(research["summarised"], false, "{way:?}");
        assert_eq!(research["summary"], "Not summarised: the host offers no language model.");
    }
}

#[tokio::test]
async fn returns_its_findings_when_the_model_fails() {
    for wire in [Wire::Stdio, Wire::Http] {
        let house = House::of(DemoAgent::Research);
        let guest = Guest { model: Some(Err("the model is out")), ..Guest::default() };
        let client = house.welcome(guest, (Era::Legacy, wire)).await;
        let result =
            client.call_tool(call("research", json!({"topic": "Kyoto", "delay_ms": 0}))).await.expect("an answer");
        let research = result.structured_content.expect("structured");
        assert_eq!(research["summary"], "Not summarised: the host's language model did not answer: the model is out.");
    }
}

#[tokio::test]
async fn goes_on_without_a_summary_when_a_modern_host_brings_none() {
    let house = House::of(DemoAgent::Research);
    let guest = Guest { model: Some(Ok("unused")), ..Guest::default() };
    let client = house.welcome(guest, (Era::Modern, Wire::Stdio)).await;
    let mut request = call("research", json!({"topic": "Berlin", "delay_ms": 0}));
    let first = client.call_tool_once(request.clone()).await.expect("an answer");
    let CallToolResponse::InputRequired(required) = first else { panic!("{first:?}") };
    assert_eq!(house.effects(), [] as [Value; 0]);
    request.request_state = required.request_state;
    let second = client.call_tool_once(request).await.expect("an answer");
    let CallToolResponse::Complete(result) = second else { panic!("{second:?}") };
    let research = result.structured_content.expect("structured");
    assert_eq!(research["summary"], "Not summarised: the host sent no reply of its language model.");
}

#[tokio::test]
async fn logs_what_it_reads_to_hosts_that_want_it() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Research);
        let guest = Guest::default();
        let client = house.welcome(guest.clone(), way).await;
        let mut meta = RequestMetaObject::new();
        meta.set_log_level(LoggingLevel::Info);
        if way.0 == Era::Legacy {
            client.set_level(SetLevelRequestParams::new(LoggingLevel::Info)).await.expect("set");
        }
        let request = CallToolRequest::new(call("research", json!({"topic": "Lisbon", "delay_ms": 0})));
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let request = ClientRequest::CallToolRequest(request);
        let handle = client.send_request_with_option(request, options).await.expect("sent");
        handle.await_response().await.expect("an answer");
        while guest.heard.lock().expect("not poisoned").logs.len() < 2 {
            tokio::task::yield_now().await;
        }
        let mut logs = guest.heard.lock().expect("not poisoned").logs.clone();
        logs.sort_by_key(Value::to_string);
        assert_eq!(
            logs,
            ["looking up `Lisbon` in the demo library", "no summary: the host offers no language model"],
            "{way:?}"
        );
    }
}

#[tokio::test]
async fn stores_a_document_and_gives_it_back() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Archive);
        let client = house.welcome(Guest::default(), way).await;
        let store = call("store_document", json!({"title": "Lisbon brief", "text": "# Olá\n"}));
        let stored = client.call_tool(store.clone()).await.expect("an answer");
        assert_keeps_its_promise(&client, "store_document", &stored).await;
        let again = client.call_tool(store).await.expect("an answer");
        assert_eq!(again.structured_content, stored.structured_content, "{way:?}");
        assert_eq!(house.effects().len(), 2);

        let uri = stored.structured_content.clone().expect("structured")["uri"].as_str().expect("a uri").to_owned();
        let links: Vec<&Resource> = stored.content.iter().filter_map(ContentBlock::as_resource_link).collect();
        let [link] = links[..] else { panic!("{:?}", stored.content) };
        assert_eq!((&link.uri, link.title.as_deref(), link.size), (&uri, Some("Lisbon brief"), Some(7)));

        let listed = client.list_all_resources().await.expect("listed");
        assert_eq!(listed.iter().map(|resource| &resource.uri).collect::<Vec<_>>(), [&uri]);
        let read = client.read_resource(ReadResourceRequestParams::new(uri.clone())).await.expect("read");
        let [ResourceContents::TextResourceContents { text, mime_type, .. }] = &read.contents[..] else {
            panic!("{read:?}")
        };
        assert_eq!((text.as_str(), mime_type.as_deref()), ("# Olá\n", Some("text/markdown")));

        let fetched = client.call_tool(call("fetch_document", json!({"uri": uri}))).await.expect("an answer");
        assert_keeps_its_promise(&client, "fetch_document", &fetched).await;
        let expected = json!({"uri": uri, "format": "markdown", "bytes": 7, "text": "# Olá\n"});
        assert_eq!(fetched.structured_content, Some(expected));
    }
}

#[tokio::test]
async fn tells_what_is_wrong_with_the_arguments() {
    let cases = [
        (DemoAgent::Travel, "book_trip", json!({"city": "Lisbon", "nights": 0}), "`nights` is 0: expected 1 to 30"),
        (DemoAgent::Travel, "book_trip", json!({"city": " "}), "`city` is empty: name the city to travel to"),
        (DemoAgent::Research, "research", json!({"topic": "x", "depth": 9}), "`depth` is 9: expected 1 to 5"),
        (
            DemoAgent::Archive,
            "fetch_document",
            json!({"uri": "archive:///../../etc/passwd"}),
            "`archive:///../../etc/passwd` is not the address of a document: expected `archive:///NAME`, \
             as `store_document` returned it",
        ),
        (
            DemoAgent::Archive,
            "fetch_document",
            json!({"url": "archive:///a.md"}),
            "invalid arguments for `fetch_document`: unknown field `url`, expected `uri` or `delay_ms`",
        ),
    ];
    for (agent, tool, arguments, expected) in cases {
        let client = House::of(agent).welcome(Guest::default(), (Era::Legacy, Wire::Stdio)).await;
        let result = client.call_tool(call(tool, arguments)).await.expect("an answer");
        assert_eq!((result.is_error, text(&result).as_str()), (Some(true), expected));
    }
}

#[tokio::test]
async fn knows_only_its_own_tools_and_documents() {
    for way in EVERY_WAY {
        let client = House::of(DemoAgent::Archive).welcome(Guest::default(), way).await;
        let refused = client.call_tool(call("book_trip", json!({}))).await;
        let Err(ServiceError::McpError(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(error.message, "the demo agent `archive` has no tool `book_trip`");
        let unknown = client.read_resource(ReadResourceRequestParams::new("archive:///none-0.md")).await;
        let Err(ServiceError::McpError(error)) = unknown else { panic!("{unknown:?}") };
        assert_eq!(error.message, "there is no document `archive:///none-0.md`", "{way:?}");
    }
}

#[tokio::test]
async fn a_cancelled_call_books_nothing_and_leaves_the_connection_usable() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Travel);
        let guest = Guest { answer: accepted(json!({"confirm": true})), ..Guest::default() };
        let client = house.welcome(guest.clone(), way).await;
        let request = CallToolRequest::new(call("book_trip", json!({"city": "Lisbon", "delay_ms": 3_600_000})));
        let request = ClientRequest::CallToolRequest(request);
        let handle = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.expect("sent");
        handle.cancel(Some("changed my mind".into())).await.expect("cancelled");
        let other = client.call_tool(call("book_trip", json!({"city": "Kyoto", "delay_ms": 0}))).await;
        assert_eq!(other.expect("an answer").structured_content.expect("structured")["status"], "booked");
        assert_eq!(house.effects().len(), 1, "{way:?}");
    }
}

#[tokio::test]
async fn ends_with_its_input_even_while_a_call_runs() {
    let house = House::of(DemoAgent::Travel);
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let (input, output) = tokio::io::split(theirs);
    let served = tokio::spawn(stdio::serve(house.server(), input, output));
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
        ours.write_all(format!("{line}\n").as_bytes()).await.expect("written");
    }
    tokio::io::AsyncWriteExt::shutdown(&mut ours).await.expect("shut down");
    served.await.expect("not panicked").expect("served");
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut ours, &mut said).await.expect("readable");
    // Had the end of input waited for the call, its answer would never have come.
    let last: Value = serde_json::from_str(said.lines().last().expect("an answer")).expect("JSON");
    assert_eq!(last["id"], 2);
    assert_eq!(last["error"]["message"], "the call was cancelled");
    assert_eq!(house.effects(), [] as [Value; 0]);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_no_error_but_one_that_talks_nonsense_is() {
    let server = || House::of(DemoAgent::Travel).server();
    let silent = stdio::serve(server(), tokio::io::empty(), tokio::io::sink()).await;
    assert!(matches!(silent, Ok(())), "{silent:?}");
    let hello = &b"{\"jsonrpc\": \"2.0\", \"method\": \"notifications/initialized\"}\n"[..];
    let nonsense = stdio::serve(server(), hello, tokio::io::sink()).await;
    assert!(matches!(nonsense, Err(DemoError::Conversation(_))), "{nonsense:?}");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let house = House::of(DemoAgent::Research);
    let port = house.listen().await.port();
    let error = http::serve(house.server(), port).await.expect_err("taken");
    let expected = format!("cannot listen on `127.0.0.1:{port}`");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

/// The `data:` and `id:` of the next event of a Server-Sent-Events stream that has data.
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
async fn a_broken_stream_is_resumed_where_it_broke() {
    let house = House::of(DemoAgent::Research);
    let url = format!("http://{}/mcp", house.listen().await);
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

#[tokio::test]
async fn binds_a_volume_whose_address_says_how_far_it_is() {
    for way in EVERY_WAY {
        let house = House::of(DemoAgent::Bindery);
        let client = house.welcome(Guest::default(), way).await;
        for (fails, status) in [(false, "completed"), (true, "failed")] {
            let arguments = json!({"title": "Lisbon", "delay_ms": 0, "fails": fails});
            let result = client.call_tool(call("bind_documents", arguments)).await.expect("an answer");
            assert_keeps_its_promise(&client, "bind_documents", &result).await;
            let uri = result.structured_content.expect("structured")["uri"].as_str().expect("an address").to_owned();
            let read = client.read_resource(ReadResourceRequestParams::new(uri)).await.expect("read");
            let ResourceContents::TextResourceContents { text, .. } = &read.contents[0] else { panic!("{read:?}") };
            let said: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(said, json!({"title": "Lisbon", "status": status, "done": 4, "total": 4}), "{way:?}");
        }
        assert_eq!(house.effects().len(), 2);
    }
}

#[tokio::test]
async fn counts_documents_as_a_task_only_for_who_can_follow_it() {
    let house = House::of(DemoAgent::Bindery);
    let client = house.welcome(Guest::default(), (Era::Modern, Wire::Http)).await;
    let counting = || call("count_documents", json!({"delay_ms": 1}));
    let result = client.call_tool(counting()).await.expect("an answer");
    assert_keeps_its_promise(&client, "count_documents", &result).await;
    assert_eq!(result.structured_content, Some(json!({"documents": 0, "bytes": 0})));

    let able = house.welcome(Guest { tasks: true, ..Guest::default() }, (Era::Modern, Wire::Http)).await;
    let begun = able.call_tool_once(counting()).await.expect("an answer");
    let CallToolResponse::Task(begun) = begun else { panic!("{begun:?}") };
    let id = begun.task.task_id;
    let result = loop {
        let task = able.get_task(GetTaskParams::new(id.clone())).await.expect("known").task;
        match task.payload {
            TaskPayload::Completed { result } => break result,
            TaskPayload::Working => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(result["structuredContent"], json!({"documents": 0, "bytes": 0}));
    assert_eq!(house.effects().len(), 2);
}
