//! Tests the archive agent.

use super::*;

#[tokio::test]
async fn documents_are_stored_and_fetched() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Archive);
        let client = agent.connect(TestClient::default(), connection).await;
        let store = call("store_document", json!({"title": "Lisbon brief", "text": "# Olá\n"}));
        let stored = client.call_tool(store.clone()).await.expect("an answer");
        assert_matches_output_schema(&client, "store_document", &stored).await;
        let again = client.call_tool(store).await.expect("an answer");
        assert_eq!(again.structured_content, stored.structured_content, "{connection:?}");
        assert_eq!(agent.effects().len(), 2);

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
        assert_matches_output_schema(&client, "fetch_document", &fetched).await;
        let expected = json!({"uri": uri, "format": "markdown", "bytes": 7, "text": "# Olá\n"});
        assert_eq!(fetched.structured_content, Some(expected));
    }
}

#[tokio::test]
async fn prompts_and_templates_name_documents() {
    for connection in ALL_CONNECTIONS {
        let agent = TestAgent::new(DemoAgent::Archive);
        let client = agent.connect(TestClient::default(), connection).await;
        client.call_tool(call("store_document", json!({"title": "Brief", "text": "Olá"}))).await.expect("an answer");
        let templates = client.list_all_resource_templates().await.expect("listed");
        assert_eq!(templates.iter().map(|known| &*known.uri_template).collect::<Vec<_>>(), ["archive:///{name}"]);
        let prompts = client.list_all_prompts().await.expect("listed");
        assert_eq!(prompts.iter().map(|known| &*known.name).collect::<Vec<_>>(), ["summarize_document"]);

        let reference = Reference::for_resource("archive:///{name}");
        let params = CompleteRequestParams::new(reference, ArgumentInfo::new("name", "bri"));
        let completion = client.complete(params).await.expect("completed").completion;
        let [name] = &completion.values[..] else { panic!("{completion:?}") };
        assert!(name.starts_with("brief-") && completion.total == Some(1), "{completion:?}");

        let arguments = json!({"name": name}).as_object().cloned().expect("an object");
        let request = GetPromptRequestParams::new("summarize_document").with_arguments(arguments);
        let prompt = client.get_prompt(request).await.expect("a prompt");
        let question = json!({"type": "text", "text": "Summarize this document in 3 sentences."});
        assert_eq!(json!(prompt.messages[0].content), question, "{connection:?}");
        assert_eq!(json!(prompt.messages[1].content)["resource"]["text"], "Olá");
        assert!(client.get_prompt(GetPromptRequestParams::new("summarize_document")).await.is_err());
    }
}
