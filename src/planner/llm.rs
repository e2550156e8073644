//! Asks a model for a plan, and again with all that is wrong with it, a bounded number of times.
//! Never gives out a plan that the validator refuses, and never changes one so that it passes.

use super::{
    bindings,
    catalogue::{self, Offer},
    conversation::{Judge, Spent, UNREACHABLE, Watch, converse},
    draft::{self, Draft},
    prompt, schema,
};
use crate::{
    config::{self, AgentsFile, Catalogue, Diagnostics, Lowered},
    llm::Llm,
    model::{ChatError, ChatMessage, ChatRequest, ChatRole, JsonObject, OutputForm, PlannerTurn},
};

/// Most tokens of an answer: enough for a plan of the most tasks, with some thought before it.
pub(super) const MOST_TOKENS: u32 = 8_192;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    let question = ChatMessage::text(ChatRole::User, prompt::goal(goal.text, &offers, tools - offers.len()));
    let request = ChatRequest {
        model: context.agents.planner.clone(),
        system: Some(prompt::system()),
        messages: vec![question],
        max_tokens: MOST_TOKENS,
        output: Some(OutputForm { name: "plan".to_owned(), schema: schema::plan_schema(&offers) }),
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

    fn judge(&self, answer: &JsonObject) -> Result<Planned, (Draft, Diagnostics)> {
        let draft = draft::write(self.goal, answer, self.offers);
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
        let messages = |turn: usize| told.requests[turn].messages.iter().map(ChatMessage::all_text).collect::<Vec<_>>();
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

    #[tokio::test]
    async fn an_answer_that_was_cut_off_is_told_so() {
        let cut_off = says(r#"{"analysis": "#).map(|reply| ChatReply { stop_reason: "maxTokens".to_owned(), ..reply });
        let told = planned(vec![cut_off, says(""), Err(fails())], vec![find()]).await;
        assert!(told.requests[1].messages[2].all_text().contains("cut off"));
        assert_eq!(told.requests[2].messages[1].all_text(), "(nothing)");
    }

    #[tokio::test]
    async fn without_tools_no_model_is_asked() {
        let told = planned(Vec::new(), Vec::new()).await;
        assert!(
            matches!(told.planning, Planning { result: Err(PlanError::NoTools), turns: 0, ref answered } if answered.is_empty())
        );
    }
}
