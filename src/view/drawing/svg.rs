//! Draws a task graph as SVG, with the states of a run in color, as a mark, and as a word.

use std::fmt::Write;

use super::layout::Point;
use super::plan_drawing::{DrawnTask, PlanDrawing};
use crate::view::TaskStatus;
use crate::view::text::{printable, push_markup_text};

/// The space around the drawing.
const MARGIN: f64 = 16.0;
/// The radius of the corners of boxes.
const CORNER_RADIUS: f64 = 8.0;

/// The horizontal distance up to which a segment of an edge is a straight line.
const STRAIGHT_WITHIN: f64 = 3.0;

/// The colors of both schemes. Every text has a contrast of at least 4.5 to its background.
const STYLE: &str = "\
:root{color-scheme:light dark}\
.back{fill:#fff}.box{fill:#fff;stroke:#8a93a3}.group{fill:#f5f7fa;stroke:#c3cad5;stroke-dasharray:none}\
.edge{fill:none;stroke:#9aa3b2;stroke-width:1.5}.head{fill:#9aa3b2}\
text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1c2330}.detail{font-size:11px;fill:#566072}\
.succeeded{stroke:#1a7f37}.failed{stroke:#c02a2f;stroke-width:2}.running{stroke:#0b62c4;stroke-width:2}\
.skipped,.cancelled{stroke-dasharray:4 3}\
.mark.succeeded{fill:#1a7f37;stroke:none}.mark.failed{fill:#c02a2f;stroke:none}.mark.running{fill:#0b62c4;stroke:none}\
.mark{font-size:11px;stroke:none}\
@media (prefers-color-scheme:dark){.back{fill:#12161d}.box{fill:#1b212b;stroke:#6c7686}.group{fill:#161b23;stroke:#3a4350}\
.edge{stroke:#6c7686}.head{fill:#6c7686}text{fill:#e6eaf0}.detail{fill:#a7b0be}\
.succeeded{stroke:#56c271}.failed{stroke:#ff7b78}.running{stroke:#6cb2ff}\
.mark.succeeded{fill:#56c271}.mark.failed{fill:#ff7b78}.mark.running{fill:#6cb2ff}}";

/// Draws a task graph as SVG (<https://www.w3.org/TR/SVG2/>). `status` returns the state of a task by its ID, or `None`
/// in a drawing of a plan.
pub fn svg(name: &str, drawing: &PlanDrawing, status: impl Fn(&DrawnTask) -> Option<TaskStatus>) -> String {
    let (width, height) = (drawing.width + 2.0 * MARGIN, drawing.height + 2.0 * MARGIN);
    let mut svg = String::new();
    push(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"-{MARGIN} -{MARGIN} {width} {height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"back\" x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"{width}\" height=\"{height}\"/>\n",
            xml_text(name)
        ),
    );
    // Groups are below edges, and edges are below tasks.
    for task in drawing.tasks.iter().filter(|task| task.is_group) {
        push_task(&mut svg, task, status(task));
    }
    for edge in &drawing.edges {
        let dashes = if edge.is_conditional { " stroke-dasharray=\"5 4\"" } else { "" };
        push(&mut svg, format_args!("<path class=\"edge\"{dashes} d=\"{}\"/>\n", path_data(&edge.points)));
        if let Some(end) = edge.points.last() {
            let (x, y) = (end.x, end.y);
            let head = format_args!("<path class=\"head\" d=\"M{x} {y}l-4 -7h8z\"/>\n").to_string();
            svg.push_str(&head);
        }
    }
    for task in drawing.tasks.iter().filter(|task| !task.is_group) {
        push_task(&mut svg, task, status(task));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the commands of a path that leaves and reaches each layer vertically.
fn path_data(points: &[Point]) -> String {
    let mut data = String::new();
    let Some((first, rest)) = points.split_first() else { return data };
    push(&mut data, format_args!("M{} {}", first.x, first.y));
    let mut from = first;
    for to in rest {
        // A bend of a few pixels looks like a mistake.
        if (to.x - from.x).abs() <= STRAIGHT_WITHIN {
            push(&mut data, format_args!("L{} {}", to.x, to.y));
        } else {
            let middle = (from.y + to.y) / 2.0;
            push(&mut data, format_args!("C{} {middle} {} {middle} {} {}", from.x, to.x, to.x, to.y));
        }
        from = to;
    }
    data
}

fn push_task(svg: &mut String, task: &DrawnTask, status: Option<TaskStatus>) {
    let DrawnTask { x, y, width, height, .. } = *task;
    let word = status.map(|status| status.to_string()).unwrap_or_default();
    let kind = if task.is_group { "group" } else { "box" };
    let (name, detail) = (xml_text(&task.name), xml_text(&task.detail));
    let state = if word.is_empty() { String::new() } else { format!(", {word}") };
    push(svg, format_args!("<g><title>{name}: {detail}{state}</title>"));
    // A second border shows that the task has several calls.
    if task.is_repeated {
        push(
            svg,
            format_args!(
                "<rect class=\"{kind}\" x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\" rx=\"{CORNER_RADIUS}\"/>",
                x + 4.0,
                y + 4.0
            ),
        );
    }
    push(
        svg,
        format_args!(
            "<rect class=\"{kind} {word}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{CORNER_RADIUS}\"/>"
        ),
    );
    let text_x = x + 12.0;
    push(svg, format_args!("<text x=\"{text_x}\" y=\"{}\">{name}</text>", y + 20.0));
    if !task.is_group {
        let line = if word.is_empty() { detail } else { format!("{word} · {detail}") };
        push(svg, format_args!("<text class=\"detail\" x=\"{text_x}\" y=\"{}\">{line}</text>", y + 38.0));
    }
    if let Some(status) = status {
        let mark = mark(status);
        let (mark_x, mark_y) = (x + width - 20.0, y + 20.0);
        push(svg, format_args!("<text class=\"mark {word}\" x=\"{mark_x}\" y=\"{mark_y}\">{mark}</text>"));
    }
    svg.push_str("</g>\n");
}

/// Returns the mark of a state, so that color is not needed to see it.
fn mark(status: TaskStatus) -> char {
    match status {
        TaskStatus::Waiting => '○',
        TaskStatus::Running => '●',
        TaskStatus::Succeeded => '✓',
        TaskStatus::Failed => '✗',
        TaskStatus::Skipped => '–',
        TaskStatus::Cancelled => '⊘',
    }
}

/// Escapes text for XML, without characters that XML does not allow or that reorder text.
fn xml_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let allowed = printable(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    push_markup_text(&mut safe, &allowed);
    safe
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::model::Task;

    fn task(id: &str, title: &str, needs: &[&str]) -> Arc<Task> {
        let call = json!({"routes": [{"agent": "a", "tool": "go"}], "with": {}});
        let task = json!({"id": id, "title": title, "needs": needs, "work": {"call": call}});
        Arc::new(serde_json::from_value(task).expect("a task"))
    }

    #[test]
    fn draws_states_as_color_mark_and_word() {
        let tasks = [task("a", "Find", &[]), task("b", "Read it", &["a"])];
        let drawing = PlanDrawing::new(&tasks);
        insta::assert_snapshot!(svg("two tasks", &drawing, |task| Some(match task.id.as_str() {
            "a" => TaskStatus::Succeeded,
            _ => TaskStatus::Failed,
        })));
    }

    #[test]
    fn hostile_titles_are_text() {
        let tasks = [task("a", "</text><script>x</script>\u{202e}\u{1b}[0m\"'&", &[])];
        let svg = svg("<b>\u{0}", &PlanDrawing::new(&tasks), |_| None);
        assert!(!svg.contains("<script") && !svg.contains("<b>"), "{svg}");
        assert!(!svg.contains(['\u{202e}', '\u{1b}', '\u{0}']), "{svg}");
    }
}
