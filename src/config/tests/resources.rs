//! Tests of tasks that read resources or use prompts of agents.

use serde_json::json;

use super::*;
use crate::model::{
    AgentOffers, Operation, PromptArgument, PromptInfo, PromptSource, ResourceInfo, ServerPrompt, Task, TaskId,
    Template, Work,
};

/// Returns a catalog in which `archive` has a prompt and a resource, and `research` has neither.
fn catalog_with_offers() -> AgentCatalog {
    let argument = |name: &str, required| PromptArgument { name: name.into(), required, description: None };
    let arguments = vec![argument("name", true), argument("tone", false)];
    let prompts = vec![PromptInfo { name: "sum".into(), arguments, ..PromptInfo::default() }];
    let resources = vec![ResourceInfo { uri: "note://1".into(), ..ResourceInfo::default() }];
    let mut catalog = catalog();
    for (agent, prompts, resources) in [("archive", prompts, resources), ("research", Vec::new(), Vec::new())] {
        let Some(Ok(info)) = catalog.get_mut(agent) else { panic!("`{agent}` is not in the catalog") };
        let (prompts, resources) = (Some(prompts), Some(resources));
        info.offers = Some(Box::new(AgentOffers { resources, resource_templates: Some(Vec::new()), prompts }));
    }
    catalog
}

fn with_model() -> AgentsFile {
    let text = format!("[llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n{AGENTS}");
    parse_agents("agents.toml", &text, &TestEnvironment::of(&[])).expect("the agents file is right")
}

fn load(tasks: &str) -> Result<ValidatedPlan, Diagnostics> {
    load_plan("plans/test.yaml", tasks, &with_model(), Some(&catalog_with_offers()))
}

fn codes(tasks: &str) -> Vec<String> {
    let diagnostics = match load(tasks) {
        Ok(validated) => validated.warnings,
        Err(diagnostics) => diagnostics,
    };
    diagnostics.list().iter().map(|diagnostic| diagnostic.code.clone()).collect()
}

fn tasks(tasks: &str) -> Vec<Task> {
    let plan = load(tasks).unwrap_or_else(|errors| panic!("{errors}")).plan;
    plan.tasks.iter().map(|task| Task::clone(task)).collect()
}

#[test]
fn reads_are_calls() {
    let read = &tasks(
        "tasks:\n  - id: a\n    read: { agent: archive, uri: \"note://${{ 1 }}\" }\n    fallback: [{ agent: travel }]\n",
    )[0];
    let Work::Call(call) = &read.work else { panic!("{read:?}") };
    let routes: Vec<_> = call.routes.iter().map(|route| (route.agent.as_str(), &*route.tool, route.rank)).collect();
    assert_eq!(routes, [("archive", "resources/read", 0), ("travel", "resources/read", 1)]);
    assert_eq!(
        (call.operation, &call.arguments),
        (Operation::ReadResource, &Template(json!({"uri": "note://${{ 1 }}"})))
    );
    let template = "tasks:\n  - { id: a, read: { agent: archive, template: \"note://{n}{?q}\", with: { n: 1 } } }\n";
    let expected = Template(json!({"template": "note://{n}{?q}", "with": {"n": 1}}));
    assert_eq!(tasks(template)[0].arguments(), Some(&expected));
}

#[test]
fn mistakes_in_reads_are_reported() {
    let read = |read: &str| codes(&format!("tasks:\n  - {{ id: a, read: {{ agent: archive, {read} }} }}\n"));
    let none: [&str; 0] = [];
    assert_eq!(read("uri: note://1"), none);
    assert_eq!(read("uri: note://1, with: { x: 1 }"), ["plan::useless_key"]);
    assert_eq!(read("uri: note://1, template: note://2"), ["plan::useless_key"]);
    assert_eq!(read("with: { x: 1 }"), ["plan::no_uri", "plan::useless_key"]);
    assert_eq!(read("template: \"note://{x\""), ["plan::bad_template"]);
    assert_eq!(read("template: \"note://${{ inputs.x }}\""), ["plan::bad_template", "plan::unknown_input"]);
    assert_eq!(
        read("template: \"note://{name}{?q}\", with: { nam: 1 }"),
        ["plan::missing_argument", "plan::unknown_argument"]
    );
    assert_eq!(codes("tasks:\n  - { id: a, read: { agent: research, uri: note://1 } }\n"), ["plan::no_resources"]);
    let keys = "tool: x, effect: idempotent, fallback: [{ agent: travel, tool: y }]";
    assert_eq!(
        codes(&format!("tasks:\n  - {{ id: a, read: {{ agent: archive, uri: note://1 }}, {keys} }}\n")),
        ["plan::two_works", "plan::useless_key", "plan::unreachable_agent", "plan::useless_key"]
    );
}

#[test]
fn prompts_of_agents_are_checked_against_their_list() {
    let used = "tasks:\n  - { id: a, use_prompt: { agent: archive, name: sum, with: { name: \"${{ 1 }}\" } } }\n";
    let arguments = Template(json!({"name": "${{ 1 }}"}));
    let expected = ServerPrompt { agent: "archive".into(), name: "sum".into(), arguments };
    let source = tasks(used)[0].prompt().map(|prompt| prompt.source.clone());
    assert_eq!(source, Some(PromptSource::UsePrompt(expected)));
    let used = |prompt: &str| codes(&format!("tasks:\n  - {{ id: a, use_prompt: {{ {prompt} }} }}\n"));
    assert_eq!(used("agent: archive, name: som"), ["plan::unknown_prompt"]);
    assert_eq!(used("agent: archive, name: sum"), ["plan::missing_argument"]);
    assert_eq!(used("agent: archive, name: sum, with: { name: x, tones: y }"), ["plan::unknown_argument"]);
    assert_eq!(used("agent: nobodys, name: sum"), ["plan::unknown_agent"]);
    let both = "tasks:\n  - { id: a, prompt: Why?, use_prompt: { agent: archive, name: sum, with: { name: x } } }\n";
    assert_eq!(codes(both), ["plan::two_works"]);
}

#[test]
fn equal_resources_of_expressions_are_one_task() {
    let plan = tasks(
        "inputs: { uri: { type: string } }\ndefaults: { retry: 3, timeout: 5s }\ntasks:\n\
         \x20 - { id: a, agent: research, tool: fetch, with: { url: \"${{ resource('archive', inputs.uri).url }}\" } }\n\
         \x20 - { id: b, agent: research, tool: fetch, with: { url: \"${{ resource('archive', inputs.uri) }}\" } }\n\
         \x20 - { id: c, agent: research, tool: fetch, with: { url: \"${{ resource('archive', tasks.b.text) }}\" } }\n",
    );
    let (first, second) =
        (TaskId::resource_read("archive", "inputs.uri"), TaskId::resource_read("archive", "tasks.b.text"));
    let needs: Vec<_> = plan.iter().map(|task| (task.id.clone(), task.needs.clone())).collect();
    assert_eq!(
        needs,
        [
            ("a".into(), vec![first.clone()]),
            ("b".into(), vec![first.clone()]),
            ("c".into(), vec![second.clone()]),
            (first, vec![]),
            (second, vec!["b".into()]),
        ]
    );
    let read = &plan[3];
    assert_eq!(read.arguments(), Some(&Template(json!({"uri": "${{ inputs.uri }}"}))));
    assert_eq!((read.operation(), read.retry.max_attempts), (Operation::ReadResource, 3));
    assert_eq!(read.timeout, plan[0].timeout);
}

#[test]
fn mistakes_in_resources_of_expressions_are_reported() {
    let used = |expression: &str| {
        codes(&format!(
            "tasks:\n  - id: a\n    foreach: [1]\n    as: hit\n    agent: research\n    tool: fetch\n    \
             with: {{ url: \"${{{{ {expression} }}}}\" }}\n"
        ))
    };
    assert_eq!(used("resource(hit, 'note://1')"), ["plan::expression"]);
    assert_eq!(used("resource('archive')"), ["plan::expression"]);
    assert_eq!(used("resource('archive', resource('archive', 'x'))"), ["plan::expression"]);
    assert_eq!(used("resource('archive', 1 +)"), ["plan::expression"]);
    assert_eq!(used("resource('archive', hit)"), ["plan::unknown_name"]);
    assert_eq!(used("resource('archive', loop.index)"), ["plan::unknown_name"]);
    assert_eq!(used("resource('archive', inputs.x)"), ["plan::unknown_input"]);
    assert_eq!(used("resource('archive', tasks.a.outputs)"), ["plan::cycle"]);
    assert_eq!(used("resource('archiv', 'note://1')"), ["plan::unknown_agent"]);
}
