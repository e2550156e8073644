//! Tests the bindery agent.

use super::*;

#[tokio::test]
async fn binding_returns_a_resource_with_its_progress() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Bindery);
        let client = agent.connect(TestClient::default(), connection).await;
        for (fails, status) in [(false, "completed"), (true, "failed")] {
            let arguments = json!({"title": "Lisbon", "delay_ms": 0, "fails": fails});
            let result = client.call_tool(call("bind_documents", arguments)).await.expect("an answer");
            assert_matches_output_schema(&client, "bind_documents", &result).await;
            let uri = result.structured_content.expect("structured")["uri"].as_str().expect("an address").to_owned();
            let read = client.read_resource(ReadResourceRequestParams::new(uri)).await.expect("read");
            let ResourceContents::TextResourceContents { text, .. } = &read.contents[0] else { panic!("{read:?}") };
            let progress: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(progress, json!({"title": "Lisbon", "status": status, "done": 4, "total": 4}), "{connection:?}");
        }
        assert_eq!(agent.effects().len(), 2);
    }
}

#[tokio::test]
async fn counting_runs_as_a_task_only_if_the_client_supports_tasks() {
    let agent = TestAgent::new(DemoAgent::Bindery);
    let client = agent.connect(TestClient::default(), (ClientEra::Modern, ClientTransport::Http)).await;
    let counting = || call("count_documents", json!({"delay_ms": 1}));
    let result = client.call_tool(counting()).await.expect("an answer");
    assert_matches_output_schema(&client, "count_documents", &result).await;
    assert_eq!(result.structured_content, Some(json!({"documents": 0, "bytes": 0})));

    let task_client = agent
        .connect(TestClient { tasks: true, ..TestClient::default() }, (ClientEra::Modern, ClientTransport::Http))
        .await;
    let started = task_client.call_tool_once(counting()).await.expect("an answer");
    let CallToolResponse::Task(started) = started else { panic!("{started:?}") };
    let id = started.task.task_id;
    let result = loop {
        let task = task_client.get_task(GetTaskParams::new(id.clone())).await.expect("known").task;
        match task.payload {
            TaskPayload::Completed { result } => break result,
            TaskPayload::Working => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(result["structuredContent"], json!({"documents": 0, "bytes": 0}));
    assert_eq!(agent.effects().len(), 2);
}
