//! Tests the research agent.

use super::*;

#[tokio::test]
async fn findings_are_summarized_by_the_model() {
    for way in ALL_CONNECTIONS {
        let house = TestAgent::new(DemoAgent::Research);
        let guest = TestClient { model: Some(Ok("Three books about rain.")), ..TestClient::default() };
        let client = house.connect(guest.clone(), way).await;
        let arguments = json!({"topic": "Lisbon", "depth": 2, "delay_ms": 0});
        let result = client.call_tool(call("research", arguments)).await.expect("an answer");

        assert_matches_output_schema(&client, "research", &result).await;
        let research = result.structured_content.clone().expect("structured");
        assert_eq!((&research["summary"], &research["summarised"]), (&json!("Three books about rain."), &json!(true)));
        assert_eq!(research["findings"].as_array().map(Vec::len), Some(2), "{way:?}");
        assert!(text(&result).starts_with("From the demo library, on Lisbon:\n- The Book of Disquiet"));
        assert_eq!(house.effects().len(), 1);

        let record = guest.record.lock().expect("not poisoned");
        let [prompt] = &record.prompts[..] else { panic!("{way:?}: {:?}", record.prompts) };
        assert_eq!(prompt.max_tokens, 100);
        assert!(prompt.system_prompt.is_some());
    }
}

#[tokio::test]
async fn missing_summary_is_explained() {
    for way in ALL_CONNECTIONS {
        let house = TestAgent::new(DemoAgent::Research);
        let client = house.connect(TestClient::default(), way).await;
        let result =
            client.call_tool(call("research", json!({"topic": "basalt", "delay_ms": 0}))).await.expect("an answer");
        assert_matches_output_schema(&client, "research", &result).await;
        let research = result.structured_content.expect("structured");
        assert_eq!(research["summarised"], false, "{way:?}");
        assert_eq!(research["summary"], "Not summarized: the host has no language model.");
    }
}

#[tokio::test]
async fn findings_are_returned_when_the_model_fails() {
    for wire in [ClientTransport::Stdio, ClientTransport::Http] {
        let house = TestAgent::new(DemoAgent::Research);
        let guest = TestClient { model: Some(Err("the model is out")), ..TestClient::default() };
        let client = house.connect(guest, (ClientEra::Legacy, wire)).await;
        let result =
            client.call_tool(call("research", json!({"topic": "Kyoto", "delay_ms": 0}))).await.expect("an answer");
        let research = result.structured_content.expect("structured");
        assert_eq!(research["summary"], "Not summarized: the host's language model did not answer: the model is out.");
    }
}

#[tokio::test]
async fn modern_calls_may_continue_without_a_summary() {
    let house = TestAgent::new(DemoAgent::Research);
    let guest = TestClient { model: Some(Ok("unused")), ..TestClient::default() };
    let client = house.connect(guest, (ClientEra::Modern, ClientTransport::Stdio)).await;
    let mut request = call("research", json!({"topic": "Berlin", "delay_ms": 0}));
    let first = client.call_tool_once(request.clone()).await.expect("an answer");
    let CallToolResponse::InputRequired(required) = first else { panic!("{first:?}") };
    assert_eq!(house.effects(), [] as [Value; 0]);
    request.request_state = required.request_state;
    let second = client.call_tool_once(request).await.expect("an answer");
    let CallToolResponse::Complete(result) = second else { panic!("{second:?}") };
    let research = result.structured_content.expect("structured");
    assert_eq!(research["summary"], "Not summarized: the host did not return a reply of its language model.");
}

#[tokio::test]
async fn log_messages_are_sent_to_hosts_that_ask() {
    for way in ALL_CONNECTIONS {
        let house = TestAgent::new(DemoAgent::Research);
        let guest = TestClient::default();
        let client = house.connect(guest.clone(), way).await;
        let mut meta = RequestMetaObject::new();
        meta.set_log_level(LoggingLevel::Info);
        if way.0 == ClientEra::Legacy {
            client.set_level(SetLevelRequestParams::new(LoggingLevel::Info)).await.expect("set");
        }
        let request = CallToolRequest::new(call("research", json!({"topic": "Lisbon", "delay_ms": 0})));
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let request = ClientRequest::CallToolRequest(request);
        let handle = client.send_request_with_option(request, options).await.expect("sent");
        handle.await_response().await.expect("an answer");
        while guest.record.lock().expect("not poisoned").logs.len() < 2 {
            tokio::task::yield_now().await;
        }
        let mut logs = guest.record.lock().expect("not poisoned").logs.clone();
        logs.sort_by_key(Value::to_string);
        assert_eq!(
            logs,
            ["looking up `Lisbon` in the demo library", "no summary: the host has no language model"],
            "{way:?}"
        );
    }
}
