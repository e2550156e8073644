//! Calls real agents over both transports and in both eras. Most of them misbehave.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kapell::mcp::{Agents as _, CallContext, Pool};
use kapell::model::{
    Answer, ChatError, ChatMessage, ChatPart, ChatReply, ChatRole, Failure, FailureKind, Form, Protocol, ToolChoice,
    Transport,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::pools::{
    self, RecordingHost, attempt, is_running, let_time_pass, odd_agent, pool, spec, wait_until,
};

async fn call(pool: &Pool, tool: &str, arguments: Value) -> Result<String, Failure> {
    let output = pool.call(attempt(tool, arguments), CallContext::default()).await?;
    Ok(output.text().into_owned())
}

/// Calls `work` of an agent that behaves as `mode` says.
async fn work(mode: &str) -> (Arc<RecordingHost>, Result<String, Failure>) {
    let host = RecordingHost::new();
    let pool = pool(vec![odd_agent(mode)], &host);
    let result = call(&pool, "work", json!({})).await;
    pool.close().await;
    (host, result)
}

fn failure_of<T: std::fmt::Debug>(result: Result<T, Failure>) -> (FailureKind, String) {
    let failure = result.expect_err("the call should have failed");
    (failure.kind, failure.message)
}

#[tokio::test]
async fn connecting_lists_every_page_of_tools() {
    let pool = pool(vec![odd_agent("good")], &RecordingHost::new());
    let info = pool.connect(&"odd".into()).await.unwrap();
    let names: Vec<_> = info.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["echo", "broken", "work", "count"]);
    assert_eq!((info.protocol.as_str(), info.server.as_deref()), ("2025-11-25", Some("odd 1")));
    assert_eq!(call(&pool, "echo", json!({"text": "hi"})).await, Ok("hi".to_owned()));
    pool.close().await;
    assert_eq!(failure_of(pool.connect(&"odd".into()).await).0, FailureKind::AgentUnavailable);
}

/// The future of a call is moved before it is polled, and a run can have many of them.
#[test]
fn a_call_is_small() {
    let pool = pool(vec![], &RecordingHost::new());
    let calling = pool.call(attempt("work", json!({})), CallContext::default());
    let size = size_of_val(&calling);
    assert!(size <= 6 * 1024, "{size} bytes");
}

#[tokio::test]
async fn tool_and_arguments_are_checked_before_the_call() {
    let mut limited = odd_agent("good");
    limited.disabled_tools = vec!["work".to_owned()];
    let pool = pool(vec![limited], &RecordingHost::new());
    let failure = call(&pool, "ecko", json!({})).await.unwrap_err();
    assert_eq!((failure.kind, failure.help.as_deref()), (FailureKind::UnknownTool, Some("did you mean `echo`?")));
    assert_eq!(failure_of(call(&pool, "work", json!({})).await).0, FailureKind::UnknownTool);
    let (invalid, message) = failure_of(call(&pool, "echo", json!({"text": 1})).await);
    assert_eq!(invalid, FailureKind::InvalidArguments);
    assert!(message.contains("`/text`"), "{message}");
    pool.close().await;
}

#[tokio::test]
async fn agents_that_cannot_start_are_unavailable() {
    for (mode, startup_timeout, parts) in [
        ("exits", Duration::from_secs(60), &["exit status: 3", "no license", "odd.log"][..]),
        ("never", Duration::from_millis(1_500), &["handshake within"]),
    ] {
        let mut agent = odd_agent(mode);
        agent.startup_timeout = startup_timeout;
        let pool = pool(vec![agent], &RecordingHost::new());
        let (kind, message) = failure_of(pool.connect(&"odd".into()).await);
        assert_eq!(kind, FailureKind::AgentUnavailable);
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
        pool.close().await;
    }
    let plain = tempfile::NamedTempFile::new().unwrap();
    let plain = plain.path().to_str().unwrap();
    for (command, part) in [("/no/such/program", "No such file"), (plain, "Permission denied")] {
        let mut agent = odd_agent("good");
        let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
        process.command = command.to_owned();
        let pool = pool(vec![agent], &RecordingHost::new());
        let (kind, message) = failure_of(pool.connect(&"odd".into()).await);
        assert_eq!(kind, FailureKind::AgentUnavailable);
        assert!(message.contains(command) && message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn concurrent_callers_share_one_connection_attempt() {
    let mut agent = odd_agent("never");
    agent.protocol = Protocol::Legacy;
    agent.startup_timeout = Duration::from_millis(700);
    let host = RecordingHost::new();
    let pool = pool(vec![agent], &host);
    let id = "odd".into();
    let outcomes = futures::future::join_all((0..5).map(|_| pool.connect(&id))).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.is_err()));
    let starts = || {
        let log = std::fs::read_to_string(host.log_directory().join("odd.log")).unwrap_or_default();
        log.matches(" (process ").count()
    };
    wait_until(|| starts() > 0).await;
    assert_eq!(starts(), 1);
}

#[tokio::test]
async fn servers_that_ignore_the_probe_fall_back_to_initialize() {
    let mut agent = odd_agent("ignores-discover");
    agent.startup_timeout = Duration::from_secs(4);
    let pool = pool(vec![agent], &RecordingHost::new());
    assert_eq!(pool.connect(&"odd".into()).await.unwrap().protocol, "2025-11-25");
    pool.close().await;
}

#[tokio::test(start_paused = true)]
async fn slow_servers_are_awaited_after_the_probe() {
    let mut agent = odd_agent("never");
    agent.startup_timeout = Duration::from_secs(30);
    let pool = pool(vec![agent], &RecordingHost::new());
    let start = tokio::time::Instant::now();
    let failure = pool.connect(&"odd".into()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::AgentUnavailable);
    assert!(start.elapsed() >= Duration::from_secs(30), "{:?}", start.elapsed());
    pool.close().await;
}

#[tokio::test]
async fn time_for_an_installation_ends_when_the_server_starts() {
    let mut agent = odd_agent("never");
    agent.protocol = Protocol::Legacy;
    agent.startup_timeout = Duration::from_millis(700);
    agent.installation_timeout = Duration::from_secs(60 * 60);
    let pool = pool(vec![agent], &RecordingHost::new());
    let (kind, message) = failure_of(pool.connect(&"odd".into()).await);
    assert_eq!(kind, FailureKind::AgentUnavailable);
    assert!(message.contains("started, but did not finish the handshake within 700ms"), "{message}");
    pool.close().await;
}

#[tokio::test]
async fn non_message_lines_are_skipped_and_logged() {
    let host = RecordingHost::new();
    let pool = pool(vec![odd_agent("noise")], &host);
    assert_eq!(call(&pool, "work", json!({})).await, Ok("worked".to_owned()));
    pool.close().await;
    let log = std::fs::read_to_string(host.log_directory().join("odd.log")).unwrap();
    // Each line begins with its time.
    let lines: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    let noise = ["Welcome to odd 1.0!", "{\"level\":\"info\",\"msg\":\"listening\"}", "[]"];
    assert!(lines.windows(3).any(|written| written == noise), "{log}");
    assert_eq!(work("bad-utf8").await.1, Ok("after".to_owned()));
    assert_eq!(work("other-id").await.1, Ok("for you".to_owned()));
}

#[tokio::test]
async fn responses_decide_the_failure_kind() {
    let mut report = String::new();
    for (mode, expected) in [
        ("refuses", FailureKind::Refused),
        ("fails", FailureKind::ToolError),
        ("bad-answer", FailureKind::InvalidResult),
        ("dies", FailureKind::ConnectionLost),
        ("too-large", FailureKind::ResultTooLarge),
    ] {
        let (host, result) = work(mode).await;
        let (kind, message) = failure_of(result);
        assert_eq!(kind, expected, "{mode}: {message}");
        let message = message.replace(host.log_directory().to_str().unwrap(), "LOGS");
        // The number of requests of a handshake can vary.
        let message = (0..20).fold(message, |text, id| text.replace(&format!("\"id\": {id},"), "\"id\": ID,"));
        report += &format!("{mode}: {message}\n");
    }
    insta::assert_snapshot!(report);
}

#[tokio::test]
async fn dead_agents_are_reconnected() {
    let pool = pool(vec![odd_agent("dies")], &RecordingHost::new());
    assert_eq!(failure_of(call(&pool, "work", json!({})).await).0, FailureKind::ConnectionLost);
    assert_eq!(call(&pool, "echo", json!({"text": "alive"})).await, Ok("alive".to_owned()));
    pool.close().await;
}

#[tokio::test]
async fn structured_content_is_checked_against_the_output_schema() {
    for (mode, expected) in [("good", Ok("3".to_owned())), ("breaks-schema", Err(FailureKind::InvalidResult))] {
        let pool = pool(vec![odd_agent(mode)], &RecordingHost::new());
        assert_eq!(call(&pool, "count", json!({})).await.map_err(|failure| failure.kind), expected);
        pool.close().await;
    }
}

#[tokio::test]
async fn results_of_twenty_megabytes_are_read() {
    assert_eq!(work("large").await.1.map(|text| text.len()), Ok(20_000_000));
}

#[tokio::test]
async fn progress_is_throttled_and_ends_with_the_latest() {
    let (host, result) = work("flood").await;
    assert_eq!(result, Ok("flooded".to_owned()));
    let progress = host.progress();
    assert!(progress.len() < 30, "{}", progress.len());
    assert_eq!(progress.last().unwrap().progress, 1000.0);
    assert!(progress.is_sorted_by(|a, b| a.progress < b.progress));
}

#[tokio::test]
async fn log_messages_are_rate_limited_and_counted() {
    let (host, result) = work("logs").await;
    assert_eq!(result, Ok("logged".to_owned()));
    let logs = host.logged();
    assert_eq!(logs.len(), 51);
    assert_eq!(logs.last().unwrap().1.data, json!("150 log messages dropped: more than 50 a second"));
    assert_eq!(logs[0].0.attempt, Some(attempt("work", json!({})).attempt));
}

#[tokio::test]
async fn progress_resets_the_idle_timeout() {
    const STEP: Duration = Duration::from_secs(60);
    let steps_file = tempfile::NamedTempFile::new().unwrap();
    let mut agent = odd_agent("slow");
    let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
    process.args.push(steps_file.path().to_str().unwrap().to_owned());
    let host = RecordingHost::new();
    let pool = pool(vec![agent, spec("silent", odd_agent("silent").transport)], &host);
    pool.connect(&"odd".into()).await.unwrap();
    let reported = || host.progress().into_iter().map(|progress| progress.progress).collect::<Vec<_>>();
    let report_steps = async |before: usize| {
        for step in 1..=6 {
            std::fs::write(steps_file.path(), vec![b'.'; step]).unwrap();
            wait_until(|| reported().len() == before + step).await;
            if step < 6 {
                let_time_pass(STEP).await;
            }
        }
    };
    let mut slow = attempt("work", json!({}));
    slow.timeout = STEP * 2;
    let (output, ()) = tokio::join!(pool.call(slow.clone(), CallContext::default()), report_steps(0));
    assert_eq!(output.unwrap().text(), "slow but steady");
    assert_eq!(reported(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    std::fs::write(steps_file.path(), "").unwrap();
    slow.deadline = Some(STEP * 5 / 2);
    let (late, message) = failure_of(tokio::select! {
        result = pool.call(slow, CallContext::default()) => result,
        () = report_steps(6) => panic!("the call outlived its deadline"),
    });
    assert_eq!(late, FailureKind::DeadlineExceeded);
    insta::assert_snapshot!("deadline_exceeded", message);

    let mut silent = attempt("work", json!({}));
    silent.agent = "silent".into();
    silent.timeout = Duration::from_millis(300);
    let (idle, message) = failure_of(pool.call(silent, CallContext::default()).await);
    assert_eq!(idle, FailureKind::IdleTimeout);
    insta::assert_snapshot!("idle_timeout", message);
    pool.close().await;
    let log = std::fs::read_to_string(host.log_directory().join("silent.log")).unwrap();
    assert!(log.contains("cancelled: the call was silent for too long"), "{log}");
}

/// Returns whether a call of a silent agent has begun.
fn has_begun(host: &RecordingHost) -> bool {
    let log = std::fs::read_to_string(host.log_directory().join("odd.log"));
    log.is_ok_and(|log| log.contains("silent from here"))
}

#[tokio::test]
async fn canceling_notifies_the_agent_and_ends_the_call() {
    let host = RecordingHost::new();
    let pool = pool(vec![odd_agent("silent")], &host);
    pool.connect(&"odd".into()).await.unwrap();
    let cancel = CancellationToken::new();
    let calling =
        pool.call(attempt("work", json!({})), CallContext { cancel: cancel.clone(), ..CallContext::default() });
    let cancelling = async {
        wait_until(|| has_begun(&host)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(calling, cancelling);
    assert_eq!(failure_of(result).0, FailureKind::Cancelled);
    pool.close().await;
    let log = std::fs::read_to_string(host.log_directory().join("odd.log")).unwrap();
    assert!(log.contains("cancelled: the run was cancelled"), "{log}");
}

#[tokio::test]
async fn legacy_elicitation_pauses_the_timeouts() {
    let host = RecordingHost::with_answer(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    let delay = Duration::from_secs(1_000);
    host.set_delay(delay);
    let pool = pool(vec![odd_agent("elicits")], &host);
    let mut request = attempt("work", json!({}));
    request.timeout = delay / 2;
    request.deadline = Some(delay / 2);
    let answering = async {
        wait_until(|| !host.elicited().is_empty()).await;
        let_time_pass(delay).await;
    };
    let (output, ()) = tokio::join!(pool.call(request.clone(), CallContext::default()), answering);
    assert_eq!(output.unwrap().text(), r#"{"action": "accept", "content": {"name": "Ada"}}"#);
    let (origin, elicitation) = host.elicited().remove(0);
    assert_eq!((origin.attempt, elicitation.message.as_str()), (Some(request.attempt), "who?"));
    assert!(matches!(elicitation.form, Form::Fields { .. }));
    pool.close().await;
}

#[tokio::test]
async fn canceling_a_call_withdraws_its_question() {
    let host = RecordingHost::new();
    host.set_delay(Duration::from_secs(1_000));
    let pool = pool(vec![odd_agent("elicits")], &host);
    pool.connect(&"odd".into()).await.unwrap();
    let cancel = CancellationToken::new();
    let calling =
        pool.call(attempt("work", json!({})), CallContext { cancel: cancel.clone(), ..CallContext::default() });
    let cancelling = async {
        wait_until(|| !host.elicited().is_empty()).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(calling, cancelling);
    assert_eq!(failure_of(result).0, FailureKind::Cancelled);
    // Closing the pool withdraws all questions, too.
    tokio::time::timeout(Duration::from_secs(60), host.withdrawn()).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn required_urls_are_visited_before_the_call_is_repeated() {
    let host = RecordingHost::with_answer(Answer::Accept { content: None });
    let pool = pool(vec![odd_agent("pages")], &host);
    assert_eq!(call(&pool, "work", json!({})).await, Ok("logged in".to_owned()));
    let page = Form::Url { url: "https://example.org/login".to_owned(), id: Some("1".to_owned()) };
    assert_eq!(host.elicited().remove(0).1.form, page);
    pool.close().await;
    let (kind, _) = failure_of(work("pages").await.1);
    assert_eq!(kind, FailureKind::Denied);
}

#[tokio::test]
async fn legacy_sampling_reaches_the_model() {
    let host = RecordingHost::new();
    host.set_reply(Ok(ChatReply {
        parts: vec![ChatPart::Text { text: "in short".to_owned() }],
        cost_usd: None,
        warning: None,
        model: "small".to_owned(),
        stop_reason: "maxTokens".to_owned(),
        usage: None,
    }));
    let pool = pool(vec![odd_agent("samples")], &host);
    let expected = json!({
        "role": "assistant", "content": {"type": "text", "text": "in short"}, "model": "small", "stopReason": "maxTokens",
    });
    let answer: Value = serde_json::from_str(&call(&pool, "work", json!({})).await.unwrap()).unwrap();
    assert_eq!(answer, expected);
    let refused = call(&pool, "work", json!({"kind": "hologram"})).await.unwrap();
    assert!(refused.contains("-32602") && refused.contains("`hologram`"), "{refused}");
    host.set_reply(Err(ChatError::Endpoint { message: "overloaded".to_owned(), status: Some(529) }));
    let failed = call(&pool, "work", json!({})).await.unwrap();
    assert!(failed.contains("-32603") && failed.contains("overloaded"), "{failed}");
    pool.close().await;
}

#[tokio::test]
async fn sampling_with_tools_works_in_both_eras() {
    for mode in ["samples-tools", "modern-samples-tools"] {
        let host = RecordingHost::new();
        let use_of_tool = ChatPart::ToolUse {
            id: "1".to_owned(),
            name: "geo.find".to_owned(),
            input: pools::object(json!({"city": "Porto"})),
        };
        let reply = ChatReply {
            parts: vec![use_of_tool.clone()],
            cost_usd: None,
            warning: None,
            model: "small".to_owned(),
            stop_reason: "toolUse".to_owned(),
            usage: None,
        };
        host.set_reply(Ok(reply));
        let pool = pool(vec![odd_agent(mode)], &host);
        let text: Value = serde_json::from_str(&call(&pool, "work", json!({})).await.unwrap()).unwrap();
        let block = json!({"type": "tool_use", "id": "1", "name": "geo.find", "input": {"city": "Porto"}});
        assert_eq!((&text["declared"], &text["first"]["content"]), (&json!({"tools": {}}), &block), "{mode}: {text}");
        assert_eq!(text["first"]["stopReason"], "toolUse");
        let requests: Vec<_> = host.sampled().into_iter().map(|(_, chat)| chat).collect();
        let result = ChatPart::ToolResult { id: "1".to_owned(), text: "41.1 N".to_owned(), is_error: false };
        let expected = [
            ChatMessage::text(ChatRole::User, "Where is it?").into(),
            ChatMessage { role: ChatRole::Assistant, parts: vec![use_of_tool] }.into(),
            ChatMessage { role: ChatRole::User, parts: vec![result] }.into(),
        ];
        assert_eq!((requests[0].messages.as_slice(), requests[1].messages.as_slice()), (&expected[..1], &expected[..]));
        assert_eq!((requests[0].tool_choice, requests[1].tool_choice), (ToolChoice::Required, ToolChoice::None));
        assert_eq!(requests[0].tools[0].name, "geo.find");
        pool.close().await;
    }
}

#[tokio::test]
async fn changed_tools_are_listed_before_the_next_call() {
    let pool = pool(vec![odd_agent("changes")], &RecordingHost::new());
    assert_eq!(call(&pool, "work", json!({})).await, Ok("changed".to_owned()));
    assert_eq!(call(&pool, "later", json!({})).await, Ok("changed".to_owned()));
    assert!(pool.connect(&"odd".into()).await.unwrap().tool("later").is_some());
    pool.close().await;
}

#[tokio::test]
async fn children_get_only_their_configured_environment() {
    let mut agent = odd_agent("environment");
    let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
    process.env.insert("GIVEN".to_owned(), "yes".to_owned());
    let pool = pool(vec![agent], &RecordingHost::new());
    let names: Vec<String> = serde_json::from_str(&call(&pool, "work", json!({})).await.unwrap()).unwrap();
    pool.close().await;
    assert!(names.contains(&"GIVEN".to_owned()) && names.contains(&"PATH".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
}

#[tokio::test]
async fn closing_ends_unresponsive_process_groups() {
    for mode in ["ignores-eof", "stubborn"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pids");
        let mut agent = odd_agent(mode);
        let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
        process.args.push(file.to_str().unwrap().to_owned());
        let pool = pool(vec![agent], &RecordingHost::new());
        pool.connect(&"odd".into()).await.unwrap();
        let pids = pids(&file);
        assert!(pids.iter().all(|pid| is_running(*pid)));
        pool.close().await;
        pools::wait_until_gone(&pids).await;
    }
}

#[tokio::test]
async fn dropping_the_pool_kills_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let mut agent = odd_agent("stubborn");
    let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
    process.args.push(file.to_str().unwrap().to_owned());
    let pool = pool(vec![agent], &RecordingHost::new());
    pool.connect(&"odd".into()).await.unwrap();
    let pids = pids(&file);
    drop(pool);
    pools::wait_until_gone(&pids).await;
}

fn pids(file: &Path) -> Vec<u32> {
    std::fs::read_to_string(file).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect()
}

#[tokio::test]
async fn modern_only_connections_refuse_legacy_servers() {
    let mut agent = odd_agent("good");
    agent.protocol = Protocol::Modern;
    let pool = pool(vec![agent], &RecordingHost::new());
    let (kind, message) = failure_of(pool.connect(&"odd".into()).await);
    assert_eq!(kind, FailureKind::AgentUnavailable);
    insta::assert_snapshot!(message.split_once("; ").unwrap().0);
}

#[tokio::test]
async fn modern_stdio_agents_get_input_in_rounds() {
    let host = RecordingHost::with_answer(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    let pool = pool(vec![odd_agent("modern")], &host);
    assert_eq!(pool.connect(&"odd".into()).await.unwrap().protocol, "2026-07-28");
    let text = call(&pool, "work", json!({})).await.unwrap();
    assert_eq!(text, r#"waited {"who": {"action": "accept", "content": {"name": "Ada"}}}"#);
    let rounds: Vec<_> = host.rounds().into_iter().map(|(number, state, _)| (number, state.unwrap())).collect();
    assert_eq!(rounds[0], (1, "asked".to_owned()));
    assert_eq!((rounds.len(), rounds[1].0), (2, 2));
    let Form::Fields { schema } = host.elicited().remove(0).1.form else { panic!("no form") };
    assert_eq!(schema["x-odd"], json!(true));
    let kinds: Vec<_> = host.checkpoints().into_iter().map(|(_, checkpoint)| checkpoint["kind"].clone()).collect();
    assert_eq!(kinds, ["round", "input_given", "round", "input_given"]);
    pool.close().await;
}

#[tokio::test]
async fn given_input_is_not_sent_again_after_a_restart() {
    let host = RecordingHost::with_answer(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    let pool = pool(vec![odd_agent("modern")], &host);
    let work = attempt("work", json!({}));
    let requests = json!({"who": {"method": "elicitation/create", "params": {
        "message": "?", "requestedSchema": {"type": "object", "properties": {}},
    }}});
    let open = json!({"kind": "round", "number": 1, "state": "asked", "requests": requests});
    let resumed = pool.call(work.clone(), CallContext { checkpoint: Some(open), ..CallContext::default() }).await;
    let text = resumed.map(|output| output.text().into_owned());
    assert_eq!(text, Ok(r#"waited {"who": {"action": "accept", "content": {"name": "Ada"}}}"#.to_owned()));
    let repeated = pool
        .call(work, CallContext { checkpoint: Some(json!({"kind": "input_given"})), ..CallContext::default() })
        .await;
    assert_eq!(repeated.unwrap_err().kind, FailureKind::Interrupted);
    pool.close().await;
}

#[tokio::test]
async fn unanswerable_rounds_fail_the_call() {
    let mut report = String::new();
    for (mode, expected) in [("modern-samples", FailureKind::ServerError), ("modern-task", FailureKind::ConnectionLost)]
    {
        let (kind, message) = failure_of(work(mode).await.1);
        assert_eq!(kind, expected, "{message}");
        report += &format!("{mode}: {message}\n");
    }
    insta::assert_snapshot!(report);
}

#[tokio::test]
async fn concurrent_legacy_calls_do_not_get_a_guessed_origin() {
    let host = RecordingHost::new();
    let pool = pool(vec![odd_agent("elicits-later")], &host);
    assert_eq!(call(&pool, "echo", json!({"text": "quiet"})).await, Ok("quiet".to_owned()));
    let first = call(&pool, "work", json!({"after": 0.2}));
    let second = call(&pool, "work", json!({"after": 0.6}));
    let results = tokio::join!(first, second);
    assert_eq!(results, (Ok("decline".to_owned()), Ok("decline".to_owned())));
    let origins: Vec<_> = host.elicited().into_iter().map(|(origin, _)| origin.attempt.is_some()).collect();
    assert_eq!(origins, [false, true]);
    pool.close().await;
}
