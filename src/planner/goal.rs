//! Asks a model for a plan and requests a bounded number of repairs. Each repair request lists all diagnostics. A plan
//! that fails validation is never returned as valid, and never changed so that it passes.

use super::{
    bindings,
    plan_draft::{self, PlanDraft},
    prompt,
    repair_loop::{AnswerValidator, PlannerLog, PlanningObserver, UNREACHABLE_AGENT, plan_with_repairs},
    schema,
    token_limit::TokenLimit,
    tool_selection::{self, ToolOffer},
};
use crate::{
    config::{self, AgentCatalog, AgentsFile, Diagnostics, ValidatedPlan},
    llm::Llm,
    model::{ChatError, ChatMessage, ChatRequest, ChatRole, JsonObject, PlannerExchange, ReplySchema},
};

/// A goal to plan for.
#[derive(Debug, Clone, Copy)]
pub struct Goal<'a> {
    /// The goal in the user's words.
    pub text: &'a str,
    /// The maximum number of replans in a run of the plan, each after a task has failed.
    pub max_replans: u32,
}

/// The model, the agents, and the file name that a plan is generated with.
#[derive(Clone, Copy)]
pub struct PlanningContext<'a> {
    /// The planning model.
    pub llm: &'a dyn Llm,
    /// The configured agents.
    pub agents: &'a AgentsFile,
    /// The tools of each agent, or the reason why it did not answer.
    pub catalogue: &'a AgentCatalog,
    /// The name of the plan file in diagnostics.
    pub file: &'a str,
}

/// The outcome of planning.
#[derive(Debug)]
pub struct PlanningResult {
    /// A valid plan, or the reason why there is none.
    pub result: Result<GeneratedPlan, PlanError>,
    /// The number of requests to the model.
    pub requests: u32,
    /// The completed exchanges, in order.
    pub exchanges: Vec<PlannerExchange>,
}

/// A plan for a goal. It is valid by the same rules as a plan that a person wrote.
#[derive(Debug)]
pub struct GeneratedPlan {
    /// The text of the plan file, for people to edit.
    pub text: String,
    /// The parsed plan and its warnings.
    pub validated: ValidatedPlan,
}

/// A plan that is not valid.
#[derive(Debug, Clone)]
pub struct RejectedPlan {
    /// The text of the plan file.
    pub text: String,
    /// All diagnostics of the plan.
    pub mistakes: Diagnostics,
}

/// An error of planning.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No agent offers a tool.
    #[error("no agent offers a tool that a plan could call; `kapell agents test` says what each of them answers")]
    NoTools,
    /// The model planned no tasks. It gave a reason, or the answer itself.
    #[error("the model planned no tasks, and says: {analysis}")]
    NoTasks {
        /// The model's explanation.
        analysis: String,
    },
    /// The request to the model failed.
    #[error("the model gave no plan")]
    Model {
        /// The error of the request.
        #[source]
        source: ChatError,
        /// The rejected plan, if the request asked for a repair.
        rejected: Option<Box<RejectedPlan>>,
    },
    /// The model's last plan is not valid either.
    #[error("the model gave no plan that is valid")]
    Invalid(Box<RejectedPlan>),
}

/// A step of planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanningProgress {
    /// The model is asked for a plan.
    Started {
        /// The number of tools in the request.
        shown: usize,
        /// The number of tools of all agents.
        tools: usize,
    },
    /// The plan is not valid, and the model is asked for a repair.
    Repairing {
        /// The number of diagnostics of the plan.
        mistakes: usize,
        /// The number of this repair, from 1.
        repair: u32,
        /// The maximum number of repairs.
        max: u32,
    },
    /// The model's endpoint replied with a warning.
    Warned(String),
}

/// Plans a goal: one exchange, and at most two more for repairs. Calls `on_progress` before each exchange.
pub async fn plan(
    goal: &Goal<'_>,
    context: &PlanningContext<'_>,
    on_progress: &mut (dyn FnMut(PlanningProgress) + Send),
) -> PlanningResult {
    let mut spent = PlannerLog::default();
    let result = generate_plan(goal, context, PlanningObserver { on_progress, log: &mut spent }).await;
    PlanningResult { result, requests: spent.requests, exchanges: spent.exchanges }
}

async fn generate_plan(
    goal: &Goal<'_>,
    context: &PlanningContext<'_>,
    watch: PlanningObserver<'_>,
) -> Result<GeneratedPlan, PlanError> {
    let all = tool_selection::tool_offers(context.catalogue);
    if all.is_empty() {
        return Err(PlanError::NoTools);
    }
    let tools = all.len();
    let offers = tool_selection::select(all, goal.text);
    (watch.on_progress)(PlanningProgress::Started { shown: offers.len(), tools });
    let max_tasks = context.agents.planner.max_tasks;
    let question = ChatMessage::text(ChatRole::User, prompt::goal_prompt(goal.text, &offers, tools - offers.len()));
    let request = ChatRequest {
        model: context.agents.planner.model.clone(),
        system: Some(prompt::system_prompt(max_tasks)),
        messages: vec![question.into()],
        max_tokens: TokenLimit::from_agents(context.agents).current(),
        temperature: context.agents.planner.temperature,
        reasoning_effort: context.agents.planner.reasoning_effort.clone(),
        output: Some(ReplySchema { name: "plan".to_owned(), schema: schema::plan_schema(&offers, max_tasks) }),
        ..ChatRequest::default()
    };
    plan_with_repairs(context.llm, request, &PlanValidator { goal, context, offers: &offers }, watch).await
}

/// The validator of replies to a goal.
struct PlanValidator<'a> {
    goal: &'a Goal<'a>,
    context: &'a PlanningContext<'a>,
    offers: &'a [ToolOffer<'a>],
}

impl AnswerValidator for PlanValidator<'_> {
    type Accepted = GeneratedPlan;

    fn unreadable_draft(&self, answer: &str) -> PlanDraft {
        plan_draft::write_unreadable(self.goal, answer)
    }

    fn file_name(&self) -> &str {
        self.context.file
    }

    fn agents(&self) -> &AgentsFile {
        self.context.agents
    }

    fn allows_no_tasks(&self) -> bool {
        false
    }

    fn draft(&self, answer: &JsonObject) -> PlanDraft {
        plan_draft::write_plan(self.goal, answer, self.offers)
    }

    fn validate(&self, answer: &JsonObject) -> Result<GeneratedPlan, (PlanDraft, Diagnostics)> {
        let draft = self.draft(answer);
        let astray = bindings::invalid_bindings(answer, self.offers);
        let PlanningContext { agents, catalogue, file, .. } = *self.context;
        let mistakes = match config::load_plan(file, &draft.text, agents, Some(catalogue)) {
            // A person may plan for an agent that is currently unreachable, but a model has not seen its tools.
            Ok(lowered) if lowered.warnings.list().iter().any(|found| found.code == UNREACHABLE_AGENT) => {
                lowered.warnings
            }
            Ok(lowered) if draft.unknown_keys.is_empty() && astray.is_empty() => {
                return Ok(GeneratedPlan { text: draft.text, validated: lowered });
            }
            Ok(lowered) => lowered.warnings,
            Err(mistakes) => mistakes,
        };
        Err((draft, bindings::add_to_diagnostics(astray, mistakes)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::{
        super::samples::{agents, catalog, tool},
        *,
    };
    use crate::{
        llm::OnDelta,
        model::{ChatPart, ChatReply, ToolInfo, Usage},
    };

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
        let (agents, catalogue) = (agents(&["box", "gone"]), catalog(tools));
        let context = PlanningContext { llm: &llm, agents: &agents, catalogue: &catalogue, file: "plan.yaml" };
        let mut progress = Vec::new();
        let planning = plan(&Goal { text: "Find it", max_replans: 0 }, &context, &mut |step| progress.push(step)).await;
        PlanningTranscript { planning, progress, requests: llm.requests.into_inner().expect("no panic") }
    }

    fn find_tool() -> ToolInfo {
        let query = json!({"type": "string", "minLength": 2});
        tool("find", json!({"properties": {"q": query}, "required": ["q"], "additionalProperties": false}))
    }

    fn plan_calling(tool: &str, query: &str) -> Value {
        let call = json!({"tool": tool, "args": {"q": query}});
        json!({"analysis": "", "tasks": [{"id": "t1", "title": "It", "depends_on": [], "call": call, "bindings": []}]})
    }

    /// Returns the repair prompt of the last exchange.
    fn last_repair(told: &PlanningTranscript) -> String {
        told.requests.last().and_then(|request| request.messages.last()).expect("a message").text_content()
    }

    #[tokio::test]
    async fn valid_plan_needs_one_request() {
        let told = run_planning(vec![reply_with(plan_calling("box.find", "it"))], vec![find_tool()]).await;
        let planned = told.planning.result.expect("a plan");
        assert_eq!(planned.validated.plan.tasks[0].routes()[0].tool.as_ref(), "find");
        assert_eq!(told.planning.requests, 1);
        let answered = PlannerExchange {
            model: "m".to_owned(),
            stop_reason: "endTurn".to_owned(),
            usage: Some(Usage { input_tokens: 10, output_tokens: 2 }),
            most_tokens: told.requests[0].estimate_tokens(),
            cost_usd: None,
        };
        assert_eq!(told.planning.exchanges, [answered]);
        assert_eq!(told.progress, [PlanningProgress::Started { shown: 1, tools: 1 }]);
        let request = &told.requests[0];
        let form = request.output.as_ref().expect("a form");
        assert_eq!((request.messages.len(), form.name.as_str(), &form.schema["type"]), (1, "plan", &json!("object")));
    }

    #[tokio::test]
    async fn repair_shows_only_the_last_plan_with_all_errors() {
        let answers = vec![
            reply_with("no"),
            reply_with(plan_calling("box.fnd", "it")),
            reply_with(plan_calling("box.find", "it")),
        ];
        let told = run_planning(answers, vec![find_tool()]).await;
        assert!(told.planning.result.is_ok());
        assert_eq!((told.planning.requests, told.planning.exchanges.len()), (3, 3));
        let repairing = |repair| PlanningProgress::Repairing { mistakes: 1, repair, max: 2 };
        assert_eq!(told.progress, [PlanningProgress::Started { shown: 1, tools: 1 }, repairing(1), repairing(2)]);
        let messages =
            |turn: usize| told.requests[turn].messages.iter().map(|message| message.text_content()).collect::<Vec<_>>();
        assert_eq!(messages(1)[1], "no");
        assert_eq!((messages(2).len(), &messages(2)[1]), (3, &plan_calling("box.fnd", "it").to_string()));
        assert!(messages(2)[2].contains("in task `t1`: the agent `box` has no tool `fnd` (did you mean `find`?)"));
    }

    #[tokio::test]
    async fn validates_arguments_by_the_original_schema() {
        let told =
            run_planning(vec![reply_with(plan_calling("box.find", "x")), Err(endpoint_failure())], vec![find_tool()])
                .await;
        assert!(last_repair(&told).contains("the argument `q` of `find` cannot be this"), "{}", last_repair(&told));
        let Err(PlanError::Model { source, rejected: Some(rejected) }) = told.planning.result else {
            panic!("no error")
        };
        assert_eq!((source, rejected.mistakes.errors()), (endpoint_failure(), 1));
        assert_eq!((told.planning.requests, told.planning.exchanges.len()), (2, 1), "a turn that failed has no answer");
        assert!(rejected.text.contains("q: x"), "{}", rejected.text);
    }

    #[tokio::test]
    async fn unavailable_agents_are_not_planned() {
        let answers = vec![
            reply_with(plan_calling("nobody.find", "it")),
            reply_with(plan_calling("gone.find", "it")),
            Err(endpoint_failure()),
        ];
        let told = run_planning(answers, vec![find_tool()]).await;
        assert!(last_repair(&told).contains("the agent `gone` could not be asked for its tools"));
        let before = told.requests[1].messages[2].text_content();
        assert!(before.contains("the agent `nobody` is not in the agents file"), "{before}");
    }

    #[tokio::test]
    async fn invalid_binding_is_repaired() {
        let output = json!({"type": "object", "properties": {"title": {"type": "string"}}});
        let tools = vec![ToolInfo { output_schema: output.as_object().cloned(), ..find_tool() }];
        let bound = |pointer: &str| {
            let mut answer = plan_calling("box.find", "it");
            let call = json!({"tool": "box.find", "args": {"q": null}});
            let binding = json!({"arg": "q", "task": "t1", "output": pointer});
            let second =
                json!({"id": "t2", "title": "Again", "depends_on": ["t1"], "call": call, "bindings": [binding]});
            answer["tasks"].as_array_mut().expect("a list").push(second);
            reply_with(answer)
        };
        let told = run_planning(vec![bound("/name"), bound("/title")], tools).await;
        assert!(told.planning.result.is_ok());
        let expected = "- in task `t2`: the argument `q` is bound to `/name` of the result of `t1`, where nothing can be: \
                        the result has `title`";
        assert!(last_repair(&told).contains(expected), "{}", last_repair(&told));
    }

    #[tokio::test]
    async fn model_cannot_set_keys_reserved_for_people() {
        let mut answer = plan_calling("box.find", "it");
        answer["tasks"][0]["effect"] = json!("read_only");
        let told = run_planning(vec![reply_with(answer), Err(endpoint_failure())], vec![find_tool()]).await;
        let expected = "- the answer has `effect` of task `t1`, which its form does not have";
        assert!(last_repair(&told).contains(expected), "{}", last_repair(&told));
    }

    #[tokio::test]
    async fn stops_after_two_repairs() {
        let bad = || reply_with(plan_calling("box.fnd", "it"));
        let told = run_planning(vec![bad(), bad(), bad(), bad()], vec![find_tool()]).await;
        let Err(PlanError::Invalid(rejected)) = told.planning.result else { panic!("no error") };
        assert_eq!((told.planning.requests, told.requests.len(), rejected.mistakes.errors()), (3, 3, 1));
    }

    /// Returns a reply that stopped for this reason.
    fn reply_stopped_by(text: impl ToString, reason: &str) -> Result<ChatReply, ChatError> {
        reply_with(text).map(|reply| ChatReply { stop_reason: reason.to_owned(), ..reply })
    }

    fn limits(told: &PlanningTranscript) -> Vec<u32> {
        told.requests.iter().map(|request| request.max_tokens).collect()
    }

    #[tokio::test]
    async fn truncated_answer_raises_the_limit() {
        let cut_off = reply_stopped_by(r#"{"analysis": "#, "maxTokens");
        let told = run_planning(vec![cut_off, reply_with(""), Err(endpoint_failure())], vec![find_tool()]).await;
        let repair = told.requests[1].messages[2].text_content();
        assert!(
            repair.contains("cut off at its limit of 8192 tokens (there is room for 16384 tokens now)"),
            "{repair}"
        );
        assert_eq!(told.requests[2].messages[1].text_content(), "(nothing)");
        assert_eq!(limits(&told), [8_192, 16_384, 16_384]);
    }

    #[tokio::test]
    async fn exhausted_reasoning_names_the_limit_key() {
        let reasoned = ChatPart::Reasoning { model: "m".to_owned(), text: "Let me see.".to_owned() };
        let cut_off = || {
            let parts = vec![reasoned.clone()];
            reply_stopped_by("", "maxTokens").map(|reply| ChatReply { parts, ..reply })
        };
        let told = run_planning(vec![cut_off(), cut_off(), cut_off()], vec![find_tool()]).await;
        assert_eq!(limits(&told), [8_192, 16_384, 32_768]);
        let Err(PlanError::Invalid(rejected)) = told.planning.result else { panic!("no error") };
        let found = &rejected.mistakes.list()[0];
        assert_eq!(found.code, "plan::cut_off");
        assert!(found.message.contains("cut off at its limit of 32768 tokens: reasoning used all"), "{found:?}");
        assert!(found.help.as_ref().is_some_and(|help| help.contains("`max_tokens` of `[planner]`")), "{found:?}");
    }

    #[tokio::test]
    async fn plan_in_a_truncated_answer_is_rejected() {
        // The inner object is complete, but the plan around it is not.
        let inner = r#"{"analysis": "x", "tasks": [{"id": "t1", "call": {"args": {"tasks": [], "analysis": "y"}}"#;
        let whole = plan_calling("box.find", "it").to_string();
        let told = run_planning(
            vec![reply_stopped_by(inner, "maxTokens"), reply_stopped_by(&whole, "maxTokens"), reply_with(whole)],
            vec![find_tool()],
        )
        .await;
        assert!(told.planning.result.is_ok());
        assert_eq!(limits(&told), [8_192, 16_384, 32_768]);
    }

    #[tokio::test]
    async fn rejected_higher_limit_is_reset() {
        let refused = || Err(ChatError::Endpoint { message: "max_tokens is too large".to_owned(), status: Some(400) });
        let answers = vec![reply_stopped_by("{", "maxTokens"), refused(), reply_with(plan_calling("box.find", "it"))];
        let told = run_planning(answers, vec![find_tool()]).await;
        assert!(told.planning.result.is_ok());
        assert_eq!(limits(&told), [8_192, 16_384, 8_192]);
        let told = run_planning(vec![refused()], vec![find_tool()]).await;
        assert!(matches!(told.planning.result, Err(PlanError::Model { .. })));
    }

    #[tokio::test]
    async fn withheld_answer_is_reported() {
        let whole = plan_calling("box.find", "it").to_string();
        for (reason, expected) in [
            ("content_filter", "a content filter of the endpoint stopped the answer"),
            ("refusal", "the model refused to plan this goal"),
            ("odd", "ended for a reason that is not known (`odd`)"),
        ] {
            let told =
                run_planning(vec![reply_stopped_by(&whole, reason), Err(endpoint_failure())], vec![find_tool()]).await;
            assert!(last_repair(&told).contains(expected), "{}", last_repair(&told));
        }
    }

    #[tokio::test]
    async fn tool_call_is_not_a_plan() {
        let call = ChatPart::ToolUse { id: "c".to_owned(), name: "box.find".to_owned(), input: JsonObject::new() };
        let called =
            reply_with("").map(|reply| ChatReply { parts: vec![call], stop_reason: "toolUse".to_owned(), ..reply });
        let told = run_planning(vec![called, reply_with(plan_calling("box.find", "it"))], vec![find_tool()]).await;
        assert!(told.planning.result.is_ok());
        assert!(last_repair(&told).contains("a call of the tool `box.find`, and no tool can be called while planning"));
    }

    #[tokio::test]
    async fn plan_without_tasks_returns_the_analysis() {
        for tasks in [json!([]), json!(null)] {
            let answer = json!({"analysis": " The answer is 4; no tool is needed. ", "tasks": tasks});
            let told = run_planning(vec![reply_with(answer)], vec![find_tool()]).await;
            let Err(error @ PlanError::NoTasks { .. }) = told.planning.result else { panic!("no error") };
            assert_eq!(error.to_string(), "the model planned no tasks, and says: The answer is 4; no tool is needed.");
            assert_eq!((told.planning.requests, told.planning.exchanges.len()), (1, 1));
        }
        let silent = json!({"analysis": "", "tasks": []});
        let told =
            run_planning(vec![reply_with(silent), reply_with(plan_calling("box.find", "it"))], vec![find_tool()]).await;
        assert!(told.planning.result.is_ok());
    }

    #[tokio::test]
    async fn too_many_tasks_are_repaired() {
        let many = |number: usize| {
            let mut answer = plan_calling("box.find", "it");
            let task = answer["tasks"][0].clone();
            answer["tasks"] = (1..=number)
                .map(|number| {
                    let mut task = task.clone();
                    task["id"] = format!("step_{number}").into();
                    task
                })
                .collect();
            reply_with(answer)
        };
        let told = run_planning(vec![many(17), many(16)], vec![find_tool()]).await;
        // One more request writes the answer.
        assert_eq!(told.planning.result.expect("a plan").validated.plan.tasks.len(), 17);
        let repair = told.requests[1].messages[2].text_content();
        assert!(
            repair.contains("the plan has 17 tasks, and at most 16 are allowed (`max_tasks` of `[planner]`"),
            "{repair}"
        );
    }

    #[tokio::test]
    async fn literal_openings_are_explained() {
        let told = run_planning(
            vec![reply_with(plan_calling("box.find", "${{ github.sha }}")), Err(endpoint_failure())],
            vec![find_tool()],
        )
        .await;
        assert!(told.requests[0].system.as_ref().is_some_and(|system| system.contains("$${{ github.sha }}")));
        assert!(last_repair(&told).contains("a literal `${{` is written `$${{`"), "{}", last_repair(&told));
    }

    #[tokio::test]
    async fn no_request_without_tools() {
        let told = run_planning(Vec::new(), Vec::new()).await;
        assert!(
            matches!(told.planning, PlanningResult { result: Err(PlanError::NoTools), requests: 0, ref exchanges } if exchanges.is_empty())
        );
    }
}
