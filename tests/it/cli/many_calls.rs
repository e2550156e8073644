//! A run of many calls whose events and results exceed the capacity of a pipe.

use std::process::{Command, Stdio};

use crate::support::workspace::Workspace;

/// The number of calls in the run.
pub(crate) const CALLS: usize = 1_000;

/// Returns a workspace with `agents` and a plan in which each call returns about `result` bytes.
pub(crate) fn place(agents: &[&str], result: usize) -> Workspace {
    let place = Workspace::new();
    place.write_agents(agents);
    let items: Vec<_> = (0..CALLS).collect();
    place.write("inputs.yaml", format!("items: {items:?}\ntext: {}\n", "x".repeat(result)));
    let plan = "
        name: many
        inputs: { items: { type: array, required: true }, text: { type: string, required: true } }
        tasks:
          - id: all
            foreach: ${{ inputs.items }}
            as: item
            agent: odd-good
            tool: echo
            with: { text: '${{ item }} ${{ inputs.text }}' }
        ";
    place.write("plan.yaml", plan);
    place
}

/// Returns the command that runs the plan, with a pipe for stdout.
pub(crate) fn command(place: &Workspace, arguments: &[&str]) -> Command {
    let mut command =
        place.command(["run", "plan.yaml", "--params-file", "inputs.yaml", "--no-input", "--journal", "j.db"]);
    command.args(arguments).stdout(Stdio::piped());
    command
}
