//! The table of measurements, for a terminal or in Markdown.

use crate::agent::AgentTransport;
use crate::comparison::{Durability, Figures, Round, Row, Sample};
use crate::targets::{TargetResult, target_results};
use crate::workload::Workload;

const COLUMN_TITLES: [&str; 11] = [
    "workload",
    "baseline",
    "durable",
    "kapell",
    "× durable",
    "of rounds",
    "× baseline",
    "µs per task",
    "CPU ×",
    "MB",
    "remarks",
];

/// The format of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Aligned columns.
    Columns,
    /// Markdown.
    Markdown,
}

/// Returns the table, and whether all targets are met.
pub(crate) fn render_table(all: &[Figures], over: AgentTransport, format: Format) -> (String, bool) {
    let mut rows = vec![COLUMN_TITLES.map(str::to_owned)];
    let mut holds = true;
    for figures in all {
        let verdicts = target_results(figures, over, all);
        holds &= verdicts.iter().all(TargetResult::is_met);
        rows.push(row_cells(figures, &verdicts));
    }
    let text = match format {
        Format::Columns => columns(&rows),
        Format::Markdown => markdown(&rows),
    };
    (text, holds)
}

fn row_cells(figures: &Figures, verdicts: &[TargetResult]) -> [String; 11] {
    let wall = |of: fn(&Round) -> &Sample| format!("{:.1} ms", figures.median(|round| wall_ms(of(round))));
    let spread = figures.rounds.iter().map(ratio_to_durable);
    let (min, max) = spread.fold((f64::MAX, 0.0_f64), |(min, max), next| (min.min(next), max.max(next)));
    [
        figures.row.name(),
        wall(|round| &round.in_memory),
        wall(|round| &round.durable),
        wall(|round| &round.kapell),
        format!("{:.2}", figures.ratio_to_durable()),
        format!("{min:.2}–{max:.2}"),
        format!("{:.2}", figures.ratio_to_memory()),
        format!("{:.0}", figures.task_us()),
        format!("{:.2}", figures.median(|round| round.kapell.cpu.as_secs_f64() / round.durable.cpu.as_secs_f64())),
        format!("{:.0}", figures.peak_mb()),
        row_remarks(figures, verdicts).join("; "),
    ]
}

fn row_remarks(figures: &Figures, verdicts: &[TargetResult]) -> Vec<String> {
    let mut remarks = Vec::new();
    for TargetResult { target, actual } in verdicts {
        let verdict = TargetResult { target: *target, actual: *actual };
        let word = if verdict.is_met() { "holds" } else { "MISSED" };
        remarks.push(format!("≤ {} {} {word}: {}", target.maximum, target.figure.unit(), format_rounded(*actual)));
    }
    match figures.row.workload {
        Workload::Pair => {
            let baseline = figures.median(|round| round.durable.first_call.as_secs_f64() * 1e3);
            remarks.push(format!("first call of the durable baseline: {baseline:.1} ms"));
        }
        Workload::Sleep1000 => {
            let memory = figures.ratio_to_ideal(|round| &round.in_memory).unwrap_or_default();
            let durable = figures.ratio_to_ideal(|round| &round.durable).unwrap_or_default();
            remarks.push(format!("baseline {memory:.2}, durable baseline {durable:.2}"));
        }
        Workload::Progress50 => {
            let seen = figures.median(|round| round.in_memory.notifications as f64);
            let kept = figures.median(|round| round.kapell.notifications as f64);
            remarks.push(format!("{kept} of {seen} notifications kept, including the last of each task"));
        }
        _ => {}
    }
    remarks
}

fn format_rounded(number: f64) -> String {
    if number < 10.0 { format!("{number:.2}") } else { format!("{number:.0}") }
}

fn columns(rows: &[[String; 11]]) -> String {
    let wide = |text: &str| text.chars().count();
    let widths: Vec<usize> =
        (0..COLUMN_TITLES.len()).map(|at| rows.iter().map(|row| wide(&row[at])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
            0 => format!("{cell:width$}"),
            _ if at + 1 == COLUMN_TITLES.len() => cell.clone(),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn markdown(rows: &[[String; 11]]) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        text += &format!("| {} |\n", row.join(" | "));
        if at == 0 {
            text += &format!("|---{}|---|\n", "|--:".repeat(COLUMN_TITLES.len() - 2));
        }
    }
    text
}

impl Row {
    /// Returns the name of the row.
    pub(crate) fn name(self) -> String {
        match self.durability {
            Durability::Full => self.workload.to_string(),
            Durability::Normal => format!("{}, normal", self.workload),
        }
    }
}

impl Figures {
    /// Returns the median over the rounds. Ratios are computed within each round, since the machine differs between
    /// rounds.
    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        let mut all: Vec<f64> = self.rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        match all.len() % 2 {
            1 => all[middle],
            _ => f64::midpoint(all[middle - 1], all[middle]),
        }
    }

    /// Returns the ratio of kapell's time to that of the baseline with a journal.
    pub(crate) fn ratio_to_durable(&self) -> f64 {
        self.median(ratio_to_durable)
    }

    /// Returns the ratio of kapell's time to that of the baseline without a journal.
    pub(crate) fn ratio_to_memory(&self) -> f64 {
        self.median(|round| wall_ms(&round.kapell) / wall_ms(&round.in_memory))
    }

    /// Returns the ratio of the makespan of `of` to that of the sleeps alone, if there are any.
    pub(crate) fn ratio_to_ideal(&self, of: impl Fn(&Round) -> &Sample) -> Option<f64> {
        let ideal = self.row.workload.ideal_ms()?;
        Some(self.median(|round| of(round).makespan.unwrap_or_default().as_secs_f64() * 1e3 / ideal))
    }

    /// Returns kapell's time for each task, in microseconds.
    pub(crate) fn task_us(&self) -> f64 {
        self.median(|round| wall_ms(&round.kapell)) * 1e3 / self.tasks as f64
    }

    /// Returns the time from kapell's start to its first call, in milliseconds.
    pub(crate) fn first_call_ms(&self) -> f64 {
        self.median(|round| round.kapell.first_call.as_secs_f64() * 1e3)
    }

    /// Returns kapell's peak memory, in MB.
    pub(crate) fn peak_mb(&self) -> f64 {
        self.median(|round| round.kapell.peak_kib as f64 * 1_024.0 / 1e6)
    }

    /// Returns the maximum of kapell's concurrent requests to the language model.
    pub(crate) fn peak_llm_requests(&self) -> usize {
        self.median(|round| round.kapell.peak_llm_requests as f64) as usize
    }
}

fn ratio_to_durable(round: &Round) -> f64 {
    wall_ms(&round.kapell) / wall_ms(&round.durable)
}

fn wall_ms(sample: &Sample) -> f64 {
    sample.wall.as_secs_f64() * 1e3
}
