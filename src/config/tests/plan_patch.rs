//! Tests of plan patches: valid ones, and all diagnostics of invalid ones.

use std::sync::Arc;

use super::*;
use crate::model::{OnFailure, PlanPatch, ReplanRequest, TaskProgress, TaskSnapshot};

/// Returns a run where `find` is done, `read` has failed, and `busy` is running. `lost` needs `read`; `open` and `last`
/// are pending.
fn request() -> ReplanRequest {
    let call = "agent: research, tool: fetch, with: { url: u }";
    let plan = load_test_plan(&format!(
        "name: x\ninputs: {{ city: {{ type: string }} }}\ntasks:\n\
         - {{ id: find, agent: research, tool: search, with: {{ query: \"${{{{ inputs.city }}}}\" }} }}\n\
         - {{ id: read, foreach: [1], {call} }}\n\
         - {{ id: busy, foreach: [1], {call} }}\n\
         - {{ id: lost, needs: read, {call} }}\n\
         - {{ id: open, {call} }}\n\
         - {{ id: last, needs: open, approve: Reserve it?, agent: archive, tool: reserve }}\n\
         outputs: {{ it: \"${{{{ tasks.open.text }}}}\", more: \"${{{{ tasks.lost.text }}}}\" }}\n"
    ))
    .unwrap_or_else(|mistakes| panic!("{mistakes}"))
    .plan;
    let progress = [
        TaskProgress::Succeeded("found".into()),
        TaskProgress::NoResult("no page".into()),
        TaskProgress::Running,
        TaskProgress::Unreachable("read".into()),
        TaskProgress::Pending,
        TaskProgress::Pending,
    ];
    let tasks = plan.tasks.iter().cloned().zip(progress).map(|(task, progress)| TaskSnapshot { task, progress });
    let used_task_ids = vec!["answer".into()];
    ReplanRequest {
        number: 1,
        check: None,
        tasks: tasks.collect(),
        plan: Arc::new(plan),
        used_task_ids,
        agents: IndexMap::new(),
    }
}

fn load_patch(text: &str) -> Result<PlanPatch, Diagnostics> {
    let (agents, catalog, request) = (agents(), catalog(), request());
    let context = PatchContext { agents: &agents, catalog: &catalog, request: &request };
    load_plan_patch("replan 1", text, &context).map(|(patch, _)| patch)
}

#[test]
fn combines_kept_and_new_tasks() {
    let text = "keep: [open]\ntasks:\n\
        - { id: t1, agent: research, tool: search, with: { query: \"${{ tasks.find.text }} ${{ inputs.city }}\" } }\n\
        - { id: t2, needs: [t1, open], agent: archive, tool: find, with: { all: \"${{ tasks.busy.outputs }}\" } }\n";
    let patch = load_patch(text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let needs = |index: usize| patch.added[index].needs.iter().map(|id| id.as_str()).collect::<Vec<_>>();
    assert_eq!((needs(0), needs(1)), (vec!["find"], vec!["t1", "open", "busy"]));
    assert_eq!((patch.kept, patch.removed), (vec!["open".into()], vec!["lost".into(), "last".into()]));
    assert!(patch.added.iter().all(|task| task.on_failure == OnFailure::Replan && task.approve.is_none()));
    let agents: Vec<_> = patch.agents.keys().map(AgentId::as_str).collect();
    assert_eq!(agents, ["research", "archive"]);
}

#[test]
fn accepts_an_empty_patch() {
    let patch = load_patch("keep: [open]\ntasks: []\n").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(patch.added, []);
}

#[test]
fn new_tasks_keep_required_approvals() {
    let text = "keep: [open]\ntasks: [{ id: t1, agent: archive, tool: reserve }]\n";
    let patch = load_patch(text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let question = patch.added[0].approve.as_ref().map(|approve| approve.0.clone());
    assert_eq!(question, Some(json!("call `archive.reserve` for the new task `t1`?")));
}

#[test]
fn reports_all_errors_of_a_patch() {
    let text = "keep: [lost, last, find, opn]\ntasks:\n\
        - { id: open, agent: research, tool: fetch, with: { url: u } }\n\
        - { id: answer, agent: research, tool: fetch, with: { url: u } }\n\
        - { id: t1, needs: [t2, t9], agent: research, tool: fetch, with: { url: \"${{ tasks.read.output }}\" } }\n\
        - { id: t2, needs: [t1, lost], agent: research, tool: serch, with: { query: \"${{ tasks.busy.text }}\" } }\n";
    let mistakes = load_patch(text).expect_err("it is wrong");
    insta::assert_snapshot!(mistakes.to_string());
}

#[test]
fn outputs_require_their_pending_tasks() {
    let mistakes = load_patch("keep: []\ntasks: []\n").expect_err("it is wrong");
    let messages: Vec<_> = mistakes.list().iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(messages, ["`open` must be kept: the plan's output `it` refers to it"]);
}
