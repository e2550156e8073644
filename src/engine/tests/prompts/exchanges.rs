//! Tests of prompts: exchanges, tool calls, and corrected answers.

use crate::engine::tests::*;

fn start_with(task: Task) -> Driver {
    let mut driver = Driver { now: Timestamp(1_000), ..Driver::start(&plan(vec![task])) };
    driver.connect_all();
    driver
}

#[test]
fn prompt_returns_text() {
    let mut asked = prompt("p", &[], None);
    if let Work::Prompt(prompt) = &mut asked.work {
        prompt.source = PromptSource::Prompt(Template(json!("Why?")));
    }
    let mut driver = start_with(asked);
    let requests = driver.drain_model_requests();
    assert_eq!(requests.iter().map(|(number, _)| number.as_str()).collect::<Vec<_>>(), ["p#1"]);
    assert_eq!(requests[0].1.messages[0].text_content(), "Why?");
    driver.reply("p", 1, reply_text("Because."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Because."))));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn tool_calls_of_a_model_are_attempts() {
    let mut driver = start_with(text_prompt(prompt("p", &["a"], None)));
    let offered = driver.drain_model_requests().remove(0).1.tools;
    assert_eq!(offered.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["a.work"]);
    driver.reply("p", 1, tool_use_reply(&[("c1", "a.work"), ("c2", "a.none"), ("c3", "a.work")]));
    let calls = driver.drain_commands(|order| match order {
        Command::StartAttempt(call) => Some((call.attempt.to_string(), Value::Object(call.arguments.clone()))),
        _ => None,
    });
    // Text from a model is data and is never evaluated.
    let arguments = json!({"text": "${{ inputs.secret }}"});
    assert_eq!(calls, [("p/1#1".to_owned(), arguments.clone()), ("p/2#1".to_owned(), arguments)]);
    driver.end("p/1", 1, Ok(text("found")));
    assert_eq!(driver.drain_model_requests(), [], "the model gets all results at once");
    driver.fail("p/2", 1, FailureKind::ToolError);
    let requests = driver.drain_model_requests();
    let results = ChatPart::ToolResult { id: "c1".into(), text: "found".into(), is_error: false };
    let missing = ChatPart::ToolResult {
        id: "c2".into(),
        text: "unknown tool `a.none`; the available tools are `a.work`".into(),
        is_error: true,
    };
    let broken = ChatPart::ToolResult { id: "c3".into(), text: "broke".into(), is_error: true };
    assert_eq!(
        requests[0].1.messages.last().map(|message| message.parts.clone()),
        Some(vec![results, missing, broken])
    );
    driver.reply("p", 2, reply_text("Done."));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)), "a failed call of the loop is the model's affair");
}

#[test]
fn invalid_tool_calls_are_returned_to_the_model() {
    let mut driver = start_with(text_prompt(prompt("p", &["a"], None)));
    driver.drain_model_requests();
    let unreadable = |id: &str| ChatPart::UnreadableToolUse {
        id: id.into(),
        name: "a.work".into(),
        problem: "are no object: [1]".into(),
    };
    let refused = |id: &str| ChatPart::ToolResult {
        id: id.into(),
        text: "`a.work` was not called: its arguments are no object: [1]; give one JSON object".into(),
        is_error: true,
    };
    let results =
        |driver: &mut Driver| driver.drain_model_requests()[0].1.messages.last().map(|message| message.parts.clone());
    driver.reply("p", 1, reply_with(vec![unreadable("c1")]));
    assert_eq!(results(&mut driver), Some(vec![refused("c1")]));
    let Ok(ChatReply { parts, .. }) = tool_use_reply(&[("c2", "a.work")]) else { unreachable!("a reply") };
    driver.reply("p", 2, reply_with([parts, vec![unreadable("c3")]].concat()));
    driver.end("p/1", 1, Ok(text("found")));
    let result = ChatPart::ToolResult { id: "c2".into(), text: "found".into(), is_error: false };
    assert_eq!(results(&mut driver), Some(vec![result, refused("c3")]));
    driver.reply("p", 3, reply_text("Done."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Done."))));
}

#[test]
fn last_exchange_offers_no_tools() {
    let mut driver = start_with(text_prompt(prompt("p", &["a"], None)));
    for number in 1..3 {
        assert_eq!(driver.drain_model_requests()[0].1.tool_choice, ToolChoice::Auto);
        driver.reply("p", number, tool_use_reply(&[("c", "a.none")]));
    }
    assert_eq!(driver.drain_model_requests()[0].1.tool_choice, ToolChoice::None);
    driver.reply("p", 3, reply_text("Enough."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Enough."))));
}

#[test]
fn invalid_answer_is_repaired_once() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    for (second, ends_well) in [("```json\n{\"n\": 2}\n```", true), ("{\"n\": \"two\"}", false)] {
        let mut driver = start_with(text_prompt(prompt("p", &[], Some(schema.clone()))));
        driver.drain_model_requests();
        driver.reply("p", 1, reply_text("{\"n\": 1.5}"));
        let requests = driver.drain_model_requests();
        assert!(requests[0].1.messages[2].text_content().contains("at `/n`"), "{requests:?}");
        driver.reply("p", 2, reply_text(second));
        match driver.outcome("p") {
            Some(Outcome::Succeeded(output)) if ends_well => assert_eq!(output.structured, Some(json!({"n": 2}))),
            Some(Outcome::Failed(failure)) if !ends_well => assert_eq!(failure.kind, FailureKind::ModelFailed),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn extracts_json_from_prose_and_double_encoding() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    for (reply, shown) in [
        ("A draft is {\"n\": 1}.\n```json\n{\"n\": 2}\n```\nDone.", "{\"n\":2}"),
        ("\"{\\\"n\\\": 2}\"", "\"{\\\"n\\\": 2}\""),
        ("The answer is {\"n\": 2}, not {\"m\": 3}.", "{\"n\":2}"),
        (" {\"n\": 2}", " {\"n\": 2}"),
    ] {
        let mut driver = start_with(text_prompt(prompt("p", &[], Some(schema.clone()))));
        driver.reply("p", 1, reply_text(reply));
        let Some(Outcome::Succeeded(output)) = driver.outcome("p") else { panic!("no answer: {reply}") };
        assert_eq!((&output.structured, output.text().as_ref()), (&Some(json!({"n": 2})), shown), "{reply}");
    }
}

/// Returns a reply with this stop reason.
fn reply_with_stop_reason(stop_reason: &str, parts: Vec<ChatPart>) -> Result<ChatReply, ChatError> {
    reply_with(parts).map(|reply| ChatReply { stop_reason: stop_reason.into(), ..reply })
}

fn failure_of(driver: &Driver, task: &str) -> Failure {
    match driver.outcome(task) {
        Some(Outcome::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn incomplete_reply_is_never_an_answer() {
    let text_part = |text: &str| ChatPart::Text { text: text.into() };
    let reasoning = || ChatPart::Reasoning { model: "m".into(), text: "Hm.".into() };
    let schema = json!({"type": "object"});
    for (stop_reason, parts, message) in [
        ("maxTokens", vec![text_part("One. Tw")], "the model's answer was truncated at 100 tokens (`max_tokens`)"),
        ("maxTokens", vec![text_part("{\"a\": 1}")], "the model's answer was truncated at 100 tokens (`max_tokens`)"),
        (
            "maxTokens",
            vec![reasoning(), text_part("")],
            "the model's reasoning was truncated at 100 tokens (`max_tokens`) before an answer began",
        ),
        (
            "maxTokens",
            vec![text_part("")],
            "the model's reply was truncated at 100 tokens (`max_tokens`) before an answer began",
        ),
        ("content_filter", vec![text_part("One.")], "a content filter of the endpoint stopped the model's answer"),
        ("content_filter", vec![text_part("")], "a content filter of the endpoint stopped the model's answer"),
        ("refusal", vec![text_part("I can't.")], "the model refused to answer: I can't."),
        ("refusal", vec![text_part("")], "the model refused to answer"),
        ("odd", vec![text_part("One.")], "the model's reply ended for an unknown reason (`odd`) and may be incomplete"),
    ] {
        let of_prompt = [None, Some(schema.clone())].map(|schema| (text_prompt(prompt("p", &[], schema)), "p"));
        let of_synthesis = [None, Some(schema.clone())].map(|schema| (synthesis(schema, &[]), "answer"));
        for (task, id) in of_prompt.into_iter().chain(of_synthesis) {
            let mut driver = start_with(task);
            driver.reply(id, 1, reply_with_stop_reason(stop_reason, parts.clone()));
            let failure = failure_of(&driver, id);
            assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::ModelFailed, message));
        }
    }
}

#[test]
fn each_incomplete_reply_has_its_own_help() {
    let help = |task: Task, id: &str, reply: Result<ChatReply, ChatError>| {
        let mut driver = start_with(task);
        driver.reply(id, 1, reply);
        failure_of(&driver, id).help.unwrap_or_default()
    };
    let text_part =
        |stop_reason: &str| reply_with_stop_reason(stop_reason, vec![ChatPart::Text { text: "One. Tw".into() }]);
    let counted = |tokens: u64| {
        let usage = Some(Usage { input_tokens: 9, output_tokens: tokens });
        text_part("maxTokens").map(|reply| ChatReply { usage, ..reply })
    };
    for (task, id, key) in [
        (text_prompt(prompt("p", &[], None)), "p", "`max_tokens` of the task"),
        (synthesis(None, &[]), "answer", "`max_tokens` of `result.synthesize`"),
    ] {
        let help = |reply| help(task.clone(), id, reply);
        assert!(help(text_part("maxTokens")).starts_with(&format!("raise {key}; `max_output_tokens`")));
        assert_eq!(help(counted(100)), help(text_part("maxTokens")));
        let short = help(counted(40));
        assert!(
            short.starts_with("the context limit of the model, `max_output_tokens`") && short.ends_with(key),
            "{short}"
        );
        assert_eq!(help(text_part("content_filter")), "change the prompt or the data in it, or use another model");
        assert_eq!(help(text_part("refusal")), "change the prompt, or use another model");
        assert_eq!(help(text_part("odd")), "use another model or endpoint");
    }
    let mut driver = start_with(text_prompt(prompt("p", &[], None)));
    driver.reply("p", 1, counted(40));
    let message = "the model's answer was truncated after 40 of at most 100 tokens (`max_tokens`)";
    assert_eq!(failure_of(&driver, "p").message, message);
}

#[test]
fn unexpected_tool_call_is_rejected_once() {
    for (second, succeeds) in [(reply_text("Done."), true), (tool_use_reply(&[("c", "a.work")]), false)] {
        let mut driver = start_with(text_prompt(prompt("p", &[], None)));
        driver.drain_model_requests();
        driver.reply("p", 1, tool_use_reply(&[("c", "a.work")]));
        let asked = driver.drain_model_requests().remove(0).1.messages;
        assert_eq!(asked[1].text_content(), "(a call of the tool `a.work`)");
        assert_eq!(
            asked[2].text_content(),
            "You called the tool `a.work`, but no tools are available here. Answer with text."
        );
        driver.reply("p", 2, second);
        match succeeds {
            true => assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Done.")))),
            false => assert_eq!(
                failure_of(&driver, "p").message,
                "the model called the tool `a.work` instead of answering, but this prompt has no tools"
            ),
        }
    }
}

#[test]
fn max_turns_failure_names_last_calls() {
    let mut driver = start_with(text_prompt(prompt("p", &["a"], None)));
    for number in 1..=3 {
        driver.reply("p", number, tool_use_reply(&[("c", "a.none"), ("d", "a.none")]));
    }
    let failure = failure_of(&driver, "p");
    let message = "the model called the tool `a.none` in the last of its 3 replies (`max_turns`) instead of answering";
    assert_eq!(failure.message, message);
    assert_eq!(failure.help.as_deref(), Some("raise `max_turns` of the task"));
}

#[test]
fn unnamed_tool_call_returns_available_tools() {
    let mut driver = start_with(text_prompt(prompt("p", &["a"], None)));
    driver.drain_model_requests();
    let nameless = ChatPart::UnreadableToolUse { id: "c".into(), name: String::new(), problem: "are odd".into() };
    driver.reply("p", 1, reply_with(vec![nameless]));
    let result = ChatPart::ToolResult {
        id: "c".into(),
        text: "the call does not name a tool; the available tools are `a.work`".into(),
        is_error: true,
    };
    assert_eq!(
        driver.drain_model_requests()[0].1.messages.last().map(|message| message.parts.clone()),
        Some(vec![result])
    );
}

#[test]
fn tool_call_markup_is_rejected_once() {
    let markup = "<tool_call>\n{\"name\": \"a.work\"}\n</tool_call>";
    let mut driver = start_with(text_prompt(prompt("p", &["a"], None)));
    driver.reply("p", 1, reply_text(markup));
    driver.reply("p", 2, reply_text(markup));
    let failure = failure_of(&driver, "p");
    assert_eq!(failure.message, "the model wrote a tool call as plain text (`<tool_call>`), so no tool was called");
    let mut driver = start_with(text_prompt(prompt("p", &[], None)));
    driver.reply("p", 1, reply_text(markup));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text(markup))));
}

#[test]
fn failed_or_empty_reply_fails_the_task() {
    for reply in [Err(ChatError::Endpoint { message: "down".into(), status: None }), reply_text(" ")] {
        let mut driver = start_with(text_prompt(prompt("p", &[], None)));
        driver.reply("p", 1, reply);
        let Some(Outcome::Failed(failure)) = driver.outcome("p") else { panic!("not failed") };
        assert_eq!(failure.kind, FailureKind::ModelFailed);
    }
}

#[test]
fn cancellation_ends_model_request() {
    let mut driver = start_with(text_prompt(prompt("p", &[], None)));
    driver.send_input(Input::CancelRequested { by: "p".into() });
    let attempt = AttemptId { task: "p".into(), number: 1 };
    assert!(driver.commands.contains(&Command::CancelAttempt { attempt }));
    driver.reply("p", 1, Err(ChatError::Endpoint { message: "cancelled".into(), status: None }));
    assert_eq!((driver.outcome("p"), driver.ended()), (Some(Outcome::Cancelled), Some((RunStatus::Cancelled, None))));
}

#[test]
fn model_gets_every_kind_of_content() {
    let mut driver = start_with(text_prompt(prompt("p", &["a"], None)));
    driver.reply("p", 1, tool_use_reply(&[("c1", "a.work")]));
    driver.drain_model_requests();
    let blocks = [
        json!({"type": "text", "text": "found"}),
        json!({"type": "image", "mimeType": "image/png", "data": "AA=="}),
        json!({"type": "resource", "resource": {"uri": "file:///a", "text": "the page"}}),
        json!({"type": "resource_link", "name": "b", "uri": "file:///b"}),
    ];
    driver.end("p/1", 1, Ok(Arc::new(ToolOutput::new(blocks, None))));
    let request = driver.drain_model_requests().remove(0).1;
    let text = "found\n(image, image/png)\nthe page\nb: file:///b".to_owned();
    let result = ChatPart::ToolResult { id: "c1".into(), text, is_error: false };
    assert_eq!(request.messages.last().map(|message| message.parts.clone()), Some(vec![result]));
}
