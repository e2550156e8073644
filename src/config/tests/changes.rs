//! Tests of the descriptions of changed plans and sections.

use super::*;
use crate::config::changes::{agent_changes, plan_changes};

#[test]
fn lists_every_changed_task_and_key() {
    let agents =
        parse_agents("agents.toml", "[agents.a]\ncommand = \"x\"", &TestEnvironment::of(&[])).expect("an agents file");
    let plan = |text: &str| load_plan("p.yaml", text, &agents, None).expect("a plan").plan;
    let before =
        plan("name: p\nmax_parallel: 2\ntasks:\n- {id: one, agent: a, tool: t}\n- {id: two, agent: a, tool: t}\n");
    assert_eq!(plan_changes(&before, &before), [""; 0]);
    let now = plan(
        "name: p\nmax_parallel: 3 # more\ntasks:\n- {id: one, agent: a, tool: t, timeout: 5s, with: {x: 1}}\n\
         - {id: three, agent: a, tool: t}\n",
    );
    assert_eq!(
        plan_changes(&before, &now),
        [
            "the plan's `max_parallel` has changed",
            "task `one` has changed: call or prompt, `timeout`",
            "task `two` was removed",
            "task `three` was added",
        ]
    );
}

#[test]
fn separates_policy_changes_from_other_changes() {
    let of = |text: &str| {
        let file = parse_agents("agents.toml", text, &TestEnvironment::of(&[])).expect("an agents file");
        file.agents["a"].policy.clone()
    };
    let id = AgentId::from("a");
    let before = of("[agents.a]\ncommand = \"x\"");
    let change = |text: &str| agent_changes(&id, &before, Some(&of(text)));
    assert_eq!(change("[agents.a] # the same\ncommand = \"x\""), None);
    let section = change("[agents.a]\ncommand = \"y\"").expect("a change");
    assert_eq!(section, "the section of agent `a` in the agents file has changed");
    let policy = change("[agents.a]\ncommand = \"x\"\nrequired = true").expect("a change");
    assert_eq!(policy, "agent `a` has changed: `required`");
    assert_eq!(agent_changes(&id, &before, None).expect("gone"), "agent `a` is no longer in the agents file");
}
