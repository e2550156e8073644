//! The agent that looks things up.

use super::*;

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
