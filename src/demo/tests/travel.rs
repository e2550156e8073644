//! Tests the travel agent.

use super::*;

#[tokio::test]
async fn confirmed_trips_are_booked() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Travel);
        let client_config =
            TestClient { answer: accepted(json!({"confirm": true, "notes": "a quiet room"})), ..TestClient::default() };
        let client = agent.connect(client_config.clone(), connection).await;
        let arguments = json!({"city": "Lisbon", "nights": 2, "from": "Bern", "delay_ms": 0});
        let result = client.call_tool(call("book_trip", arguments.clone())).await.expect("an answer");

        assert_matches_output_schema(&client, "book_trip", &result).await;
        let booking = result.structured_content.clone().expect("structured");
        assert_eq!(booking["status"], "booked", "{connection:?}");
        assert_eq!(booking["notes"], "a quiet room");
        let price = booking["price"].as_u64().expect("a price");
        let confirmation = booking["confirmation"].as_str().expect("a number");
        assert_eq!(text(&result), format!("Booked 2 nights in a hotel in Lisbon for {price} EUR: {confirmation}."));
        assert_eq!(agent.effects(), [json!({"agent": "travel", "tool": "book_trip", "arguments": arguments})]);

        let record = client_config.record.lock().expect("not poisoned");
        let [ElicitRequestParams::FormElicitationParams { message, requested_schema, .. }] = &record.questions[..]
        else {
            panic!("{connection:?}: {:?}", record.questions)
        };
        assert_eq!(*message, format!("Book 2 nights in a hotel in Lisbon for an estimated {price} EUR?"));
        let schema = serde_json::to_value(requested_schema).expect("a schema");
        assert_eq!(schema["properties"]["confirm"]["type"], "boolean");
        assert_eq!(schema["properties"]["notes"]["type"], "string");
        assert_eq!(schema["required"], json!(["confirm"]));
    }
}

#[tokio::test]
async fn unconfirmed_trips_are_canceled() {
    let no = [
        (accepted(json!({"confirm": false})), "the price was not confirmed"),
        (Some(ElicitResult::new(ElicitationAction::Decline)), "the question was declined"),
        (Some(ElicitResult::new(ElicitationAction::Cancel)), "the question was dismissed"),
        (None, "the host cannot ask a person to confirm the price"),
    ];
    for connection in ALL_CONNECTIONS {
        for (answer, reason) in no.clone() {
            let agent = TestAgent::new(DemoAgent::Travel);
            let client = agent.connect(TestClient { answer, ..TestClient::default() }, connection).await;
            let result =
                client.call_tool(call("book_trip", json!({"city": "Kyoto", "delay_ms": 0}))).await.expect("an answer");
            assert_matches_output_schema(&client, "book_trip", &result).await;
            assert_eq!(result.is_error, Some(false));
            assert_eq!(
                text(&result),
                format!("Cancelled the trip to Kyoto: {reason}. Nothing was booked."),
                "{connection:?}"
            );
            let booking = result.structured_content.expect("structured");
            assert_eq!((&booking["status"], &booking["reason"]), (&json!("cancelled"), &json!(reason)));
            assert_eq!(agent.effects(), [] as [Value; 0]);
        }
    }
}

#[tokio::test]
async fn booking_reports_four_progress_steps() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Travel);
        let client_config = TestClient { answer: accepted(json!({"confirm": true})), ..TestClient::default() };
        let client = agent.connect(client_config.clone(), connection).await;
        client.call_tool(call("book_trip", json!({"city": "Lisbon", "delay_ms": 5}))).await.expect("an answer");
        // Notifications are handled concurrently: the last one may arrive after the response.
        while client_config.record.lock().expect("not poisoned").progress.len() < 4 {
            tokio::task::yield_now().await;
        }
        let mut progress = client_config.record.lock().expect("not poisoned").progress.clone();
        progress.sort_by(|first, second| first.0.total_cmp(&second.0));
        let steps: Vec<(f64, Option<f64>)> = progress.iter().map(|(done, total, _)| (*done, *total)).collect();
        assert_eq!(steps, [25.0, 50.0, 75.0, 100.0].map(|step| (step, Some(100.0))), "{connection:?}");
        assert_eq!(progress[0].2.as_deref(), Some("looking for a place to stay in Lisbon"));
    }
}

#[tokio::test]
async fn best_stay_within_the_budget_is_offered() {
    let agent = TestAgent::new(DemoAgent::Travel);
    let client = agent.connect(TestClient::default(), (ClientEra::Modern, ClientTransport::Stdio)).await;
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
async fn effects_record_the_idempotency_key() {
    let agent = TestAgent::new(DemoAgent::Travel);
    let client_config = TestClient { answer: accepted(json!({"confirm": true})), ..TestClient::default() };
    let client = agent.connect(client_config, (ClientEra::Legacy, ClientTransport::Stdio)).await;
    let mut meta = RequestMetaObject::new();
    meta.insert("org.example/idempotency-key".into(), json!("run/trip/1"));
    let request = CallToolRequest::new(call("book_trip", json!({"city": "Lisbon", "delay_ms": 0})));
    let options = PeerRequestOptions::no_options().with_meta(meta);
    let handle = client.send_request_with_option(ClientRequest::CallToolRequest(request), options).await.expect("sent");
    handle.await_response().await.expect("an answer");
    assert_eq!(agent.effects()[0]["idempotency_key"], "run/trip/1");
}

#[tokio::test]
async fn foreign_request_states_are_refused() {
    let agent = TestAgent::new(DemoAgent::Travel);
    let client = agent.connect(
        TestClient { answer: accepted(json!({"confirm": true})), ..TestClient::default() },
        (ClientEra::Modern, ClientTransport::Http),
    );
    let mut forged = call("book_trip", json!({"city": "Lisbon", "delay_ms": 0}));
    forged.request_state = Some("forged".into());
    forged.input_responses =
        Some(InputResponses::from([("confirm".to_owned(), json!({"action": "accept", "content": {"confirm": true}}))]));
    let refused = client.await.call_tool_once(forged).await;
    let Err(ServiceError::McpError(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    assert_eq!(error.message, "`requestState` `forged` does not belong to these arguments of `book_trip`");
    assert_eq!(agent.effects(), [] as [Value; 0]);
}
