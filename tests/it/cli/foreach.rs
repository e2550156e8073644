//! The variables of an item of a `foreach` task, and nested lists.

use serde_json::json;

use crate::support::workspace::Workspace;

#[test]
fn items_have_an_index_and_nested_lists_are_flattened() {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let plan = "
        name: loops
        inputs: { pages: { type: array, default: [[a, b], [], [c]] } }
        tasks:
          - id: each
            foreach: ${{ inputs.pages | sum(start=[]) }}
            as: name
            agent: odd-good
            tool: echo
            with: { text: '${{ loop.index }} of ${{ loop.length }}: ${{ name }}' }
          - id: rest
            foreach: ${{ tasks.each.outputs }}
            as: name
            if: not loop.first
            agent: odd-good
            tool: echo
            with: { text: '${{ loop.index0 ~ name }}' }
        outputs: { each: '${{ tasks.each.outputs }}', rest: '${{ tasks.rest.succeeded }}' }
        ";
    let ended = place.run_plan(plan, &[]);
    assert_eq!(
        ended.result()["outputs"],
        json!({"each": ["1 of 3: a", "2 of 3: b", "3 of 3: c"], "rest": 2}),
        "{ended:?}"
    );
    let ended = place.run_plan(
        "name: x\ntasks: [{ id: a, agent: odd-good, tool: echo, with: { text: '${{ loop.index }}' } }]\n",
        &[],
    );
    assert_eq!((ended.code, ended.error_code()), (Some(2), "plan::unknown_name"));
}
