//! Formats text for a line of a report: escaped and short, with readable durations and counts.

use std::time::Duration;

use crate::model::text::truncate_chars;
pub use crate::model::text::{
    printable, printable_after, printable_lines, printable_styled, printable_text, printable_unstyled, safe_json,
};
use crate::model::{AgentId, Answer, MicroDollars, Task, Usage, Work};

/// The maximum length of an agent's text in a line, in characters.
const MAX_TEXT_CHARS: usize = 400;

/// Returns [`printable`] text, truncated to fit a line of a report.
pub fn truncated(text: &str) -> String {
    printable(&truncate_chars(text.trim(), MAX_TEXT_CHARS)).into_owned()
}

/// Appends a text as HTML and XML have it, as an element's text or as the value of an attribute.
pub fn push_markup_text(markup: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => markup.push_str("&amp;"),
            '<' => markup.push_str("&lt;"),
            '>' => markup.push_str("&gt;"),
            '"' => markup.push_str("&quot;"),
            '\'' => markup.push_str("&#39;"),
            c => markup.push(c),
        }
    }
}

/// Formats a duration to about three digits: `340ms`, `12.3s`, `4m05s`, `1h02m`, `3d04h`.
pub fn format_elapsed(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = millis / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{seconds}.{}s", millis % 1_000 / 100),
        60_000..3_600_000 => format!("{minutes}m{:02}s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Formats a duration as a clock shows it: `0:12`, `4:05`, `1:02:03`.
pub fn clock_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        _ => format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60),
    }
}

/// Formats an estimated duration, rounded so that it changes rarely: `0:40`, `4:10`, `1:05:00`.
pub fn estimate_text(duration: Duration) -> String {
    let step = match duration.as_secs() {
        0..10 => 1,
        10..60 => 5,
        60..600 => 10,
        _ => 60,
    };
    clock_text(Duration::from_secs((duration.as_secs() + step / 2) / step * step))
}

/// Formats a large count in few characters: `950`, `3.2k`, `1.4M`.
pub fn short_count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1}k", number as f64 / 1_000.0),
        _ => format!("{:.1}M", number as f64 / 1_000_000.0),
    }
}

/// Formats a cost to the cent, and a smaller one to two digits.
pub fn cost_text(cost: MicroDollars) -> String {
    match cost.usd() {
        usd if usd >= 0.01 => format!("${usd:.2}"),
        usd if usd >= 0.000_1 => format!("${usd:.4}"),
        usd => format!("${usd:.6}"),
    }
}

/// Formats the route of a call: `agent.tool`.
pub(crate) fn route_name(agent: &AgentId, tool: &str) -> String {
    truncated(&format!("{agent}.{tool}"))
}

/// Describes a task of a plan in a line: `t1: research.search, What to read`.
pub fn describe_task(task: &Task) -> String {
    let work = match &task.work {
        Work::Prompt(_) | Work::Synthesis(_) => "the language model".to_owned(),
        _ => work_text(task),
    };
    let title = task.title.as_ref().map(|title| format!(", {title}")).unwrap_or_default();
    truncated(&format!("{}: {work}{title}", task.id))
}

/// Describes the work of a task: its routes, or what it does without an agent.
pub fn work_text(task: &Task) -> String {
    match &task.work {
        Work::Call(call) => {
            let routes: Vec<_> = call.routes.iter().map(|route| format!("{}.{}", route.agent, route.tool)).collect();
            routes.join(" or ")
        }
        Work::Prompt(_) | Work::Synthesis(_) => "asks the language model".to_owned(),
        Work::Group(group) => match &group.plan {
            Some(plan) => format!("runs the plan {}", plan.name),
            None => format!("a group of {}", count_text(group.tasks.len(), "task")),
        },
        Work::Ask(_) => "asks a person".to_owned(),
        Work::Wait(_) => "waits".to_owned(),
        Work::Stop(_) => "ends the run".to_owned(),
    }
}

/// Formats a count: `1 task`, `2 tasks`.
pub fn count_text(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Formats a number of bytes for people.
pub fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1_024 => count_text(bytes as usize, "byte"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Describes the results and calls of an earlier run that a task reuses.
pub fn kept(results: usize, unsettled: usize) -> String {
    let calls = || format!("{} of unknown outcome", count_text(unsettled, "earlier call"));
    match (results, unsettled) {
        (_, 0) => format!("reuses {}", count_text(results, "earlier result")),
        (0, _) => format!("has {}", calls()),
        _ => format!("reuses {} and has {}", count_text(results, "earlier result"), calls()),
    }
}

/// Describes the action of an answer.
pub fn answer_action(answer: &Answer) -> &'static str {
    match answer {
        Answer::Accept { .. } => "accepted",
        Answer::Decline => "declined",
        Answer::Cancel => "dismissed",
    }
}

/// Formats token counts.
pub(crate) fn tokens_text(usage: Usage) -> String {
    format!("{} tokens in, {} out", usage.input_tokens, usage.output_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_long_text() {
        assert_eq!(truncated(" short\n"), "short");
        assert_eq!(truncated(&"é".repeat(1_000)), "é".repeat(MAX_TEXT_CHARS) + "…");
    }

    #[test]
    fn clocks_counts_and_costs_are_short() {
        let clocks = [0, 12, 245, 3_723].map(|seconds| clock_text(Duration::from_secs(seconds)));
        assert_eq!(clocks, ["0:00", "0:12", "4:05", "1:02:03"]);
        let estimates = [7, 42, 247, 3_723].map(|seconds| estimate_text(Duration::from_secs(seconds)));
        assert_eq!(estimates, ["0:07", "0:40", "4:10", "1:02:00"]);
        assert_eq!([950, 3_249, 1_400_000].map(short_count), ["950", "3.2k", "1.4M"]);
        let costs = [1.5, 0.024, 0.0042, 0.000_012].map(|usd| cost_text(MicroDollars::from_usd(usd)));
        assert_eq!(costs, ["$1.50", "$0.02", "$0.0042", "$0.000012"]);
    }

    #[test]
    fn durations_have_three_digits() {
        let shown = [0, 340, 12_345, 59_999, 245_000, 3_720_000, 273_600_000]
            .map(|ms| format_elapsed(Duration::from_millis(ms)));
        assert_eq!(shown, ["0ms", "340ms", "12.3s", "59.9s", "4m05s", "1h02m", "3d04h"]);
    }
}
