//! Draws a plan as text, as a Mermaid flowchart, or in Graphviz's DOT language. All text of the plan is escaped.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use super::layout::{LayoutEdge, layers};
use crate::model::text::truncate_chars;
use crate::model::{Operation, Plan, Task, TaskId, Template, Wait, Work, value_as_text};
use crate::view::text::{count_text, printable};

/// The maximum length of a condition, list, or question in a node, in characters.
const MAX_LABEL_CHARS: usize = 60;

/// Draws the plan as a Mermaid flowchart (<https://mermaid.js.org/syntax/flowchart.html>).
///
/// Tasks with `foreach` have double sides, and tasks that need approval are hexagons. Edges to a task with a condition
/// are dotted.
pub fn mermaid(plan: &Plan) -> String {
    let mut drawing = String::from("flowchart TD\n");
    mermaid_scope(&plan.tasks, "t", 1, &mut drawing);
    drawing
}

/// Draws the tasks of a scope. A group is a subgraph.
fn mermaid_scope(tasks: &[Arc<Task>], prefix: &str, level: usize, drawing: &mut String) {
    let indent = "  ".repeat(level);
    for (index, task) in tasks.iter().enumerate() {
        let label: Vec<_> = label_lines(task).iter().map(|line| mermaid_text(line)).collect();
        let label = label.join("<br/>");
        if !task.members().is_empty() {
            push_line(drawing, format_args!("{indent}subgraph {prefix}{index}[\"{label}\"]\n"));
            mermaid_scope(task.members(), &format!("{prefix}{index}_"), level + 1, drawing);
            push_line(drawing, format_args!("{indent}end\n"));
            continue;
        }
        let (open, close) = match (&task.foreach, is_asked(task)) {
            (_, true) => ("{{", "}}"),
            (Some(_), false) => ("[[", "]]"),
            (None, false) => ("[", "]"),
        };
        push_line(drawing, format_args!("{indent}{prefix}{index}{open}\"{label}\"{close}\n"));
    }
    for (from, to) in edges(tasks) {
        let is_conditional = tasks[to].condition.is_some() || tasks[to].hook.is_some();
        let arrow = if is_conditional { "-.->" } else { "-->" };
        push_line(drawing, format_args!("{indent}{prefix}{from} {arrow} {prefix}{to}\n"));
    }
}

/// Returns whether a person is asked before or by a task.
fn is_asked(task: &Task) -> bool {
    task.approve.is_some() || matches!(task.work, Work::Ask(_))
}

/// Draws the plan in DOT (<https://graphviz.org/doc/info/lang.html>), with the same marks as [`mermaid`].
pub fn dot(plan: &Plan) -> String {
    let mut drawing = format!("digraph \"{}\" {{\n  node [shape=box];\n", dot_text(&plan.name));
    dot_scope(&plan.tasks, "t", 1, &mut drawing);
    drawing.push_str("}\n");
    drawing
}

/// Draws the tasks of a scope. A group is a cluster, and a node in it stands for the group in edges.
fn dot_scope(tasks: &[Arc<Task>], prefix: &str, level: usize, drawing: &mut String) {
    let indent = "  ".repeat(level);
    for (index, task) in tasks.iter().enumerate() {
        let label: Vec<_> = label_lines(task).iter().map(|line| dot_text(line)).collect();
        let label = label.join("\\n");
        let marks = match (&task.foreach, is_asked(task)) {
            (None, false) => "",
            (Some(_), false) => ", peripheries=2",
            (None, true) => ", shape=hexagon",
            (Some(_), true) => ", shape=hexagon, peripheries=2",
        };
        if task.members().is_empty() {
            push_line(drawing, format_args!("{indent}{prefix}{index} [label=\"{label}\"{marks}];\n"));
            continue;
        }
        push_line(drawing, format_args!("{indent}subgraph cluster_{prefix}{index} {{\n"));
        push_line(drawing, format_args!("{indent}  {prefix}{index} [label=\"{label}\"{marks}, style=bold];\n"));
        dot_scope(task.members(), &format!("{prefix}{index}_"), level + 1, drawing);
        push_line(drawing, format_args!("{indent}}}\n"));
    }
    for (from, to) in edges(tasks) {
        let is_conditional = tasks[to].condition.is_some() || tasks[to].hook.is_some();
        let style = if is_conditional { " [style=dashed]" } else { "" };
        push_line(drawing, format_args!("{indent}{prefix}{from} -> {prefix}{to}{style};\n"));
    }
}

/// Draws the plan as text for a terminal: tasks in waves, which start one after another.
pub fn task_tree(plan: &Plan) -> String {
    let waves = waves(plan);
    let count = waves.iter().max().map_or(0, |last| last + 1);
    let (tasks, counted) = (count_text(plan.tasks.len(), "task"), count_text(count, "wave"));
    let mut drawing = format!("{}: {tasks} in {counted}\n", printable(&plan.name));
    let number_width = count.to_string().len();
    for wave in 0..count {
        let members = plan.tasks.iter().zip(&waves).filter(|(_, of)| **of == wave).map(|(task, _)| task);
        let members: Vec<&Task> = members.map(|task| &**task).collect();
        for (index, task) in members.iter().enumerate() {
            let (number, branch) = match (index, members.len() - index) {
                (0, 1) => ((wave + 1).to_string(), "───"),
                (0, _) => ((wave + 1).to_string(), "─┬─"),
                (_, 1) => (String::new(), " └─"),
                _ => (String::new(), " ├─"),
            };
            let title = task.title.as_ref().map(|title| format!("  {title}")).unwrap_or_default();
            let head = printable(&format!("{}{title}", task.id)).into_owned();
            push_line(&mut drawing, format_args!("{number:>number_width$} {branch} {head}\n"));
            let trunk = if members.len() - index > 1 { '│' } else { ' ' };
            for line in detail_lines(task) {
                push_line(&mut drawing, format_args!("{:>number_width$}  {trunk}    {}\n", "", printable(&line)));
            }
        }
    }
    drawing
}

/// Returns what a task does, after which tasks, and under which conditions.
fn detail_lines(task: &Task) -> Vec<String> {
    let routes: Vec<_> = task.routes().iter().map(|route| format!("{}.{}", route.agent, route.tool)).collect();
    let mut lines = if routes.is_empty() { Vec::new() } else { vec![routes.join(", or else ")] };
    // The title and the routes are formatted above.
    lines.extend(label_lines(task).into_iter().skip(1 + routes.len()));
    let needs: Vec<&str> = task.needs.iter().map(TaskId::as_str).collect();
    if !needs.is_empty() {
        lines.push(format!("after {}", needs.join(", ")));
    }
    for member in task.members() {
        let title = member.title.as_ref().map(|title| format!("  {title}")).unwrap_or_default();
        lines.push(format!("· {}{title}", member.id));
        lines.extend(detail_lines(member).into_iter().map(|line| format!("    {line}")));
    }
    lines
}

/// Returns the wave of each task: the length of the longest chain of dependencies before it.
fn waves(plan: &Plan) -> Vec<usize> {
    let edges: Vec<LayoutEdge> = edges(&plan.tasks).map(|(from, to)| LayoutEdge { from, to }).collect();
    let mut waves = layers(plan.tasks.len(), &edges);
    // Hooks of the plan run after everything else.
    let last = plan.tasks.iter().zip(&waves).filter(|(task, _)| !task.is_plan_hook()).map(|(_, wave)| *wave).max();
    for (_, wave) in plan.tasks.iter().zip(&mut waves).filter(|(task, _)| task.is_plan_hook()) {
        *wave += last.map_or(0, |last| last + 1);
    }
    waves
}

fn push_line(drawing: &mut String, line: std::fmt::Arguments<'_>) {
    drawing.write_fmt(line).expect("a String takes every write");
}

/// Returns the edges from dependencies to dependents, as indexes of tasks in their scope.
fn edges(tasks: &[Arc<Task>]) -> impl Iterator<Item = (usize, usize)> {
    let indices: HashMap<&TaskId, usize> = tasks.iter().enumerate().map(|(index, task)| (&task.id, index)).collect();
    tasks
        .iter()
        .enumerate()
        .flat_map(|(to, task)| task.needs.iter().map(move |needs| (needs, to)))
        .filter_map(move |(needs, to)| Some((*indices.get(needs)?, to)))
}

/// Returns the lines of a node: the task, its routes, and its conditions.
fn label_lines(task: &Task) -> Vec<String> {
    let mut lines = vec![task.title.clone().unwrap_or_else(|| task.id.to_string())];
    let routes = task.routes().iter().map(|route| {
        let or = if route.rank == 0 { "" } else { "else " };
        format!("{or}{} · {}", route.agent, route.tool)
    });
    lines.extend(routes);
    if let (Operation::ReadResource, Some(Template(read))) = (task.operation(), task.arguments()) {
        let uri = read.get("uri").or_else(|| read.get("template")).unwrap_or(read);
        lines.push(expression_text(uri));
    }
    if let (Operation::RunCommand | Operation::SendRequest, Some(Template(parameters))) =
        (task.operation(), task.arguments())
    {
        lines.extend(parameters.get("command").map(expression_text));
        let method = parameters.get("method").and_then(|method| method.as_str()).unwrap_or("GET");
        lines.extend(parameters.get("url").map(|url| format!("{method} {}", expression_text(url))));
    }
    if let Some(prompt) = task.prompt() {
        lines.push(format!("prompt: {}", truncate_chars(&prompt.source.text(), MAX_LABEL_CHARS)));
    }
    match &task.work {
        Work::Group(group) => lines.extend(group.plan.as_ref().map(|plan| format!("plan {}", plan.name))),
        Work::Ask(ask) => lines.push(format!("asks: {}", expression_text(&ask.message.0))),
        Work::Wait(Wait::Sleep(duration)) => lines.push(format!("waits for {}", expression_text(&duration.0))),
        Work::Wait(Wait::Until(time)) => lines.push(format!("waits until {}", expression_text(&time.0))),
        Work::Wait(Wait::Signal(name)) => lines.push(format!("waits for the signal {}", expression_text(&name.0))),
        Work::Wait(Wait::File(file)) => {
            let change = if file.changed { "changes of the file" } else { "the file" };
            lines.push(format!("waits for {change} {}", expression_text(&file.path.0)));
        }
        Work::Wait(Wait::Resource(resource)) => {
            let uri = expression_text(&resource.uri.0);
            lines.push(format!("waits for changes of {uri} of {}", resource.agent));
        }
        Work::Stop(_) => lines.push("ends the run".to_owned()),
        Work::Call(_) | Work::Prompt(_) | Work::Synthesis(_) => {}
    }
    if let Some(repeat) = &task.repeat {
        let until = truncate_chars(&repeat.until.0, MAX_LABEL_CHARS);
        lines.push(format!("repeats until {until}, at most {} times", repeat.max));
    }
    if let Some(hook) = &task.hook {
        let of = hook.of.as_ref().map_or_else(|| "the plan".to_owned(), ToString::to_string);
        lines.push(format!("{} of {of}", hook.on.key()));
    }
    if let Some(foreach) = &task.foreach {
        lines.push(format!("for each {} of {}", foreach.binding, expression_text(&foreach.items.0)));
    }
    if let Some(condition) = &task.condition {
        lines.push(format!("if {}", truncate_chars(&condition.0, MAX_LABEL_CHARS)));
    }
    if let Some(question) = &task.approve {
        lines.push(format!("asks: {}", expression_text(&question.0)));
    }
    lines
}

fn expression_text(value: &serde_json::Value) -> String {
    truncate_chars(&value_as_text(value), MAX_LABEL_CHARS).into_owned()
}

/// Escapes a text for Mermaid: unsafe characters become character codes. A colon is one, since Mermaid takes a line with
/// `style`, a colon, and a character code for a style, and drops the semicolon at its end.
fn mermaid_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            c if c.is_alphanumeric() || " _-.,/·…".contains(c) => safe.push(c),
            c => push_line(&mut safe, format_args!("#{};", u32::from(c))),
        }
    }
    safe
}

/// Escapes a text for DOT, whose labels have escapes of their own and decode the entities of HTML.
fn dot_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '"' | '\\' => safe.extend(['\\', c]),
            '&' => safe.push_str("&amp;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Returns the text in one line, with control, reordering, and invisible characters as `\u{1b}`.
fn visible(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    printable(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan() -> Plan {
        let retry =
            json!({"max_attempts": 1, "backoff": {"initial": "1s", "factor": 2.0, "max": "30s", "jitter": 0.5}});
        let route = |agent: &str, rank: u32| json!({"agent": agent, "tool": "go", "rank": rank});
        let call = |routes: &[serde_json::Value]| json!({"call": {"routes": routes, "with": {}}});
        serde_json::from_value(json!({
            "name": "a \"quoted\" \\ name\nin two lines",
            "inputs": {},
            "max_parallel": 8,
            "agents": {},
            "tasks": [
                {"id": "find", "title": "Find <b>\"it\"</b>; `now`", "needs": [], "work": call(&[route("x", 0)]), "retry": retry, "on_failure": "fail"},
                {"id": "read", "needs": ["find"], "work": call(&[route("x", 0), route("y", 1)]), "retry": retry,
                 "foreach": {"items": "${{ tasks.find.output }}", "as": "hit"}, "on_failure": "fail"},
                {"id": "store", "needs": ["find", "read"], "if": "tasks.read.succeeded >= 2", "work": call(&[route("z", 0)]),
                 "approve": "Really\nstore?", "retry": retry, "on_failure": "fail"},
            ],
        }))
        .expect("the plan is one")
    }

    #[test]
    fn draws_a_mermaid_flowchart() {
        assert_eq!(
            mermaid(&plan()),
            "flowchart TD\n  \
             t0[\"Find #60;b#62;#34;it#34;#60;/b#62;#59; #96;now#96;<br/>x · go\"]\n  \
             t1[[\"read<br/>x · go<br/>else y · go<br/>for each hit of #36;#123;#123; tasks.find.output #125;#125;\"]]\n  \
             t2{{\"store<br/>z · go<br/>if tasks.read.succeeded #62;#61; 2<br/>asks#58; Really store#63;\"}}\n  \
             t0 --> t1\n  t0 -.-> t2\n  t1 -.-> t2\n"
        );
    }

    #[test]
    fn draws_waves_as_text() {
        let mut plan = plan();
        plan.tasks.push(std::sync::Arc::new(Task { id: TaskId::from("other"), ..(*plan.tasks[0]).clone() }));
        insta::assert_snapshot!(task_tree(&plan));
    }

    #[test]
    fn draws_dot() {
        assert_eq!(
            dot(&plan()),
            "digraph \"a \\\"quoted\\\" \\\\ name in two lines\" {\n  node [shape=box];\n  \
             t0 [label=\"Find <b>\\\"it\\\"</b>; `now`\\nx · go\"];\n  \
             t1 [label=\"read\\nx · go\\nelse y · go\\nfor each hit of ${{ tasks.find.output }}\", peripheries=2];\n  \
             t2 [label=\"store\\nz · go\\nif tasks.read.succeeded >= 2\\nasks: Really store?\", shape=hexagon];\n  \
             t0 -> t1;\n  t0 -> t2 [style=dashed];\n  t1 -> t2 [style=dashed];\n}\n"
        );
    }
}
