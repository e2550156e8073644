//! Generators of random plans and random patches.

use crate::engine::tests::*;

/// A random task. Indices are taken modulo the number of existing tasks.
#[derive(Debug, Clone)]
pub(crate) struct RandomTask {
    needs: Vec<usize>,
    routes: Vec<(u8, u32)>,
    max_attempts: u32,
    effect: Option<Effect>,
    on_failure: OnFailure,
    items: Option<(usize, Option<usize>)>,
    approve: bool,
    condition: Option<u8>,
    retry_when: Option<u8>,
    work: RandomWork,
    repeat: Option<u32>,
    hook: Option<HookTrigger>,
}

#[derive(Debug, Clone, Copy)]
enum RandomWork {
    Tool,
    Read,
    /// A prompt with the agents of its routes as tools.
    Prompt,
    /// The same, with a prompt of the first agent.
    UsePrompt,
    /// A group of two calls, the second after the first, with a hook of the group.
    Group,
    /// A plan of two calls and a timer, with limits of calls and time, and a task with a budget.
    SubPlan,
    Ask,
    Sleep,
    Signal,
    File,
    Resource,
    Stop,
}

fn random_trigger() -> impl Strategy<Value = HookTrigger> {
    prop_oneof![
        Just(HookTrigger::Success),
        Just(HookTrigger::Failure),
        Just(HookTrigger::Cancel),
        Just(HookTrigger::Always)
    ]
}

/// Returns a call of an agent that is a hook.
fn hook_task(id: &str, of: Option<&str>, on: HookTrigger) -> Task {
    let hook = Hook { of: of.map(TaskId::from), on };
    let needs: Vec<&str> = of.into_iter().collect();
    Task { hook: Some(Box::new(hook)), ..with_routes(vec![route("agent0", 0)], task(id, &needs)) }
}

pub(crate) fn random_task() -> impl Strategy<Value = RandomTask> {
    let effect = prop_oneof![
        Just(None),
        Just(Some(Effect::ReadOnly)),
        Just(Some(Effect::Idempotent)),
        Just(Some(Effect::AtMostOnce))
    ];
    let on_failure = prop_oneof![
        Just(OnFailure::Fail),
        Just(OnFailure::Continue),
        Just(OnFailure::SkipDependents),
        Just(OnFailure::Replan)
    ];
    let work = prop_oneof![
        7 => Just(RandomWork::Tool),
        1 => Just(RandomWork::Read),
        1 => Just(RandomWork::Prompt),
        1 => Just(RandomWork::UsePrompt),
        2 => Just(RandomWork::Group),
        1 => Just(RandomWork::Ask),
        1 => Just(RandomWork::SubPlan),
        1 => Just(RandomWork::Sleep),
        1 => Just(RandomWork::Signal),
        1 => Just(RandomWork::File),
        1 => Just(RandomWork::Resource),
        1 => Just(RandomWork::Stop),
    ];
    (
        prop::collection::vec(0_usize..64, 0..4),
        prop::collection::vec((0_u8..4, 0_u32..3), 1..4),
        1_u32..4,
        effect,
        on_failure,
        prop::option::weighted(0.3, (0_usize..5, prop::option::of(1_usize..3))),
        prop::bool::weighted(0.15),
        (prop::option::weighted(0.2, 0_u8..3), prop::option::weighted(0.2, 0_u8..3)),
        work,
        prop::option::weighted(0.1, 1_u32..4),
        prop::option::weighted(0.15, random_trigger()),
    )
        .prop_map(
            |(needs, routes, max_attempts, effect, on_failure, items, approve, conditions, work, repeat, hook)| {
                let (condition, retry_when) = conditions;
                // An early end would leave little to explore if it were as frequent as other work.
                let work = if matches!(work, RandomWork::Stop) && max_attempts > 1 { RandomWork::Tool } else { work };
                RandomTask {
                    needs,
                    routes,
                    max_attempts,
                    effect,
                    on_failure,
                    items,
                    approve,
                    condition,
                    retry_when,
                    work,
                    repeat,
                    hook,
                }
            },
        )
}

pub(crate) fn random_plan(random_tasks: &[RandomTask], max_parallel: usize, budget: Budget) -> Arc<Plan> {
    let tasks = random_tasks.iter().enumerate().map(|(index, sketch)| {
        let mut needs: Vec<String> =
            sketch.needs.iter().filter(|_| index > 0).map(|need| format!("t{}", need % index)).collect();
        needs.sort();
        needs.dedup();
        let condition = sketch.condition.map(|kind| match (kind, needs.first()) {
            (0, _) | (_, None) => "true".to_owned(),
            (1, _) => "false".to_owned(),
            (_, Some(need)) => format!("tasks.{need}.status == 'failed'"),
        });
        let mut routes: Vec<Route> = Vec::new();
        for (agent, rank) in &sketch.routes {
            let route = route(&format!("agent{agent}"), *rank);
            if !routes.iter().any(|known| known.agent == route.agent) {
                routes.push(route);
            }
        }
        let mut built = task(&format!("t{index}"), &needs.iter().map(String::as_str).collect::<Vec<_>>());
        let tools: Vec<&str> = routes.iter().map(|route| route.agent.as_str()).collect();
        built.work = match sketch.work {
            RandomWork::Prompt => text_prompt(prompt("p", &tools, None)).work,
            RandomWork::UsePrompt => server_prompt("p", tools[0], &tools).work,
            RandomWork::Read => read(routes, json!({"uri": "note://1"})),
            RandomWork::Tool => call(routes, json!({"at": "${{ now() }}"})),
            RandomWork::Group => {
                let first = with_routes(routes.clone(), task("a", &[]));
                let second = Task { on_failure: OnFailure::Continue, ..with_routes(routes, task("b", &["a"])) };
                let tidy = hook_task("tidy", None, HookTrigger::Always);
                let tasks = [first, second, tidy].map(Arc::new).to_vec();
                let status = Template(json!("${{ tasks.b.status }}"));
                let outputs = Some(IndexMap::from([("b".to_owned(), status)]));
                Work::Group(Box::new(Group { tasks, outputs, plan: None }))
            }
            RandomWork::SubPlan => {
                let one = Budget { tool_calls: Some(1), ..Budget::default() };
                let first = Task { budget: one, ..with_routes(routes.clone(), task("a", &[])) };
                let nap = Task::new("nap".into(), Work::Wait(Wait::Sleep(Template(json!("2s")))));
                let nap = Task { needs: vec!["a".into()], ..nap };
                let last = Task { on_failure: OnFailure::Continue, ..with_routes(routes, task("b", &["nap"])) };
                let tidy = hook_task("tidy", None, HookTrigger::Always);
                let tasks = [first, nap, last, tidy].map(Arc::new).to_vec();
                let time = [Some(1), Some(2), Some(3), None][sketch.max_attempts as usize];
                let time = time.map(|seconds| HumanDuration(Duration::from_secs(seconds)));
                let budget = Budget { tool_calls: Some(2), time, ..Budget::default() };
                let (arguments, inputs) = (Template(json!({})), IndexMap::new());
                let plan = Some(Box::new(SubPlan { name: "s".into(), inputs, arguments, budget }));
                Work::Group(Box::new(Group { tasks, outputs: None, plan }))
            }
            RandomWork::Signal => Work::Wait(Wait::Signal(Template(json!("go")))),
            RandomWork::File => {
                Work::Wait(Wait::File(FileWait { path: Template(json!("a.txt")), changed: sketch.approve }))
            }
            RandomWork::Resource => {
                let agent = routes[0].agent.clone();
                Work::Wait(Wait::Resource(ResourceWait { agent, uri: Template(json!("note://1")) }))
            }
            RandomWork::Ask => Work::Ask(Box::new(Ask { message: Template(json!("which?")), schema: None })),
            RandomWork::Sleep => Work::Wait(Wait::Sleep(Template(json!("5s")))),
            RandomWork::Stop => Work::Stop(Box::default()),
        };
        built.repeat = sketch.repeat.filter(|_| sketch.items.is_none()).map(|max| {
            let until = Expression("loop.index >= 2".to_owned());
            Box::new(Repeat { until, max, delay: Some(HumanDuration(Duration::from_secs(1))) })
        });
        if matches!(built.work, Work::Wait(Wait::Signal(_) | Wait::File(_) | Wait::Resource(_))) {
            let limit = [Some(4), Some(9), None, None][sketch.max_attempts.min(3) as usize];
            built.deadline = limit.map(|seconds| HumanDuration(Duration::from_secs(seconds)));
        }
        built.retry.max_attempts = sketch.max_attempts;
        let when = ["error.kind == 'tool_error'", "error.attempt < 2", "error.message + 1"];
        built.retry.when = sketch.retry_when.map(|kind| Expression(when[usize::from(kind)].to_owned()));
        built.effect = sketch.effect;
        built.on_failure = sketch.on_failure;
        built.condition = condition.map(Expression);
        built.approve = sketch.approve.then(|| Box::new(Template(json!("ok?"))));
        built.foreach = sketch.items.map(|(count, max_parallel)| {
            let list = (0..count).collect::<Vec<_>>();
            let is_matrix = sketch.max_attempts == 2;
            let items = Template(if is_matrix { json!({"a": list, "b": [1]}) } else { json!(list) });
            Box::new(Foreach { items, is_matrix, binding: "item".into(), max_parallel })
        });
        built
    });
    let mut tasks: Vec<Task> = tasks.collect();
    let hooks = random_tasks.iter().enumerate().filter_map(|(index, sketch)| Some((index, sketch.hook?)));
    for (index, on) in hooks.collect::<Vec<_>>() {
        tasks.push(hook_task(&format!("h{index}"), Some(&format!("t{index}")), on));
        if index % 3 == 0 {
            tasks.push(hook_task(&format!("f{index}"), None, on));
        }
    }
    let mut built = (*plan(tasks)).clone();
    for task in built.tasks.clone().iter().flat_map(|task| task.members().iter().chain([task])) {
        built.agents.extend(task.agents().map(|agent| (agent.clone(), agent_policy())));
    }
    built.max_parallel = max_parallel;
    built.budget = budget;
    Arc::new(built)
}

/// Returns a random patch that removes pending tasks and adds tasks that depend on existing ones.
pub(crate) fn random_patch(request: &ReplanRequest, choose: &mut impl FnMut(usize) -> usize) -> PlanPatch {
    let open: Vec<&TaskId> = request
        .tasks
        .iter()
        .filter(|snapshot| snapshot.progress.is_pending())
        .map(|snapshot| &snapshot.task.id)
        .collect();
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for id in open {
        if choose(2) == 0 { &mut kept } else { &mut removed }.push(id.clone());
    }
    let usable =
        request.tasks.iter().filter(|snapshot| snapshot.progress.has_result() || kept.contains(&snapshot.task.id));
    let mut usable: Vec<String> = usable.map(|snapshot| snapshot.task.id.to_string()).collect();
    let mut added = Vec::new();
    for index in 0..choose(4) {
        let mut needs: Vec<&str> = usable.iter().filter(|_| choose(3) == 0).map(String::as_str).collect();
        needs.sort_unstable();
        let id = format!("r{}x{index}", request.number);
        let agent = format!("agent{}", choose(6));
        let new = Task { on_failure: OnFailure::Replan, ..with_routes(vec![route(&agent, 0)], task(&id, &needs)) };
        usable.push(id);
        added.push(Arc::new(new));
    }
    let agents = added.iter().flat_map(|task| task.routes()).map(|route| (route.agent.clone(), agent_policy()));
    PlanPatch { kept, removed, agents: agents.collect(), added, missing: None }
}
