//! Tests the research agent.

use super::*;

#[tokio::test]
async fn findings_are_summarized_by_the_model() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Research);
        let client_config = TestClient { model: Some(Ok("Three books about rain.")), ..TestClient::default() };
        let client = agent.connect(client_config.clone(), connection).await;
        let arguments = json!({"topic": "Lisbon", "depth": 2, "delay_ms": 0});
        let result = client.call_tool(call("research", arguments)).await.expect("an answer");

        assert_matches_output_schema(&client, "research", &result).await;
        let research = result.structured_content.clone().expect("structured");
        assert_eq!((&research["summary"], &research["summarised"]), (&json!("Three books about rain."), &json!(true)));
        assert_eq!(research["findings"].as_array().map(Vec::len), Some(2), "{connection:?}");
        assert!(text(&result).starts_with("From the demo library, on Lisbon:\n- The Book of Disquiet"));
        assert_eq!(agent.effects().len(), 1);

        let record = client_config.record.lock().expect("not poisoned");
        let [prompt] = &record.prompts[..] else { panic!("{connection:?}: {:?}", record.prompts) };
        assert_eq!(prompt.max_tokens, 100);
        assert!(prompt.system_prompt.is_some());
    }
}

#[tokio::test]
async fn missing_summary_is_explained() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Research);
        let client = agent.connect(TestClient::default(), connection).await;
        let result =
            client.call_tool(call("research", json!({"topic": "basalt", "delay_ms": 0}))).await.expect("an answer");
        assert_matches_output_schema(&client, "research", &result).await;
        let research = result.structured_content.expect("structured");
        assert_eq!(research["summarised"], false, "{connection:?}");
        assert_eq!(research["summary"], "Not summarized: the host has no language model.");
    }
}

#[tokio::test]
async fn findings_are_returned_when_the_model_fails() {
    for transport in [ClientTransport::Stdio, ClientTransport::Http] {
        let agent = TestAgent::new(DemoAgent::Research);
        let client_config = TestClient { model: Some(Err("the model is out")), ..TestClient::default() };
        let client = agent.connect(client_config, (ClientEra::Legacy, transport)).await;
        let result =
            client.call_tool(call("research", json!({"topic": "Kyoto", "delay_ms": 0}))).await.expect("an answer");
        let research = result.structured_content.expect("structured");
        assert_eq!(research["summary"], "Not summarized: the host's language model did not answer: the model is out.");
    }
}

#[tokio::test]
async fn modern_calls_may_continue_without_a_summary() {
    let agent = TestAgent::new(DemoAgent::Research);
    let client_config = TestClient { model: Some(Ok("unused")), ..TestClient::default() };
    let client = agent.connect(client_config, (ClientEra::Modern, ClientTransport::Stdio)).await;
    let mut request = call("research", json!({"topic": "Berlin", "delay_ms": 0}));
    let first = client.call_tool_once(request.clone()).await.expect("an answer");
    let CallToolResponse::InputRequired(required) = first else { panic!("{first:?}") };
    assert_eq!(agent.effects(), [] as [Value; 0]);
    request.request_state = required.request_state;
    let second = client.call_tool_once(request).await.expect("an answer");
    let CallToolResponse::Complete(result) = second else { panic!("{second:?}") };
    let research = result.structured_content.expect("structured");
    assert_eq!(research["summary"], "Not summarized: the host did not return a reply of its language model.");
}

#[tokio::test]
async fn log_messages_are_sent_to_hosts_that_ask() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Research);
        let client_config = TestClient::default();
        let client = agent.connect(client_config.clone(), connection).await;
        let mut meta = RequestMetaObject::new();
        meta.set_log_level(LoggingLevel::Info);
        if connection.0 == ClientEra::Legacy {
            client.set_level(SetLevelRequestParams::new(LoggingLevel::Info)).await.expect("set");
        }
        let request = CallToolRequest::new(call("research", json!({"topic": "Lisbon", "delay_ms": 0})));
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let request = ClientRequest::CallToolRequest(request);
        let handle = client.send_request_with_option(request, options).await.expect("sent");
        handle.await_response().await.expect("an answer");
        while client_config.record.lock().expect("not poisoned").logs.len() < 2 {
            tokio::task::yield_now().await;
        }
        let mut logs = client_config.record.lock().expect("not poisoned").logs.clone();
        logs.sort_by_key(Value::to_string);
        assert_eq!(
            logs,
            ["looking up `Lisbon` in the demo library", "no summary: the host has no language model"],
            "{connection:?}"
        );
    }
}
