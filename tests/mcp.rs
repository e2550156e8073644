//! Calls real agents, most of which misbehave, over both transports and in both eras.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use kapell::{
    mcp::Pool,
    model::{
        Answer, ChatError, ChatMessage, ChatPart, ChatReply, ChatRole, Failure, FailureKind, Form, JsonObject,
        Protocol, ToolChoice, Transport,
    },
};
use serde_json::{Value, json};
use support::{Recorder, attempt, is_running, odd, pool, spec, until};
use tokio_util::sync::CancellationToken;

async fn call(pool: &Pool, tool: &str, arguments: Value) -> Result<String, Failure> {
    let output = pool.call(attempt(tool, arguments), JsonObject::new(), CancellationToken::new()).await?;
    Ok(output.text().into_owned())
}

/// Calls `work` of an agent in the given mode.
async fn work(mode: &str) -> (Arc<Recorder>, Result<String, Failure>) {
    let host = Recorder::new();
    let pool = pool(vec![odd(mode)], &host);
    let result = call(&pool, "work", json!({})).await;
    pool.close().await;
    (host, result)
}

fn kind<T: std::fmt::Debug>(result: Result<T, Failure>) -> (FailureKind, String) {
    let failure = result.expect_err("the call should have failed");
    (failure.kind, failure.message)
}

#[tokio::test]
async fn lists_every_page_and_keeps_a_tool_without_a_schema() {
    let pool = pool(vec![odd("good")], &Recorder::new());
    let info = pool.connect(&"odd".into()).await.unwrap();
    let names: Vec<_> = info.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["echo", "broken", "work", "count"]);
    assert_eq!((info.protocol.as_str(), info.server.as_deref()), ("2025-11-25", Some("odd 1")));
    assert_eq!(call(&pool, "echo", json!({"text": "hi"})).await, Ok("hi".to_owned()));
    pool.close().await;
    assert_eq!(kind(pool.connect(&"odd".into()).await).0, FailureKind::AgentUnavailable);
}

/// A call is moved about before it is under way, and there are many.
#[test]
fn a_call_is_small() {
    let pool = pool(vec![], &Recorder::new());
    let calling = pool.call(attempt("work", json!({})), JsonObject::new(), CancellationToken::new());
    let size = size_of_val(&calling);
    assert!(size <= 6 * 1024, "{size} bytes");
}

#[tokio::test]
async fn checks_the_tool_and_its_arguments_before_it_calls() {
    let mut limited = odd("good");
    limited.disabled_tools = vec!["work".to_owned()];
    let pool = pool(vec![limited], &Recorder::new());
    let failure = call(&pool, "ecko", json!({})).await.unwrap_err();
    assert_eq!((failure.kind, failure.help.as_deref()), (FailureKind::UnknownTool, Some("did you mean `echo`?")));
    assert_eq!(kind(call(&pool, "work", json!({})).await).0, FailureKind::UnknownTool);
    let (invalid, message) = kind(call(&pool, "echo", json!({"text": 1})).await);
    assert_eq!(invalid, FailureKind::InvalidArguments);
    assert!(message.contains("`/text`"), "{message}");
    pool.close().await;
}

#[tokio::test]
async fn an_agent_that_cannot_start_is_unavailable_and_says_why() {
    for (mode, parts) in [("exits", &["exit status: 3", "no licence", "odd.log"][..]), ("never", &["handshake within"])]
    {
        let mut agent = odd(mode);
        agent.startup_timeout = Duration::from_millis(1_500);
        let pool = pool(vec![agent], &Recorder::new());
        let (kind, message) = kind(pool.connect(&"odd".into()).await);
        assert_eq!(kind, FailureKind::AgentUnavailable);
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
        pool.close().await;
    }
    let plain = tempfile::NamedTempFile::new().unwrap();
    let plain = plain.path().to_str().unwrap();
    for (command, part) in [("/no/such/program", "No such file"), (plain, "Permission denied")] {
        let mut agent = odd("good");
        let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
        process.command = command.to_owned();
        let pool = pool(vec![agent], &Recorder::new());
        let (kind, message) = kind(pool.connect(&"odd".into()).await);
        assert_eq!(kind, FailureKind::AgentUnavailable);
        assert!(message.contains(command) && message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn callers_that_come_meanwhile_share_the_outcome_of_connecting() {
    let mut agent = odd("never");
    agent.startup_timeout = Duration::from_millis(700);
    let pool = pool(vec![agent], &Recorder::new());
    let started = Instant::now();
    let id = "odd".into();
    let outcomes = futures::future::join_all((0..5).map(|_| pool.connect(&id))).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.is_err()));
    assert!(started.elapsed() < Duration::from_millis(2_500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_ignores_the_probe_is_spoken_with_the_old_way() {
    let mut agent = odd("ignores-discover");
    agent.startup_timeout = Duration::from_secs(4);
    let pool = pool(vec![agent], &Recorder::new());
    assert_eq!(pool.connect(&"odd".into()).await.unwrap().protocol, "2025-11-25");
    pool.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_long_to_come_up_is_still_waited_for_after_the_probe() {
    let mut agent = odd("never");
    agent.startup_timeout = Duration::from_secs(30);
    let pool = pool(vec![agent], &Recorder::new());
    let failure = pool.connect(&"odd".into()).await.unwrap_err();
    assert!(failure.message.contains("did not finish the handshake within 30s"), "{failure}");
    pool.close().await;
}

#[tokio::test]
async fn lines_that_are_no_messages_are_skipped_and_logged() {
    let host = Recorder::new();
    let pool = pool(vec![odd("noise")], &host);
    assert_eq!(call(&pool, "work", json!({})).await, Ok("worked".to_owned()));
    pool.close().await;
    let log = std::fs::read_to_string(host.logs().join("odd.log")).unwrap();
    assert!(log.contains("Welcome to odd 1.0!\n{\"level\":\"info\",\"msg\":\"listening\"}\n[]\n"), "{log}");
    assert_eq!(work("bad-utf8").await.1, Ok("after".to_owned()));
    assert_eq!(work("other-id").await.1, Ok("for you".to_owned()));
}

#[tokio::test]
async fn what_the_agent_answers_decides_the_kind_of_failure() {
    for (mode, expected, part) in [
        ("refuses", FailureKind::Refused, "not like this (JSON-RPC -32602)"),
        ("fails", FailureKind::ToolError, "no such city"),
        ("bad-answer", FailureKind::InvalidResult, "sent an answer that cannot be read"),
        ("dies", FailureKind::ConnectionLost, "exit status: 7; its last words: giving up"),
        ("too-large", FailureKind::ResultTooLarge, "64 MiB"),
    ] {
        let (kind, message) = kind(work(mode).await.1);
        assert_eq!(kind, expected, "{mode}: {message}");
        assert!(message.contains(part), "{mode}: {message}");
    }
}

#[tokio::test]
async fn connects_again_after_the_agent_has_died() {
    let pool = pool(vec![odd("dies")], &Recorder::new());
    assert_eq!(kind(call(&pool, "work", json!({})).await).0, FailureKind::ConnectionLost);
    assert_eq!(call(&pool, "echo", json!({"text": "alive"})).await, Ok("alive".to_owned()));
    pool.close().await;
}

#[tokio::test]
async fn structured_content_must_keep_to_the_output_schema() {
    for (mode, expected) in [("good", Ok("3".to_owned())), ("breaks-schema", Err(FailureKind::InvalidResult))] {
        let pool = pool(vec![odd(mode)], &Recorder::new());
        assert_eq!(call(&pool, "count", json!({})).await.map_err(|failure| failure.kind), expected);
        pool.close().await;
    }
}

#[tokio::test]
async fn reads_twenty_megabytes() {
    assert_eq!(work("large").await.1.map(|text| text.len()), Ok(20_000_000));
}

#[tokio::test]
async fn a_flood_of_progress_is_thinned_out_and_ends_with_the_last() {
    let (host, result) = work("flood").await;
    assert_eq!(result, Ok("flooded".to_owned()));
    let progress = host.progress();
    assert!(progress.len() < 30, "{}", progress.len());
    assert_eq!(progress.last().unwrap().progress, 1000.0);
    assert!(progress.is_sorted_by(|a, b| a.progress < b.progress));
}

#[tokio::test]
async fn a_flood_of_log_messages_is_cut_and_counted() {
    let (host, result) = work("logs").await;
    assert_eq!(result, Ok("logged".to_owned()));
    let logs = host.logged();
    assert_eq!(logs.len(), 51);
    assert_eq!(logs.last().unwrap().1.data, json!("150 log messages dropped: more than 50 a second"));
    assert_eq!(logs[0].0.attempt, Some(attempt("work", json!({})).attempt));
}

#[tokio::test]
async fn progress_keeps_a_slow_call_alive_and_silence_ends_it() {
    let host = Recorder::new();
    let pool = pool(vec![odd("slow"), spec("silent", odd("silent").transport)], &host);
    let mut slow = attempt("work", json!({}));
    slow.timeout = Duration::from_millis(600);
    let output = pool.call(slow.clone(), JsonObject::new(), CancellationToken::new()).await.unwrap();
    assert_eq!(output.text(), "slow but steady");
    let steps: Vec<_> = host.progress().into_iter().map(|progress| progress.progress).collect();
    assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    slow.deadline = Some(Duration::from_millis(500));
    let (late, message) = kind(pool.call(slow, JsonObject::new(), CancellationToken::new()).await);
    assert_eq!(late, FailureKind::DeadlineExceeded);
    assert!(message.contains("longer than 500ms; its last progress was "), "{message}");

    let mut silent = attempt("work", json!({}));
    silent.agent = "silent".into();
    silent.timeout = Duration::from_millis(300);
    let (idle, message) = kind(pool.call(silent, JsonObject::new(), CancellationToken::new()).await);
    assert_eq!(idle, FailureKind::IdleTimeout);
    assert!(message.ends_with("was silent for 300ms; it reported no progress"), "{message}");
    pool.close().await;
    let log = std::fs::read_to_string(host.logs().join("silent.log")).unwrap();
    assert!(log.contains("cancelled: the call was silent for too long"), "{log}");
}

#[tokio::test]
async fn cancelling_tells_the_agent_and_ends_the_call_at_once() {
    let host = Recorder::new();
    let pool = pool(vec![odd("silent")], &host);
    pool.connect(&"odd".into()).await.unwrap();
    let cancel = CancellationToken::new();
    let calling = pool.call(attempt("work", json!({})), JsonObject::new(), cancel.clone());
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(calling, cancelling);
    assert_eq!(kind(result).0, FailureKind::Cancelled);
    pool.close().await;
    let log = std::fs::read_to_string(host.logs().join("odd.log")).unwrap();
    assert!(log.contains("cancelled: the run was cancelled"), "{log}");
}

#[tokio::test]
async fn a_person_is_asked_for_a_legacy_agent_while_its_timeout_stands_still() {
    let host = Recorder::answering(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    host.think_for(Duration::from_millis(1_500));
    let pool = pool(vec![odd("elicits")], &host);
    let mut request = attempt("work", json!({}));
    request.timeout = Duration::from_millis(1_000);
    request.deadline = Some(Duration::from_millis(1_200));
    let output = pool.call(request.clone(), JsonObject::new(), CancellationToken::new()).await.unwrap();
    assert_eq!(output.text(), r#"{"action": "accept", "content": {"name": "Ada"}}"#);
    let (origin, elicitation) = host.elicited().remove(0);
    assert_eq!((origin.attempt, elicitation.message.as_str()), (Some(request.attempt), "who?"));
    assert!(matches!(elicitation.form, Form::Fields { .. }));
    pool.close().await;
}

#[tokio::test]
async fn a_question_is_withdrawn_when_its_call_is_cancelled() {
    let host = Recorder::new();
    host.think_for(Duration::from_secs(1_000));
    let pool = pool(vec![odd("elicits")], &host);
    pool.connect(&"odd".into()).await.unwrap();
    let cancel = CancellationToken::new();
    let calling = pool.call(attempt("work", json!({})), JsonObject::new(), cancel.clone());
    let cancelling = async {
        until(|| !host.elicited().is_empty()).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(calling, cancelling);
    assert_eq!(kind(result).0, FailureKind::Cancelled);
    tokio::time::timeout(Duration::from_secs(2), host.withdrawn()).await.unwrap();
    let started = Instant::now();
    pool.close().await;
    // rmcp alone would wait two seconds for the answer.
    assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_page_that_must_be_visited_first_is_shown_and_the_call_repeated() {
    let host = Recorder::answering(Answer::Accept { content: None });
    let pool = pool(vec![odd("pages")], &host);
    assert_eq!(call(&pool, "work", json!({})).await, Ok("logged in".to_owned()));
    let page = Form::Url { url: "https://example.org/login".to_owned() };
    assert_eq!(host.elicited().remove(0).1.form, page);
    pool.close().await;
    let (kind, _) = kind(work("pages").await.1);
    assert_eq!(kind, FailureKind::Denied);
}

#[tokio::test]
async fn the_model_is_asked_for_a_legacy_agent_and_refuses_what_it_cannot_do() {
    let host = Recorder::new();
    host.replies(Ok(ChatReply {
        parts: vec![ChatPart::Text { text: "in short".to_owned() }],
        cost_usd: None,
        warning: None,
        model: "small".to_owned(),
        stop_reason: "maxTokens".to_owned(),
        usage: None,
    }));
    let pool = pool(vec![odd("samples")], &host);
    let expected = json!({
        "role": "assistant", "content": {"type": "text", "text": "in short"}, "model": "small", "stopReason": "maxTokens",
    });
    let answer: Value = serde_json::from_str(&call(&pool, "work", json!({})).await.unwrap()).unwrap();
    assert_eq!(answer, expected);
    let refused = call(&pool, "work", json!({"kind": "hologram"})).await.unwrap();
    assert!(refused.contains("-32602") && refused.contains("`hologram`"), "{refused}");
    host.replies(Err(ChatError::Endpoint { message: "overloaded".to_owned(), status: Some(529) }));
    let failed = call(&pool, "work", json!({})).await.unwrap();
    assert!(failed.contains("-32603") && failed.contains("overloaded"), "{failed}");
    pool.close().await;
}

#[tokio::test]
async fn an_agent_of_either_era_has_the_model_use_a_tool() {
    for mode in ["samples-tools", "modern-samples-tools"] {
        let host = Recorder::new();
        let use_of_tool = ChatPart::ToolUse {
            id: "1".to_owned(),
            name: "geo.find".to_owned(),
            input: support::object(json!({"city": "Porto"})),
        };
        let reply = ChatReply {
            parts: vec![use_of_tool.clone()],
            cost_usd: None,
            warning: None,
            model: "small".to_owned(),
            stop_reason: "toolUse".to_owned(),
            usage: None,
        };
        host.replies(Ok(reply));
        let pool = pool(vec![odd(mode)], &host);
        let said: Value = serde_json::from_str(&call(&pool, "work", json!({})).await.unwrap()).unwrap();
        let block = json!({"type": "tool_use", "id": "1", "name": "geo.find", "input": {"city": "Porto"}});
        assert_eq!((&said["declared"], &said["first"]["content"]), (&json!({"tools": {}}), &block), "{mode}: {said}");
        assert_eq!(said["first"]["stopReason"], "toolUse");
        let asked: Vec<_> = host.sampled().into_iter().map(|(_, chat)| chat).collect();
        let result = ChatPart::ToolResult { id: "1".to_owned(), text: "41.1 N".to_owned(), is_error: false };
        let expected = [
            ChatMessage::text(ChatRole::User, "Where is it?").into(),
            ChatMessage { role: ChatRole::Assistant, parts: vec![use_of_tool] }.into(),
            ChatMessage { role: ChatRole::User, parts: vec![result] }.into(),
        ];
        assert_eq!((asked[0].messages.as_slice(), asked[1].messages.as_slice()), (&expected[..1], &expected[..]));
        assert_eq!((asked[0].tool_choice, asked[1].tool_choice), (ToolChoice::Required, ToolChoice::None));
        assert_eq!(asked[0].tools[0].name, "geo.find");
        pool.close().await;
    }
}

#[tokio::test]
async fn a_changed_list_of_tools_is_read_before_the_next_call() {
    let pool = pool(vec![odd("changes")], &Recorder::new());
    assert_eq!(call(&pool, "work", json!({})).await, Ok("changed".to_owned()));
    assert_eq!(call(&pool, "later", json!({})).await, Ok("changed".to_owned()));
    assert!(pool.connect(&"odd".into()).await.unwrap().tool("later").is_some());
    pool.close().await;
}

#[tokio::test]
async fn a_child_gets_the_environment_it_is_given_and_no_more() {
    let mut agent = odd("environment");
    let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
    process.env.insert("GIVEN".to_owned(), "yes".to_owned());
    let pool = pool(vec![agent], &Recorder::new());
    let names: Vec<String> = serde_json::from_str(&call(&pool, "work", json!({})).await.unwrap()).unwrap();
    pool.close().await;
    assert!(names.contains(&"GIVEN".to_owned()) && names.contains(&"PATH".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
}

#[tokio::test]
async fn closing_ends_children_that_do_not_listen_and_their_children() {
    for (mode, limit) in [("ignores-eof", 2_500), ("stubborn", 4_000)] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pids");
        let mut agent = odd(mode);
        let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
        process.args.push(file.to_str().unwrap().to_owned());
        let pool = pool(vec![agent], &Recorder::new());
        pool.connect(&"odd".into()).await.unwrap();
        let pids = pids(&file);
        assert!(pids.iter().all(|pid| is_running(*pid)));
        let started = Instant::now();
        pool.close().await;
        assert!(started.elapsed() < Duration::from_millis(limit), "{mode}: {:?}", started.elapsed());
        support::until_gone(&pids).await;
    }
}

#[tokio::test]
async fn dropping_the_pool_kills_what_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let mut agent = odd("stubborn");
    let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
    process.args.push(file.to_str().unwrap().to_owned());
    let pool = pool(vec![agent], &Recorder::new());
    pool.connect(&"odd".into()).await.unwrap();
    let pids = pids(&file);
    drop(pool);
    support::until_gone(&pids).await;
}

fn pids(file: &Path) -> Vec<u32> {
    std::fs::read_to_string(file).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect()
}

#[tokio::test]
async fn an_only_modern_agent_is_not_found_in_a_legacy_one() {
    let mut agent = odd("good");
    agent.protocol = Protocol::Modern;
    let pool = pool(vec![agent], &Recorder::new());
    let (kind, message) = kind(pool.connect(&"odd".into()).await);
    assert_eq!(kind, FailureKind::AgentUnavailable);
    assert!(message.contains("refused the handshake"), "{message}");
}

#[tokio::test]
async fn a_modern_agent_over_stdio_is_asked_back_in_rounds() {
    let host = Recorder::answering(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    let pool = pool(vec![odd("modern")], &host);
    assert_eq!(pool.connect(&"odd".into()).await.unwrap().protocol, "2026-07-28");
    let said = call(&pool, "work", json!({})).await.unwrap();
    assert_eq!(said, r#"waited {"who": {"action": "accept", "content": {"name": "Ada"}}}"#);
    let rounds: Vec<_> = host.rounds().into_iter().map(|(number, state, _)| (number, state.unwrap())).collect();
    assert_eq!(rounds[0], (1, "asked".to_owned()));
    assert_eq!((rounds.len(), rounds[1].0), (2, 2));
    let Form::Fields { schema } = host.elicited().remove(0).1.form else { panic!("no form") };
    assert_eq!(schema["x-odd"], json!(true));
    let notes: Vec<_> = host.notes().into_iter().map(|(_, note)| note["kind"].clone()).collect();
    assert_eq!(notes, ["round", "input_given", "round", "input_given"]);
    pool.close().await;
}

#[tokio::test]
async fn input_that_was_given_is_not_given_again_by_a_later_process() {
    let host = Recorder::answering(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    let pool = pool(vec![odd("modern")], &host);
    let work = attempt("work", json!({}));
    let requests = json!({"who": {"method": "elicitation/create", "params": {
        "message": "?", "requestedSchema": {"type": "object", "properties": {}},
    }}});
    let open = json!({"kind": "round", "number": 1, "state": "asked", "requests": requests});
    let taken_up = pool.take_up(work.clone(), open, JsonObject::new(), CancellationToken::new()).await;
    let said = taken_up.map(|output| output.text().into_owned());
    assert_eq!(said, Ok(r#"waited {"who": {"action": "accept", "content": {"name": "Ada"}}}"#.to_owned()));
    let given = pool.take_up(work, json!({"kind": "input_given"}), JsonObject::new(), CancellationToken::new()).await;
    assert_eq!(given.unwrap_err().kind, FailureKind::Interrupted);
    pool.close().await;
}

#[tokio::test]
async fn a_round_that_cannot_be_answered_ends_the_call_and_says_why() {
    for (mode, expected, part) in [
        (
            "modern-samples",
            FailureKind::ServerError,
            "asked for `who`, which failed: content of type `image` must have `data`",
        ),
        ("modern-task", FailureKind::ConnectionLost, "no longer has the task of `work`"),
    ] {
        let (kind, message) = kind(work(mode).await.1);
        assert_eq!(kind, expected, "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn with_two_calls_in_flight_the_host_does_not_guess_which_one_asks() {
    let host = Recorder::new();
    let pool = pool(vec![odd("elicits-later")], &host);
    assert_eq!(call(&pool, "echo", json!({"text": "quiet"})).await, Ok("quiet".to_owned()));
    let first = call(&pool, "work", json!({"after": 0.2}));
    let second = call(&pool, "work", json!({"after": 0.6}));
    let results = tokio::join!(first, second);
    assert_eq!(results, (Ok("decline".to_owned()), Ok("decline".to_owned())));
    let origins: Vec<_> = host.elicited().into_iter().map(|(origin, _)| origin.attempt.is_some()).collect();
    assert_eq!(origins, [false, true]);
    pool.close().await;
}
