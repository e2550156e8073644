//! Planning with a scripted model: repairs, limits, and replies without a usable plan.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::samples::{agents, catalog, tool};
use super::*;
use crate::config::{Diagnostics, PlannerForm};
use crate::llm::{Llm, OnDelta};
use crate::model::{ChatError, ChatPart, ChatReply, ChatRequest, JsonObject, PlannerExchange, ToolInfo, Usage};
use crate::planner::planning::Remark;

/// A model that returns scripted replies in order and records the requests.
struct ScriptedPlanLlm {
    answers: Mutex<Vec<Result<ChatReply, ChatError>>>,
    requests: Mutex<Vec<ChatRequest>>,
}

#[async_trait::async_trait]
impl Llm for ScriptedPlanLlm {
    async fn chat_stream(&self, request: &ChatRequest, _: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        self.requests.lock().expect("no panic").push(request.clone());
        self.answers.lock().expect("no panic").remove(0)
    }
}

fn reply_with(text: impl ToString) -> Result<ChatReply, ChatError> {
    Ok(ChatReply {
        parts: vec![ChatPart::Text { text: text.to_string() }],
        model: "m".to_owned(),
        stop_reason: "endTurn".to_owned(),
        usage: Some(Usage { input_tokens: 10, output_tokens: 2 }),
        cost_usd: None,
        warning: None,
    })
}

fn endpoint_failure() -> ChatError {
    ChatError::Endpoint { message: "the endpoint is away".to_owned(), status: None }
}

struct PlanningTranscript {
    planning: PlanningResult,
    progress: Vec<PlanningProgress>,
    requests: Vec<ChatRequest>,
}

async fn run_planning(answers: Vec<Result<ChatReply, ChatError>>, tools: Vec<ToolInfo>) -> PlanningTranscript {
    let llm = ScriptedPlanLlm { answers: Mutex::new(answers), requests: Mutex::default() };
    let (agents, catalog) = (agents(&["box", "gone"]), catalog(tools));
    let context = PlanningContext {
        llm: &llm,
        agents: &agents,
        catalog: &catalog,
        file: "plan.yaml",
        local_time: "Monday, 2026-11-30",
    };
    let mut progress = Vec::new();
    let planning = plan(&Goal { text: "Find it", ..Goal::default() }, &context, &mut |step| progress.push(step)).await;
    PlanningTranscript { planning, progress, requests: llm.requests.into_inner().expect("no panic") }
}

fn find_tool() -> ToolInfo {
    let query = json!({"type": "string", "minLength": 2});
    tool("find", json!({"properties": {"q": query}, "required": ["q"], "additionalProperties": false}))
}

fn plan_calling(tool: &str, query: &str) -> Value {
    json!({"tasks": [{"title": "It", "tool": tool, "args": {"q": query}}]})
}

/// Returns the plan of a successful result.
fn planned(result: Result<PlanningOutcome, PlanError>) -> GeneratedPlan {
    match result {
        Ok(PlanningOutcome::Plan(plan)) => *plan,
        other => panic!("expected a plan: {other:?}"),
    }
}

/// Returns the diagnostics of the rejected plan, from a transcript that ends in an error.
fn diagnostics(transcript: &PlanningTranscript) -> &Diagnostics {
    match &transcript.planning.result {
        Err(PlanError::Invalid(rejected) | PlanError::Model { rejected: Some(rejected), .. }) => &rejected.mistakes,
        other => panic!("expected a rejected plan: {other:?}"),
    }
}

/// Returns the codes of the diagnostics of a reply. The endpoint fails at the repair.
async fn rejection_codes(answer: Result<ChatReply, ChatError>, tools: Vec<ToolInfo>) -> Vec<String> {
    let transcript = run_planning(vec![answer, Err(endpoint_failure())], tools).await;
    diagnostics(&transcript).list().iter().map(|diagnostic| diagnostic.code.clone()).collect()
}

#[tokio::test]
async fn valid_plan_needs_one_request() {
    let transcript = run_planning(vec![reply_with(plan_calling("box.find", "it"))], vec![find_tool()]).await;
    let planned = planned(transcript.planning.result);
    assert_eq!(planned.reply, plan_calling("box.find", "it").to_string());
    assert_eq!(planned.validated.plan.tasks[0].routes()[0].tool.as_ref(), "find");
    assert_eq!(transcript.planning.requests, 1);
    let answered = PlannerExchange {
        model: "m".to_owned(),
        stop_reason: "endTurn".to_owned(),
        usage: Some(Usage { input_tokens: 10, output_tokens: 2 }),
        estimated_tokens: transcript.requests[0].estimate_tokens(),
        cost_usd: None,
    };
    assert_eq!(transcript.planning.exchanges, [answered]);
    assert_eq!(transcript.progress, [PlanningProgress::Started { shown: 1, tools: 1 }]);
    let request = &transcript.requests[0];
    let output = request.output.as_ref().expect("a schema");
    assert_eq!((request.messages.len(), output.name.as_str(), &output.schema["type"]), (1, "plan", &json!("object")));
    insta::assert_snapshot!("system", request.system.as_deref().expect("rules"));
    insta::assert_snapshot!("question", request.messages[0].text_content());
}

#[tokio::test]
async fn repair_shows_only_the_last_plan_with_all_errors() {
    let answers =
        vec![reply_with("no"), reply_with(plan_calling("box.fnd", "it")), reply_with(plan_calling("box.find", "it"))];
    let transcript = run_planning(answers, vec![find_tool()]).await;
    assert!(transcript.planning.result.is_ok());
    assert_eq!((transcript.planning.requests, transcript.planning.exchanges.len()), (3, 3));
    let repairing = |repair| PlanningProgress::Repairing { mistakes: 1, repair, max: 2 };
    assert_eq!(transcript.progress, [PlanningProgress::Started { shown: 1, tools: 1 }, repairing(1), repairing(2)]);
    let messages = |request: usize| {
        transcript.requests[request].messages.iter().map(|message| message.text_content()).collect::<Vec<_>>()
    };
    assert_eq!(messages(1)[1], "no");
    assert_eq!((messages(2).len(), &messages(2)[1]), (3, &plan_calling("box.fnd", "it").to_string()));
    insta::assert_snapshot!("repair", messages(2)[2]);
}

#[tokio::test]
async fn validates_arguments_by_the_original_schema() {
    let transcript =
        run_planning(vec![reply_with(plan_calling("box.find", "x")), Err(endpoint_failure())], vec![find_tool()]).await;
    let Err(PlanError::Model { source, rejected: Some(rejected) }) = transcript.planning.result else {
        panic!("no error")
    };
    let codes: Vec<_> = rejected.mistakes.list().iter().map(|diagnostic| diagnostic.code.as_str()).collect();
    assert_eq!((source, codes), (endpoint_failure(), vec!["plan::bad_argument"]));
    assert_eq!(
        (transcript.planning.requests, transcript.planning.exchanges.len()),
        (2, 1),
        "a failed exchange has no reply"
    );
    let plan = config::read_data("plan.yaml", &rejected.text).expect("YAML");
    assert_eq!(plan.pointer("/tasks/0/with"), Some(&json!({"q": "x"})));
}

#[tokio::test]
async fn unavailable_agents_are_not_planned() {
    for (tool, code) in [("missing.find", "plan::unknown_agent"), ("gone.find", "plan::unreachable_agent")] {
        assert_eq!(rejection_codes(reply_with(plan_calling(tool, "it")), vec![find_tool()]).await, [code], "{tool}");
    }
}

#[tokio::test]
async fn impossible_reference_is_repaired() {
    let output = json!({"type": "object", "properties": {"title": {"type": "string"}}});
    let tools = vec![ToolInfo { output_schema: output.as_object().cloned(), ..find_tool() }];
    let bound = |pointer: &str| {
        let mut answer = plan_calling("box.find", "it");
        let second = json!({"title": "Again", "tool": "box.find", "args": {"q": pointer}});
        answer["tasks"].as_array_mut().expect("a list").push(second);
        reply_with(answer)
    };
    assert_eq!(rejection_codes(bound("$1.name"), tools.clone()).await, ["plan::unknown_output"]);
    assert!(run_planning(vec![bound("$1.name"), bound("$1.title")], tools).await.planning.result.is_ok());
}

#[tokio::test]
async fn model_cannot_set_keys_reserved_for_people() {
    let mut answer = plan_calling("box.find", "it");
    answer["tasks"][0]["effect"] = json!("read_only");
    assert_eq!(rejection_codes(reply_with(answer), vec![find_tool()]).await, ["plan::unknown_key"]);
}

#[tokio::test]
async fn stops_after_two_repairs() {
    let bad = |query: &str| reply_with(plan_calling("box.fnd", query));
    let transcript = run_planning(vec![bad("aa"), bad("bb"), bad("cc"), bad("dd")], vec![find_tool()]).await;
    let Err(PlanError::Invalid(rejected)) = transcript.planning.result else { panic!("no error") };
    assert_eq!((transcript.planning.requests, transcript.requests.len(), rejected.mistakes.errors()), (3, 3, 1));
    // A repeated reply is not repaired again.
    let transcript = run_planning(vec![bad("aa"), bad("aa"), bad("cc")], vec![find_tool()]).await;
    assert_eq!(transcript.planning.requests, 2);
}

/// Returns a reply whose tokens were all used for reasoning.
fn exhausted_reply() -> Result<ChatReply, ChatError> {
    let parts = vec![ChatPart::Reasoning { model: "m".to_owned(), text: "Let me see.".to_owned() }];
    reply_stopped_by("", "maxTokens").map(|reply| ChatReply { parts, ..reply })
}

/// Returns a reply that calls a tool.
fn tool_call_reply() -> Result<ChatReply, ChatError> {
    let call = ChatPart::ToolUse { id: "c".to_owned(), name: "box.find".to_owned(), input: JsonObject::new() };
    reply_with("").map(|reply| ChatReply { parts: vec![call], stop_reason: "toolUse".to_owned(), ..reply })
}

/// Returns a reply that stopped for this reason.
fn reply_stopped_by(text: impl ToString, reason: &str) -> Result<ChatReply, ChatError> {
    reply_with(text).map(|reply| ChatReply { stop_reason: reason.to_owned(), ..reply })
}

fn limits(transcript: &PlanningTranscript) -> Vec<u32> {
    transcript.requests.iter().map(|request| request.max_tokens).collect()
}

#[tokio::test]
async fn truncated_answer_raises_the_limit() {
    let truncated = || reply_stopped_by(r#"{"tasks": "#, "maxTokens");
    assert_eq!(rejection_codes(truncated(), vec![find_tool()]).await, ["plan::cut_off"]);
    let transcript = run_planning(vec![truncated(), reply_with(""), Err(endpoint_failure())], vec![find_tool()]).await;
    assert_eq!(transcript.requests[2].messages[1].text_content(), "(nothing)");
    assert_eq!(limits(&transcript), [8_192, 16_384, 16_384]);
}

#[tokio::test]
async fn exhausted_reasoning_names_the_limit_key() {
    let answers = vec![exhausted_reply(), exhausted_reply(), exhausted_reply()];
    let transcript = run_planning(answers, vec![find_tool()]).await;
    assert_eq!(limits(&transcript), [8_192, 16_384, 32_768]);
    insta::assert_snapshot!("exhausted_reasoning", diagnostics(&transcript));
}

#[tokio::test]
async fn plan_in_a_truncated_answer_is_rejected() {
    // The inner object is complete, but the plan around it is not.
    let inner = r#"{"tasks": [{"title": "x", "args": {"tasks": [], "answer": "y"}"#;
    let plan = plan_calling("box.find", "it").to_string();
    let transcript = run_planning(
        vec![reply_stopped_by(inner, "maxTokens"), reply_stopped_by(&plan, "maxTokens"), reply_with(plan)],
        vec![find_tool()],
    )
    .await;
    assert!(transcript.planning.result.is_ok());
    assert_eq!(limits(&transcript), [8_192, 16_384, 32_768]);
}

#[tokio::test]
async fn rejected_higher_limit_is_reset() {
    let rejection = || Err(ChatError::Endpoint { message: "max_tokens is too large".to_owned(), status: Some(400) });
    let answers = vec![reply_stopped_by("{", "maxTokens"), rejection(), reply_with(plan_calling("box.find", "it"))];
    let transcript = run_planning(answers, vec![find_tool()]).await;
    assert!(transcript.planning.result.is_ok());
    assert_eq!(limits(&transcript), [8_192, 16_384, 8_192]);
    let transcript = run_planning(vec![rejection()], vec![find_tool()]).await;
    assert!(matches!(transcript.planning.result, Err(PlanError::Model { .. })));
}

#[tokio::test]
async fn withheld_answer_is_reported() {
    let plan = plan_calling("box.find", "it").to_string();
    assert_eq!(rejection_codes(reply_stopped_by(&plan, "odd"), vec![find_tool()]).await, ["plan::withheld"]);
    // A refusal would be repeated.
    for reason in ["content_filter", "refusal"] {
        let transcript = run_planning(vec![reply_stopped_by(&plan, reason)], vec![find_tool()]).await;
        assert!(matches!(transcript.planning.result, Err(PlanError::Refused { .. })), "{reason}");
        assert_eq!(transcript.planning.requests, 1);
    }
}

#[tokio::test]
async fn problems_of_unusable_answers() {
    let plan = plan_calling("box.find", "it").to_string();
    let mut report = String::new();
    for answer in [
        reply_with("no"),
        reply_with("<tool_call>\n{\"name\": \"find\"}\n</tool_call>"),
        tool_call_reply(),
        reply_stopped_by(&plan, "maxTokens"),
        exhausted_reply(),
        reply_stopped_by(&plan, "odd"),
    ] {
        let transcript = run_planning(vec![answer, Err(endpoint_failure())], vec![find_tool()]).await;
        report += &format!("{}\n", diagnostics(&transcript));
    }
    insta::assert_snapshot!(report);
}

#[tokio::test]
async fn tool_call_is_not_a_plan() {
    assert_eq!(rejection_codes(tool_call_reply(), vec![find_tool()]).await, ["plan::no_plan"]);
    let answers = vec![tool_call_reply(), reply_with(plan_calling("box.find", "it"))];
    assert!(run_planning(answers, vec![find_tool()]).await.planning.result.is_ok());
}

#[tokio::test]
async fn conclusions_need_one_request() {
    let conclude = async |answer: Value| {
        let transcript = run_planning(vec![reply_with(answer)], vec![find_tool()]).await;
        assert_eq!((transcript.planning.requests, transcript.planning.exchanges.len()), (1, 1));
        transcript.planning.result
    };
    let answered = conclude(json!({"tasks": [], "answer": " The answer is 4. "})).await;
    assert!(matches!(answered, Ok(PlanningOutcome::Answer(answer)) if answer == "The answer is 4."));
    let asked = conclude(json!({"tasks": [], "question": {"text": "Which one?", "choices": ["a", "b"]}})).await;
    let Ok(PlanningOutcome::Question(question)) = asked else { panic!("no question") };
    assert_eq!((question.text.as_str(), question.choices.len()), ("Which one?", 2));
    for tasks in [json!([]), json!(null)] {
        let impossible = conclude(json!({"tasks": tasks, "missing": "No tool sends e-mail."})).await;
        assert!(matches!(impossible, Err(PlanError::Impossible { missing, .. }) if missing == "No tool sends e-mail."));
    }
    let empty = json!({"tasks": [], "missing": null});
    let transcript =
        run_planning(vec![reply_with(empty), reply_with(plan_calling("box.find", "it"))], vec![find_tool()]).await;
    assert!(transcript.planning.result.is_ok());
}

#[tokio::test]
async fn missing_part_is_a_key_of_the_plan() {
    let mut answer = plan_calling("box.find", "it");
    answer["missing"] = json!("It is not sent.");
    let transcript = run_planning(vec![reply_with(answer)], vec![find_tool()]).await;
    let plan = planned(transcript.planning.result);
    assert_eq!(plan.validated.plan.missing.as_deref(), Some("It is not sent."));
    assert!(plan.text.contains("missing: It is not sent."), "{}", plan.text);
}

#[tokio::test]
async fn remarks_come_after_the_goal() {
    let llm = ScriptedPlanLlm { answers: Mutex::new(vec![Err(endpoint_failure())]), requests: Mutex::default() };
    let (agents, catalog) = (agents(&["box", "gone"]), catalog(vec![find_tool()]));
    let context = PlanningContext { llm: &llm, agents: &agents, catalog: &catalog, file: "plan.yaml", local_time: "" };
    let remarks = [
        Remark::Answer { question: "Which one?".to_owned(), answer: "The red one".to_owned() },
        Remark::Wish { reply: plan_calling("box.find", "it").to_string(), wish: "Look twice".to_owned() },
    ];
    let goal = Goal { text: "Find it", remarks: &remarks, ..Goal::default() };
    plan(&goal, &context, &mut |_| {}).await.result.expect_err("no endpoint");
    let requests = llm.requests.into_inner().expect("no panic");
    let prompt = requests[0].messages[0].text_content();
    insta::assert_snapshot!("remarks", &prompt[prompt.find("Goal:").expect("a goal")..]);
}

#[tokio::test]
async fn too_many_tasks_are_repaired() {
    let many = |number: usize| {
        let mut answer = plan_calling("box.find", "it");
        let task = answer["tasks"][0].clone();
        answer["tasks"] = vec![task; number].into();
        reply_with(answer)
    };
    assert_eq!(rejection_codes(many(17), vec![find_tool()]).await, ["plan::too_many_tasks"]);
    let transcript = run_planning(vec![many(17), many(16)], vec![find_tool()]).await;
    // The synthesis is one more task.
    assert_eq!(planned(transcript.planning.result).validated.plan.tasks.len(), 17);
}

#[tokio::test]
async fn literal_openings_stay_literal() {
    let transcript =
        run_planning(vec![reply_with(plan_calling("box.find", "${{ github.sha }}"))], vec![find_tool()]).await;
    let plan = planned(transcript.planning.result);
    assert!(plan.text.contains("$${{ github.sha }}"), "{}", plan.text);
}

#[tokio::test]
async fn no_request_without_tools() {
    let transcript = run_planning(Vec::new(), Vec::new()).await;
    assert!(
        matches!(transcript.planning, PlanningResult { result: Err(PlanError::NoTools), requests: 0, ref exchanges } if exchanges.is_empty())
    );
}

/// A weak model: it streams each reply, and then repeats the end of it forever.
struct EndlessLlm {
    replies: Mutex<Vec<(String, String)>>,
    requests: Mutex<Vec<ChatRequest>>,
}

#[async_trait::async_trait]
impl Llm for EndlessLlm {
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        self.requests.lock().expect("no panic").push(request.clone());
        let (start, repeated) = self.replies.lock().expect("no panic").remove(0);
        on_delta(&start);
        while !repeated.is_empty() {
            on_delta(&repeated);
            tokio::task::yield_now().await;
        }
        reply_with(start)
    }
}

/// Plans with an endless model whose endpoint enforces bounds.
async fn run_endless_planning(replies: &[(&str, &str)], form: PlannerForm) -> PlanningTranscript {
    let replies = replies.iter().map(|(start, repeated)| ((*start).to_owned(), (*repeated).to_owned())).collect();
    let llm = EndlessLlm { replies: Mutex::new(replies), requests: Mutex::default() };
    let (mut agents, catalog) = (agents(&["box", "gone"]), catalog(vec![find_tool()]));
    agents.models[0].dialect.schema_bounds = true;
    agents.planner.form = form;
    let context = PlanningContext { llm: &llm, agents: &agents, catalog: &catalog, file: "plan.yaml", local_time: "" };
    let mut progress = Vec::new();
    let planning = plan(&Goal { text: "Find it", ..Goal::default() }, &context, &mut |step| progress.push(step)).await;
    PlanningTranscript { planning, progress, requests: llm.requests.into_inner().expect("no panic") }
}

const FIND_IT: &str = r#"{"title": "It", "tool": "box.find", "args": {"q": "it"}}"#;

fn it_was_written(number: usize) -> PlanningProgress {
    PlanningProgress::TaskWritten { number, title: "It".to_owned(), tool: "box.find".to_owned() }
}

#[tokio::test]
async fn endless_answers_end_and_are_replaced_by_the_compact_form() {
    let again = format!(", {FIND_IT}");
    let start = format!("{{\"tasks\": [{FIND_IT}");
    let transcript =
        run_endless_planning(&[("{\"tasks\": [{\"title\": \"", "x/y/"), (&start, &again)], PlannerForm::Auto).await;
    let planned = planned(transcript.planning.result);
    // The synthesis is one more task.
    assert_eq!(planned.validated.plan.tasks.len(), 2);
    let expected = [
        PlanningProgress::Started { shown: 1, tools: 1 },
        PlanningProgress::Simplified,
        it_was_written(1),
        it_was_written(2),
    ];
    assert_eq!(transcript.progress, expected);
    let exchanges = &transcript.planning.exchanges;
    let reasons: Vec<&str> = exchanges.iter().map(|exchange| exchange.stop_reason.as_str()).collect();
    assert_eq!((reasons, exchanges[0].model.as_str()), (vec!["repetition"; 2], "m"));
    assert!(exchanges.iter().all(|exchange| exchange.usage.is_some_and(|usage| usage.output_tokens > 0)));
    let compact = &transcript.requests[1];
    assert_eq!((compact.max_tokens, compact.messages.len()), (2_048, 1));
    insta::assert_snapshot!("compact_system", compact.system.as_deref().expect("rules"));
    insta::assert_snapshot!("compact_question", compact.messages[0].text_content());
}

#[tokio::test]
async fn full_form_is_never_simplified() {
    let again = format!(", {FIND_IT}");
    let start = format!("{{\"tasks\": [{FIND_IT}");
    let endless = (&*start, &*again);
    let transcript = run_endless_planning(&[endless, endless, endless], PlannerForm::Full).await;
    let codes: Vec<_> = diagnostics(&transcript).list().iter().map(|found| found.code.clone()).collect();
    assert_eq!((codes, transcript.planning.requests), (vec!["plan::cut_off".to_owned()], 2));
}

#[tokio::test]
async fn compact_form_is_used_at_once_if_it_is_configured() {
    let twice = format!("{{\"tasks\": [{FIND_IT}, {FIND_IT}]}}");
    let transcript = run_endless_planning(&[(&twice, "")], PlannerForm::Compact).await;
    assert_eq!(planned(transcript.planning.result).validated.plan.tasks.len(), 2);
    let nothing = r#"{"tasks": [], "missing": "No tool sends e-mail."}"#;
    let transcript = run_endless_planning(&[(nothing, "")], PlannerForm::Compact).await;
    assert!(matches!(transcript.planning.result, Err(PlanError::Impossible { .. })));
    assert!(transcript.requests[0].system.as_ref().is_some_and(|system| system.contains("Call Ada")));
}

#[tokio::test]
async fn saved_plans_of_similar_goals_are_examples() {
    let llm = ScriptedPlanLlm {
        answers: Mutex::new(vec![reply_with(plan_calling("box.find", "it"))]),
        requests: Mutex::default(),
    };
    let (agents, catalog) = (agents(&["box", "gone"]), catalog(vec![find_tool()]));
    let context = PlanningContext { llm: &llm, agents: &agents, catalog: &catalog, file: "plan.yaml", local_time: "" };
    let example = |name: &str, goal: &str, tool: &str| PlanExample {
        name: name.to_owned(),
        goal: goal.to_owned(),
        text: format!("name: x\ntasks:\n- {{ id: a, agent: box, tool: {tool}, with: {{ q: red book }} }}\n"),
    };
    let examples = [
        example("books", "Find the red\nbook of Ada", "find"),
        example("gone", "Find the red book of Bob", "search"),
        example("other", "Send a message", "find"),
    ];
    let goal = Goal { text: "Find a blue book of Ada", examples: &examples, ..Goal::default() };
    let mut progress = Vec::new();
    plan(&goal, &context, &mut |step| progress.push(step)).await.result.expect("a plan");
    assert_eq!(progress[0], PlanningProgress::Recalled { plans: vec!["books".to_owned()] });
    let requests = llm.requests.into_inner().expect("no panic");
    let prompt = requests[0].messages[0].text_content();
    let line = "A plan that worked for a similar goal: Find the red book of Ada\n\
        {\"tasks\":[{\"title\":\"a\",\"tool\":\"box.find\",\"args\":{\"q\":\"red book\"}}]}\n";
    assert!(prompt.contains(line), "{prompt}");
}
