//! Tests the concierge.

use super::*;

#[tokio::test]
async fn tools_do_the_work_of_the_other_agents() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Concierge);
        let client_config = TestClient {
            answer: accepted(json!({"confirm": true})),
            model: Some(Ok("Three books about rain.")),
            ..TestClient::default()
        };
        let client = agent.connect(client_config.clone(), connection).await;
        let trip = json!({"destination": "Lisbon", "delay_ms": 0});
        let booked = client.call_tool(call("travel_agent", trip.clone())).await.expect("an answer");
        assert_matches_output_schema(&client, "travel_agent", &booked).await;
        assert_eq!(booked.structured_content.as_ref().expect("structured")["status"], "booked", "{connection:?}");

        let topic = json!({"topic": "Lisbon", "delay_ms": 0});
        let found = client.call_tool(call("research_agent", topic.clone())).await.expect("an answer");
        assert_matches_output_schema(&client, "research_agent", &found).await;
        assert_eq!(found.structured_content.as_ref().expect("structured")["summary"], "Three books about rain.");

        let effect =
            |tool: &str, arguments: &Value| json!({"agent": "concierge", "tool": tool, "arguments": arguments});
        assert_eq!(agent.effects(), [effect("travel_agent", &trip), effect("research_agent", &topic)]);
    }
}

#[tokio::test]
async fn long_work_reports_its_progress_and_has_one_effect() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Concierge);
        let client = agent.connect(TestClient::default(), connection).await;
        let result = client.call_tool(call("long_running_agent", json!({"steps": 3, "delay_ms": 0}))).await;
        let result = result.expect("an answer");
        assert_matches_output_schema(&client, "long_running_agent", &result).await;
        assert_eq!(text(&result), "Did 3 steps.");
        assert_eq!(agent.effects().len(), 1, "{connection:?}");
        let refused = client.call_tool(call("long_running_agent", json!({"steps": 0}))).await.expect("an answer");
        assert_eq!(refused.is_error, Some(true));
    }
}
