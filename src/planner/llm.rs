//! Asks a model for a plan, and again with all that is wrong with it, a bounded number of times.
//! Never gives out a plan that the validator refuses, and never changes one so that it passes.

use super::{
    bindings,
    catalogue::{self, Offer},
    conversation::{Judge, Spent, UNREACHABLE, Watch, converse},
    draft::{self, Draft},
    limits::TokenLimit,
    prompt, schema,
};
use crate::{
    config::{self, AgentsFile, Catalogue, Diagnostics, Lowered},
    llm::Llm,
    model::{ChatError, ChatMessage, ChatRequest, ChatRole, JsonObject, OutputForm, PlannerTurn},
};

/// What is to be planned.
#[derive(Debug, Clone, Copy)]
pub struct Goal<'a> {
    /// What a person asks for.
    pub text: &'a str,
    /// How often a run of the plan may plan anew what has not started, when a task has failed.
    pub replans: u32,
}

/// What a plan is made with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The model that plans.
    pub llm: &'a dyn Llm,
    /// The agents that there are.
    pub agents: &'a AgentsFile,
    /// What each of them offers.
    pub catalogue: &'a Catalogue,
    /// The file that the plan will be, as its mistakes name it.
    pub file: &'a str,
}

/// What came of planning.
#[derive(Debug)]
pub struct Planning {
    /// A plan that can run, or why there is none.
    pub result: Result<Planned, PlanError>,
    /// How often the model was asked.
    pub turns: u32,
    /// The turns in which it answered, in order.
    pub answered: Vec<PlannerTurn>,
}

/// A plan for a goal, valid by the same rules as a written one.
#[derive(Debug)]
pub struct Planned {
    /// The plan file's text, for people to edit.
    pub text: String,
    /// What it means, and what is odd about it.
    pub lowered: Lowered,
}

/// A plan that is not valid.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// The plan file's text.
    pub text: String,
    /// All that is wrong with it.
    pub mistakes: Diagnostics,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is nothing to plan with.
    #[error("no agent offers a tool that a plan could call; `kapell agents test` says what each of them answers")]
    NoTools,
    /// The model planned no tasks, and gave its reason or the answer itself.
    #[error("the model planned no tasks, and says: {analysis}")]
    NoTasks {
        /// The model's own words.
        analysis: String,
    },
    /// The model did not answer.
    #[error("the model gave no plan")]
    Model {
        /// Why.
        #[source]
        source: ChatError,
        /// What was wrong with its plan when it was asked for a repair.
        rejected: Option<Box<Rejected>>,
    },
    /// The model's last plan is not valid either.
    #[error("the model gave no plan that is valid")]
    Invalid(Box<Rejected>),
}

/// What happens while a goal is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The model is asked for a plan.
    Started {
        /// How many tools it is shown,
        shown: usize,
        /// of how many there are.
        tools: usize,
    },
    /// Its plan is not valid, and it is asked for a repair.
    Repairing {
        /// How many mistakes the plan has.
        mistakes: usize,
        /// Which repair this is, from 1,
        repair: u32,
        /// of at most how many.
        most: u32,
    },
    /// Something is wrong with the model's endpoint though it answered.
    Warned(String),
}

/// Plans a goal: one turn, and at most two more for repairs. `tell` hears of each before the model is asked.
pub async fn plan(goal: &Goal<'_>, context: &Context<'_>, tell: &mut (dyn FnMut(Progress) + Send)) -> Planning {
    let mut spent = Spent::default();
    let result = ask(goal, context, Watch { tell, spent: &mut spent }).await;
    Planning { result, turns: spent.turns, answered: spent.answered }
}

async fn ask(goal: &Goal<'_>, context: &Context<'_>, watch: Watch<'_>) -> Result<Planned, PlanError> {
    let all = catalogue::offers(context.catalogue);
    if all.is_empty() {
        return Err(PlanError::NoTools);
    }
    let tools = all.len();
    let offers = catalogue::choose(all, goal.text);
    (watch.tell)(Progress::Started { shown: offers.len(), tools });
    let max_tasks = context.agents.planner.max_tasks;
    let question = ChatMessage::text(ChatRole::User, prompt::goal(goal.text, &offers, tools - offers.len()));
    let request = ChatRequest {
        model: context.agents.planner.model.clone(),
        system: Some(prompt::system(max_tasks)),
        messages: vec![question.into()],
        max_tokens: TokenLimit::of(context.agents).current(),
        temperature: context.agents.planner.temperature,
        reasoning_effort: context.agents.planner.reasoning_effort.clone(),
        output: Some(OutputForm { name: "plan".to_owned(), schema: schema::plan_schema(&offers, max_tasks) }),
        ..ChatRequest::default()
    };
    converse(context.llm, request, &Turn { goal, context, offers: &offers }, watch).await
}

/// What an answer is judged by.
struct Turn<'a> {
    goal: &'a Goal<'a>,
    context: &'a Context<'a>,
    offers: &'a [Offer<'a>],
}

impl Judge for Turn<'_> {
    type Taken = Planned;

    fn unreadable(&self, answer: &str) -> Draft {
        draft::write_unreadable(self.goal, answer)
    }

    fn file(&self) -> &str {
        self.context.file
    }

    fn agents(&self) -> &AgentsFile {
        self.context.agents
    }

    fn may_be_empty(&self) -> bool {
        false
    }

    fn draft(&self, answer: &JsonObject) -> Draft {
        draft::write(self.goal, answer, self.offers)
    }

    fn judge(&self, answer: &JsonObject) -> Result<Planned, (Draft, Diagnostics)> {
        let draft = self.draft(answer);
        let astray = bindings::mistakes(answer, self.offers);
        let Context { agents, catalogue, file, .. } = *self.context;
        let mistakes = match config::load_plan(file, &draft.text, agents, Some(catalogue)) {
            // A person may well plan for an agent that is away for now. A model has seen none of its tools.
            Ok(lowered) if lowered.warnings.list().iter().any(|found| found.code == UNREACHABLE) => lowered.warnings,
            Ok(lowered) if draft.strangers.is_empty() && astray.is_empty() => {
                return Ok(Planned { text: draft.text, lowered });
            }
            Ok(lowered) => lowered.warnings,
            Err(mistakes) => mistakes,
        };
        Err((draft, bindings::add(astray, mistakes)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::{
        super::samples::{agents, catalogue, tool},
        *,
    };
    use crate::{
        llm::Hear,
        model::{ChatPart, ChatReply, ToolInfo, Usage},
    };

    /// A model that gives these answers in turn, and keeps what it was asked.
    struct Scripted {
        answers: Mutex<Vec<Result<ChatReply, ChatError>>>,
        requests: Mutex<Vec<ChatRequest>>,
    }

    #[async_trait::async_trait]
    impl Llm for Scripted {
        async fn chat_aloud(&self, request: &ChatRequest, _: Hear<'_>) -> Result<ChatReply, ChatError> {
            self.requests.lock().expect("no panic").push(request.clone());
            self.answers.lock().expect("no panic").remove(0)
        }
    }

    fn says(text: impl ToString) -> Result<ChatReply, ChatError> {
        Ok(ChatReply {
            parts: vec![ChatPart::Text { text: text.to_string() }],
            model: "m".to_owned(),
            stop_reason: "endTurn".to_owned(),
            usage: Some(Usage { input_tokens: 10, output_tokens: 2 }),
            cost_usd: None,
            warning: None,
        })
    }

    fn fails() -> ChatError {
        ChatError::Endpoint { message: "the endpoint is away".to_owned(), status: None }
    }

    struct Told {
        planning: Planning,
        progress: Vec<Progress>,
        requests: Vec<ChatRequest>,
    }

    async fn planned(answers: Vec<Result<ChatReply, ChatError>>, tools: Vec<ToolInfo>) -> Told {
        let llm = Scripted { answers: Mutex::new(answers), requests: Mutex::default() };
        let (agents, catalogue) = (agents(&["box", "gone"]), catalogue(tools));
        let context = Context { llm: &llm, agents: &agents, catalogue: &catalogue, file: "plan.yaml" };
        let mut progress = Vec::new();
        let planning = plan(&Goal { text: "Find it", replans: 0 }, &context, &mut |step| progress.push(step)).await;
        Told { planning, progress, requests: llm.requests.into_inner().expect("no panic") }
    }

    fn find() -> ToolInfo {
        let query = json!({"type": "string", "minLength": 2});
        tool("find", json!({"properties": {"q": query}, "required": ["q"], "additionalProperties": false}))
    }

    fn calling(tool: &str, query: &str) -> Value {
        let call = json!({"tool": tool, "args": {"q": query}});
        json!({"analysis": "", "tasks": [{"id": "t1", "title": "It", "depends_on": [], "call": call, "bindings": []}]})
    }

    /// What the model was told was wrong, in its last turn.
    fn last_repair(told: &Told) -> String {
        told.requests.last().and_then(|request| request.messages.last()).expect("a message").all_text()
    }

    #[tokio::test]
    async fn a_valid_plan_needs_one_turn() {
        let told = planned(vec![says(calling("box.find", "it"))], vec![find()]).await;
        let planned = told.planning.result.expect("a plan");
        assert_eq!(planned.lowered.plan.tasks[0].routes()[0].tool.as_ref(), "find");
        assert_eq!(told.planning.turns, 1);
        let answered = PlannerTurn {
            model: "m".to_owned(),
            stop_reason: "endTurn".to_owned(),
            usage: Some(Usage { input_tokens: 10, output_tokens: 2 }),
            most_tokens: told.requests[0].most_tokens(),
            cost_usd: None,
        };
        assert_eq!(told.planning.answered, [answered]);
        assert_eq!(told.progress, [Progress::Started { shown: 1, tools: 1 }]);
        let request = &told.requests[0];
        let form = request.output.as_ref().expect("a form");
        assert_eq!((request.messages.len(), form.name.as_str(), &form.schema["type"]), (1, "plan", &json!("object")));
    }

    #[tokio::test]
    async fn the_model_is_shown_its_last_plan_alone_with_all_its_mistakes() {
        let answers = vec![says("no"), says(calling("box.fnd", "it")), says(calling("box.find", "it"))];
        let told = planned(answers, vec![find()]).await;
        assert!(told.planning.result.is_ok());
        assert_eq!((told.planning.turns, told.planning.answered.len()), (3, 3));
        let repairing = |repair| Progress::Repairing { mistakes: 1, repair, most: 2 };
        assert_eq!(told.progress, [Progress::Started { shown: 1, tools: 1 }, repairing(1), repairing(2)]);
        let messages =
            |turn: usize| told.requests[turn].messages.iter().map(|message| message.all_text()).collect::<Vec<_>>();
        assert_eq!(messages(1)[1], "no");
        assert_eq!((messages(2).len(), &messages(2)[1]), (3, &calling("box.fnd", "it").to_string()));
        assert!(messages(2)[2].contains("in task `t1`: the agent `box` has no tool `fnd` (did you mean `find`?)"));
    }

    #[tokio::test]
    async fn the_tools_own_schemas_judge_what_strict_ones_cannot_say() {
        let told = planned(vec![says(calling("box.find", "x")), Err(fails())], vec![find()]).await;
        assert!(last_repair(&told).contains("the argument `q` of `find` cannot be this"), "{}", last_repair(&told));
        let Err(PlanError::Model { source, rejected: Some(rejected) }) = told.planning.result else {
            panic!("no error")
        };
        assert_eq!((source, rejected.mistakes.errors()), (fails(), 1));
        assert_eq!((told.planning.turns, told.planning.answered.len()), (2, 1), "a turn that failed has no answer");
        assert!(rejected.text.contains("q: x"), "{}", rejected.text);
    }

    #[tokio::test]
    async fn agents_that_are_unknown_or_away_are_never_planned_with() {
        let answers = vec![says(calling("nobody.find", "it")), says(calling("gone.find", "it")), Err(fails())];
        let told = planned(answers, vec![find()]).await;
        assert!(last_repair(&told).contains("the agent `gone` could not be asked for its tools"));
        let before = told.requests[1].messages[2].all_text();
        assert!(before.contains("the agent `nobody` is not in the agents file"), "{before}");
    }

    #[tokio::test]
    async fn a_binding_to_what_a_result_does_not_have_is_mended() {
        let output = json!({"type": "object", "properties": {"title": {"type": "string"}}});
        let tools = vec![ToolInfo { output_schema: output.as_object().cloned(), ..find() }];
        let bound = |pointer: &str| {
            let mut answer = calling("box.find", "it");
            let call = json!({"tool": "box.find", "args": {"q": null}});
            let binding = json!({"arg": "q", "task": "t1", "output": pointer});
            let second =
                json!({"id": "t2", "title": "Again", "depends_on": ["t1"], "call": call, "bindings": [binding]});
            answer["tasks"].as_array_mut().expect("a list").push(second);
            says(answer)
        };
        let told = planned(vec![bound("/name"), bound("/title")], tools).await;
        assert!(told.planning.result.is_ok());
        let expected = "- in task `t2`: the argument `q` is bound to `/name` of the result of `t1`, where nothing can be: \
                        the result has `title`";
        assert!(last_repair(&told).contains(expected), "{}", last_repair(&told));
    }

    #[tokio::test]
    async fn a_model_cannot_say_what_only_people_may() {
        let mut answer = calling("box.find", "it");
        answer["tasks"][0]["effect"] = json!("read_only");
        let told = planned(vec![says(answer), Err(fails())], vec![find()]).await;
        let expected = "- the answer has `effect` of task `t1`, which its form does not have";
        assert!(last_repair(&told).contains(expected), "{}", last_repair(&told));
    }

    #[tokio::test]
    async fn it_gives_up_after_two_repairs() {
        let bad = || says(calling("box.fnd", "it"));
        let told = planned(vec![bad(), bad(), bad(), bad()], vec![find()]).await;
        let Err(PlanError::Invalid(rejected)) = told.planning.result else { panic!("no error") };
        assert_eq!((told.planning.turns, told.requests.len(), rejected.mistakes.errors()), (3, 3, 1));
    }

    /// An answer that stopped for this reason.
    fn stopped(text: impl ToString, reason: &str) -> Result<ChatReply, ChatError> {
        says(text).map(|reply| ChatReply { stop_reason: reason.to_owned(), ..reply })
    }

    fn limits(told: &Told) -> Vec<u32> {
        told.requests.iter().map(|request| request.max_tokens).collect()
    }

    #[tokio::test]
    async fn an_answer_that_was_cut_off_gets_more_room() {
        let cut_off = stopped(r#"{"analysis": "#, "maxTokens");
        let told = planned(vec![cut_off, says(""), Err(fails())], vec![find()]).await;
        let repair = told.requests[1].messages[2].all_text();
        assert!(
            repair.contains("cut off at its limit of 8192 tokens (there is room for 16384 tokens now)"),
            "{repair}"
        );
        assert_eq!(told.requests[2].messages[1].all_text(), "(nothing)");
        assert_eq!(limits(&told), [8_192, 16_384, 16_384]);
    }

    #[tokio::test]
    async fn reasoning_that_used_up_the_limit_is_named_with_the_key_that_raises_it() {
        let reasoned = ChatPart::Reasoning { model: "m".to_owned(), text: "Let me see.".to_owned() };
        let cut_off = || {
            let parts = vec![reasoned.clone()];
            stopped("", "maxTokens").map(|reply| ChatReply { parts, ..reply })
        };
        let told = planned(vec![cut_off(), cut_off(), cut_off()], vec![find()]).await;
        assert_eq!(limits(&told), [8_192, 16_384, 32_768]);
        let Err(PlanError::Invalid(rejected)) = told.planning.result else { panic!("no error") };
        let found = &rejected.mistakes.list()[0];
        assert_eq!(found.code, "plan::cut_off");
        assert!(found.message.contains("cut off at its limit of 32768 tokens: reasoning used all"), "{found:?}");
        assert!(found.help.as_ref().is_some_and(|help| help.contains("`max_tokens` of `[planner]`")), "{found:?}");
    }

    #[tokio::test]
    async fn a_plan_in_an_answer_that_was_cut_off_is_not_taken() {
        // The inner object is complete; the plan around it is not.
        let inner = r#"{"analysis": "x", "tasks": [{"id": "t1", "call": {"args": {"tasks": [], "analysis": "y"}}"#;
        let whole = calling("box.find", "it").to_string();
        let told =
            planned(vec![stopped(inner, "maxTokens"), stopped(&whole, "maxTokens"), says(whole)], vec![find()]).await;
        assert!(told.planning.result.is_ok());
        assert_eq!(limits(&told), [8_192, 16_384, 32_768]);
    }

    #[tokio::test]
    async fn an_endpoint_that_refuses_a_higher_limit_is_asked_with_the_first() {
        let refused = || Err(ChatError::Endpoint { message: "max_tokens is too large".to_owned(), status: Some(400) });
        let answers = vec![stopped("{", "maxTokens"), refused(), says(calling("box.find", "it"))];
        let told = planned(answers, vec![find()]).await;
        assert!(told.planning.result.is_ok());
        assert_eq!(limits(&told), [8_192, 16_384, 8_192]);
        let told = planned(vec![refused()], vec![find()]).await;
        assert!(matches!(told.planning.result, Err(PlanError::Model { .. })));
    }

    #[tokio::test]
    async fn an_answer_that_was_withheld_is_named() {
        let whole = calling("box.find", "it").to_string();
        for (reason, expected) in [
            ("content_filter", "a content filter of the endpoint stopped the answer"),
            ("refusal", "the model refused to plan this goal"),
            ("odd", "ended for a reason that is not known (`odd`)"),
        ] {
            let told = planned(vec![stopped(&whole, reason), Err(fails())], vec![find()]).await;
            assert!(last_repair(&told).contains(expected), "{}", last_repair(&told));
        }
    }

    #[tokio::test]
    async fn a_call_of_a_tool_is_not_a_plan() {
        let call = ChatPart::ToolUse { id: "c".to_owned(), name: "box.find".to_owned(), input: JsonObject::new() };
        let called = says("").map(|reply| ChatReply { parts: vec![call], stop_reason: "toolUse".to_owned(), ..reply });
        let told = planned(vec![called, says(calling("box.find", "it"))], vec![find()]).await;
        assert!(told.planning.result.is_ok());
        assert!(last_repair(&told).contains("a call of the tool `box.find`, and no tool can be called while planning"));
    }

    #[tokio::test]
    async fn a_plan_without_tasks_ends_in_the_words_of_the_model() {
        for tasks in [json!([]), json!(null)] {
            let answer = json!({"analysis": " The answer is 4; no tool is needed. ", "tasks": tasks});
            let told = planned(vec![says(answer)], vec![find()]).await;
            let Err(error @ PlanError::NoTasks { .. }) = told.planning.result else { panic!("no error") };
            assert_eq!(error.to_string(), "the model planned no tasks, and says: The answer is 4; no tool is needed.");
            assert_eq!((told.planning.turns, told.planning.answered.len()), (1, 1));
        }
        let silent = json!({"analysis": "", "tasks": []});
        let told = planned(vec![says(silent), says(calling("box.find", "it"))], vec![find()]).await;
        assert!(told.planning.result.is_ok());
    }

    #[tokio::test]
    async fn a_plan_of_more_tasks_than_the_limit_is_repaired() {
        let many = |number: usize| {
            let mut answer = calling("box.find", "it");
            let task = answer["tasks"][0].clone();
            answer["tasks"] = (1..=number)
                .map(|number| {
                    let mut task = task.clone();
                    task["id"] = format!("step_{number}").into();
                    task
                })
                .collect();
            says(answer)
        };
        let told = planned(vec![many(17), many(16)], vec![find()]).await;
        // One more writes the answer.
        assert_eq!(told.planning.result.expect("a plan").lowered.plan.tasks.len(), 17);
        let repair = told.requests[1].messages[2].all_text();
        assert!(
            repair.contains("the plan has 17 tasks, and at most 16 are allowed (`max_tasks` of `[planner]`"),
            "{repair}"
        );
    }

    #[tokio::test]
    async fn literal_openings_are_explained_before_and_after() {
        let told = planned(vec![says(calling("box.find", "${{ github.sha }}")), Err(fails())], vec![find()]).await;
        assert!(told.requests[0].system.as_ref().is_some_and(|system| system.contains("$${{ github.sha }}")));
        assert!(last_repair(&told).contains("a literal `${{` is written `$${{`"), "{}", last_repair(&told));
    }

    #[tokio::test]
    async fn without_tools_no_model_is_asked() {
        let told = planned(Vec::new(), Vec::new()).await;
        assert!(
            matches!(told.planning, Planning { result: Err(PlanError::NoTools), turns: 0, ref answered } if answered.is_empty())
        );
    }
}
