//! Draws a small task graph with the characters of a terminal: a box for each task, and lines for its dependencies.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::plan_drawing::{DrawnTask, PlanDrawing};
use super::scope_metrics::ScopeMetrics;
use crate::model::Plan;
use crate::view::TaskStatus;
use crate::view::text::{count_text, printable};

/// The maximum number of boxes. A list says more about a larger plan.
const MAX_BOXES: usize = 40;
/// The rows of a gap between layers beside those with horizontal lines: one below a box, and one with the arrowhead.
const GAP_ROWS: usize = 2;
/// The greatest distance of the end of a line from the middle of a box, whose width is at least 14.
const MAX_END_OFFSET: isize = 4;

/// What the second line of a repeated task begins with.
const REPEATED: &str = "each: ";

/// The characters of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineCharacters {
    /// Box-drawing characters.
    Unicode,
    /// Characters that every terminal has.
    Ascii,
}

/// Why a graph is not drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDrawn {
    /// It has too many tasks.
    #[error("the graph has more than {MAX_BOXES} boxes")]
    TooLarge,
    /// It is wider than the terminal.
    #[error("the graph is {needed} columns wide, and the terminal has {available}")]
    TooWide {
        /// The columns that it needs.
        needed: usize,
        /// The columns that there are.
        available: usize,
    },
    /// Its lines would be ambiguous.
    #[error("the lines of the graph cross too often")]
    Tangled,
}

/// Draws a plan, or a run if `status` returns the state of each task. Members of groups are counted, not drawn.
///
/// # Errors
/// Returns why a list is better.
pub fn box_graph(
    plan: &Plan,
    status: impl Fn(&DrawnTask) -> Option<TaskStatus>,
    characters: LineCharacters,
    columns: usize,
) -> Result<String, NotDrawn> {
    if plan.tasks.len() > MAX_BOXES {
        return Err(NotDrawn::TooLarge);
    }
    let metrics = ScopeMetrics::characters(columns, GAP_ROWS + 1);
    let drawing = PlanDrawing::with_metrics(&plan.tasks, &metrics);
    let tracks = Gaps::new(&drawing, &metrics)?.tracks();
    // The gaps are made as high as the most crowded one needs. Columns do not depend on it.
    let metrics = ScopeMetrics::characters(columns, GAP_ROWS + tracks);
    let drawing = PlanDrawing::with_metrics(&plan.tasks, &metrics);
    let needed = drawing.width.ceil() as usize;
    if needed > columns {
        return Err(NotDrawn::TooWide { needed, available: columns });
    }
    let mut canvas = Canvas::new(&drawing);
    drawing.tasks.iter().for_each(|task| canvas.draw_box(task, status(task), characters));
    Gaps::new(&drawing, &metrics)?.draw(&mut canvas);
    let mut text = format!("{}: {}\n\n", printable(&plan.name), count_text(plan.tasks.len(), "task"));
    text.push_str(&canvas.into_text(characters));
    if drawing.edges.iter().any(|edge| edge.is_conditional) {
        let (head, words) = (arrowhead(true, characters), "leads to a task that does not always run");
        text.push_str(&format!("\n{head} {words}\n"));
    }
    Ok(text)
}

fn arrowhead(is_conditional: bool, characters: LineCharacters) -> char {
    match (characters, is_conditional) {
        (LineCharacters::Unicode, false) => '▼',
        (LineCharacters::Unicode, true) => '▽',
        (LineCharacters::Ascii, false) => 'v',
        (LineCharacters::Ascii, true) => ':',
    }
}

/// A place in the grid of characters.
type Column = usize;
type Row = usize;

/// The lines between two layers: those that start in the row below one layer and end in the row above the next.
#[derive(Debug, Default)]
struct Gap {
    /// The columns where the lines of each start column end.
    targets: BTreeMap<Column, BTreeSet<Column>>,
    /// The middles of the boxes where lines end, with whether their tasks do not always run.
    heads: BTreeMap<Column, bool>,
}

/// All gaps of a drawing by their first row, with their height.
struct Gaps {
    gaps: BTreeMap<Row, Gap>,
    height: usize,
    /// The lines that pass a layer beside its boxes: the column, and the first and the last row.
    passes: Vec<(Column, Row, Row)>,
    buses: BTreeMap<Row, Vec<Bus>>,
}

/// Lines that connect some start columns with some end columns: all of the former with all of the latter.
#[derive(Debug, Clone)]
struct Bus {
    starts: BTreeSet<Column>,
    /// The columns where it ends. No two buses end in the same column, as long as boxes are wide enough.
    ends: BTreeSet<Column>,
    /// The columns of `ends` with an arrowhead, with whether the task does not always run.
    heads: BTreeMap<Column, bool>,
    /// The row of its horizontal part in the gap.
    track: usize,
}

impl Bus {
    fn span(&self) -> (Column, Column) {
        let columns = || self.starts.iter().chain(&self.ends).copied();
        (columns().min().unwrap_or_default(), columns().max().unwrap_or_default())
    }

    /// Returns whether it has no horizontal part.
    fn is_straight(&self) -> bool {
        let (start, end) = self.span();
        start == end
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ((start, end), (other_start, other_end)) = (self.span(), other.span());
        start <= other_end + 1 && other_start <= end + 1
    }

    /// Returns whether this bus must be above `other`: a column where this one starts is one where the other ends.
    fn is_above(&self, other: &Self) -> bool {
        self.starts.iter().any(|column| other.ends.contains(column))
    }
}

impl Gaps {
    fn new(drawing: &PlanDrawing, metrics: &ScopeMetrics) -> Result<Self, NotDrawn> {
        let middles: HashMap<&str, Column> =
            drawing.tasks.iter().map(|task| (task.id.as_str(), (task.x + task.width / 2.0) as usize)).collect();
        let mut this =
            Self { gaps: BTreeMap::new(), height: metrics.layer_gap(), passes: Vec::new(), buses: BTreeMap::new() };
        for edge in &drawing.edges {
            let (Some(&from), Some(&to)) = (middles.get(edge.from.as_str()), middles.get(edge.to.as_str())) else {
                continue;
            };
            let last = edge.points.len().saturating_sub(1);
            let column = |index: usize| match index {
                0 => from,
                index if index == last => to,
                index => edge.points[index].x as usize,
            };
            for (index, pair) in edge.points.windows(2).enumerate() {
                let (start, end) = (column(index), column(index + 1));
                if index % 2 == 1 {
                    this.passes.push((start, pair[0].y as usize, pair[1].y as usize));
                    continue;
                }
                let gap = this.gaps.entry(pair[0].y as usize).or_default();
                gap.targets.entry(start).or_default().insert(end);
                if index + 1 == last {
                    *gap.heads.entry(end).or_insert(true) &= edge.is_conditional;
                }
            }
        }
        this.passes.sort_unstable();
        this.passes.dedup();
        this.buses = this.gaps.iter().map(|(row, gap)| Ok((*row, gap.buses()?))).collect::<Result<_, _>>()?;
        Ok(this)
    }

    /// Returns the maximum number of rows with horizontal lines in a gap.
    fn tracks(&self) -> usize {
        let tracks = self.buses.values().flatten().map(|bus| bus.track + 1);
        tracks.max().unwrap_or(1)
    }

    fn draw(&self, canvas: &mut Canvas) {
        for (column, first, last) in &self.passes {
            canvas.draw_vertical(*column, first.saturating_sub(1), *last);
        }
        for (first, buses) in &self.buses {
            let last = first + self.height - 1;
            for bus in buses {
                let row = first + 1 + bus.track;
                bus.starts.iter().for_each(|column| canvas.draw_vertical(*column, first.saturating_sub(1), row));
                bus.ends.iter().for_each(|column| canvas.draw_vertical(*column, row, last));
                let to_bends = bus.ends.iter().filter(|column| !bus.heads.contains_key(column));
                to_bends.for_each(|column| canvas.draw_vertical(*column, last, last + 1));
                canvas
                    .heads
                    .extend(bus.heads.iter().map(|(column, is_conditional)| ((last, *column), *is_conditional)));
            }
            for bus in buses.iter().filter(|bus| !bus.is_straight()) {
                canvas.draw_horizontal(first + 1 + bus.track, bus.span(), |column| {
                    bus.starts.contains(&column) || bus.ends.contains(&column)
                });
            }
        }
    }
}

impl Gap {
    /// Returns the lines with their rows. Starts with the same ends share a line; no others do, since it would look as if
    /// each led to all ends of the others.
    fn buses(&self) -> Result<Vec<Bus>, NotDrawn> {
        let mut by_ends: BTreeMap<&BTreeSet<Column>, BTreeSet<Column>> = BTreeMap::new();
        for (start, ends) in &self.targets {
            by_ends.entry(ends).or_default().insert(*start);
        }
        let mut buses: Vec<Bus> = by_ends
            .into_iter()
            .map(|(ends, starts)| Bus { starts, ends: ends.clone(), heads: BTreeMap::new(), track: 0 })
            .collect();
        for (middle, is_conditional) in &self.heads {
            end_side_by_side(&mut buses, *middle, *is_conditional);
        }
        let (straight, mut waiting): (Vec<Bus>, Vec<Bus>) = buses.into_iter().partition(Bus::is_straight);
        let mut placed: Vec<Bus> = Vec::new();
        while !waiting.is_empty() {
            let is_free = |bus: &Bus| waiting.iter().all(|other| std::ptr::eq(bus, other) || !other.is_above(bus));
            let next = waiting.iter().position(is_free).ok_or(NotDrawn::Tangled)?;
            let mut bus = waiting.remove(next);
            let above = placed.iter().filter(|other| other.is_above(&bus)).map(|other| other.track + 1);
            bus.track = above.max().unwrap_or(0);
            while placed.iter().any(|other| other.track == bus.track && other.overlaps(&bus)) {
                bus.track += 1;
            }
            placed.push(bus);
        }
        placed.extend(straight);
        Ok(placed)
    }
}

/// Moves the ends of lines at a box apart, from left to right as they start. One that comes straight from above stays.
fn end_side_by_side(buses: &mut [Bus], middle: Column, is_conditional: bool) {
    let mut arriving: Vec<usize> = (0..buses.len()).filter(|bus| buses[*bus].ends.contains(&middle)).collect();
    let start = |bus: &Bus| bus.starts.iter().sum::<usize>() / bus.starts.len().max(1);
    arriving.sort_by_key(|bus| start(&buses[*bus]));
    let count = arriving.len() as isize;
    let straight = arriving.iter().position(|bus| buses[*bus].starts.contains(&middle) && buses[*bus].ends.len() == 1);
    let first = straight.map_or(1 - count, |place| -2 * place as isize);
    for (place, bus) in arriving.into_iter().enumerate() {
        let offset = (first + 2 * place as isize).clamp(-MAX_END_OFFSET, MAX_END_OFFSET);
        let end = middle.saturating_add_signed(offset);
        let bus = &mut buses[bus];
        bus.ends.remove(&middle);
        bus.ends.insert(end);
        bus.heads.insert(end, is_conditional);
    }
}

/// The directions in which a line leaves a cell.
const NORTH: u8 = 1;
const EAST: u8 = 2;
const SOUTH: u8 = 4;
const WEST: u8 = 8;

/// A grid of cells, in which lines that share a cell are joined.
struct Canvas {
    width: usize,
    /// The directions of lines in each cell.
    lines: Vec<u8>,
    texts: BTreeMap<(Row, Column), String>,
    /// The corners of boxes, which are round unlike those of lines.
    corners: BTreeMap<(Row, Column), char>,
    /// The arrowheads, with whether they are conditional.
    heads: BTreeMap<(Row, Column), bool>,
}

impl Canvas {
    fn new(drawing: &PlanDrawing) -> Self {
        let (width, height) = (drawing.width.ceil() as usize + 1, drawing.height.ceil() as usize + 1);
        Self {
            width,
            lines: vec![0; width * height],
            texts: BTreeMap::new(),
            corners: BTreeMap::new(),
            heads: BTreeMap::new(),
        }
    }

    fn add(&mut self, row: Row, column: Column, directions: u8) {
        if column < self.width
            && let Some(cell) = self.lines.get_mut(row * self.width + column)
        {
            *cell |= directions;
        }
    }

    fn draw_vertical(&mut self, column: Column, from: Row, to: Row) {
        for row in from..to {
            self.add(row, column, SOUTH);
            self.add(row + 1, column, NORTH);
        }
    }

    /// Draws a horizontal line. It passes below a vertical one, unless it `joins` it.
    fn draw_horizontal(&mut self, row: Row, (from, to): (Column, Column), joins: impl Fn(Column) -> bool) {
        for column in from..=to {
            let is_crossing =
                self.lines.get(row * self.width + column).is_some_and(|lines| *lines & (NORTH | SOUTH) != 0);
            if is_crossing && !joins(column) {
                continue;
            }
            let west = if column > from { WEST } else { 0 };
            let east = if column < to { EAST } else { 0 };
            self.add(row, column, west | east);
        }
    }

    fn draw_box(&mut self, task: &DrawnTask, status: Option<TaskStatus>, characters: LineCharacters) {
        let (start, top) = (task.x as usize, task.y as usize);
        let (end, bottom) = (start + task.width as usize - 1, top + task.height as usize - 1);
        for column in start..end {
            for row in [top, bottom] {
                self.add(row, column, EAST);
                self.add(row, column + 1, WEST);
            }
        }
        self.draw_vertical(start, top, bottom);
        self.draw_vertical(end, top, bottom);
        if characters == LineCharacters::Unicode {
            let corners = [(top, start, '╭'), (top, end, '╮'), (bottom, start, '╰'), (bottom, end, '╯')];
            self.corners.extend(corners.map(|(row, column, corner)| ((row, column), corner)));
        }
        let name = match status {
            Some(status) => format!("{} {}", mark(status, characters), task.name),
            None => task.name.clone(),
        };
        let detail = match status {
            Some(status) => status.to_string(),
            None if task.is_repeated => format!("{REPEATED}{}", task.detail),
            None => task.detail.clone(),
        };
        let room = end - start - 3;
        for (row, text) in [(top + 1, name), (top + 2, detail)] {
            let shown = match characters {
                LineCharacters::Unicode => printable(&text).into_owned(),
                LineCharacters::Ascii => printable(&text).replace(|c: char| !c.is_ascii(), "?"),
            };
            self.texts.insert((row, start + 2), fitted(&shown, room, characters));
        }
    }

    fn into_text(self, characters: LineCharacters) -> String {
        let mut text = String::new();
        for row in 0..self.lines.len() / self.width {
            let mut line = String::new();
            let mut column = 0;
            while column < self.width {
                if let Some(words) = self.texts.get(&(row, column)) {
                    line.push_str(words);
                    column += words.width().max(1);
                    continue;
                }
                let lines = self.lines[row * self.width + column];
                let head = self.heads.get(&(row, column)).map(|is_conditional| arrowhead(*is_conditional, characters));
                let corner = self.corners.get(&(row, column)).copied();
                line.push(head.or(corner).unwrap_or_else(|| line_character(lines, characters)));
                column += 1;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

/// Returns the first columns of a text, with an ellipsis if it is longer.
fn fitted(text: &str, columns: usize, characters: LineCharacters) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let ellipsis = if characters == LineCharacters::Ascii { "..." } else { "…" };
    let mut room = columns.saturating_sub(ellipsis.width());
    let fits = |c: &char| {
        let width = c.width().unwrap_or_default();
        let is_short = width <= room;
        room = if is_short { room - width } else { 0 };
        is_short
    };
    text.chars().take_while(fits).chain(ellipsis.chars()).collect()
}

/// Returns the mark of a state.
fn mark(status: TaskStatus, characters: LineCharacters) -> char {
    let (unicode, ascii) = match status {
        TaskStatus::Waiting => ('○', '.'),
        TaskStatus::Running => ('●', '*'),
        TaskStatus::Succeeded => ('✓', '+'),
        TaskStatus::Failed => ('✗', 'x'),
        TaskStatus::Skipped => ('–', '-'),
        TaskStatus::Cancelled => ('⊘', '/'),
    };
    if characters == LineCharacters::Unicode { unicode } else { ascii }
}

fn line_character(directions: u8, characters: LineCharacters) -> char {
    if characters == LineCharacters::Ascii {
        return match (directions & (NORTH | SOUTH) != 0, directions & (WEST | EAST) != 0) {
            (true, true) => '+',
            (true, false) => '|',
            (false, true) => '-',
            (false, false) => ' ',
        };
    }
    // In the order of the bits: north, east, south, west.
    const CHARACTERS: [char; 16] = [' ', '│', '─', '└', '│', '│', '┌', '├', '─', '┘', '─', '┴', '┐', '┤', '┬', '┼'];
    CHARACTERS[usize::from(directions & 15)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Returns a plan with these tasks: an ID, what it needs, and the other members of the task.
    fn plan(tasks: &[(&str, &[&str], Value)]) -> Plan {
        let tasks = tasks.iter().map(|(id, needs, members)| {
            let call = json!({"routes": [{"agent": "agent", "tool": id}], "with": {}});
            let mut task = json!({"id": id, "needs": needs, "work": {"call": call}});
            members.as_object().expect("members").iter().for_each(|(name, value)| task[name] = value.clone());
            task
        });
        let tasks: Vec<Value> = tasks.collect();
        serde_json::from_value(json!({"name": "trip", "inputs": {}, "agents": {}, "max_parallel": 8, "tasks": tasks}))
            .expect("a plan")
    }

    fn trip() -> Plan {
        plan(&[
            ("find", &[], json!({"title": "Find hotels"})),
            ("weather", &[], json!({"title": "天気を調べる"})),
            ("read", &["find"], json!({"foreach": {"items": "${{ tasks.find.output }}", "as": "hit"}})),
            ("check", &["find", "weather"], json!({"if": "tasks.find.succeeded"})),
            (
                "book",
                &["read", "check", "weather"],
                json!({"title": "Book <b>\u{1b}[31m the one that all of us liked"}),
            ),
        ])
    }

    #[test]
    fn draws_boxes_and_lines() {
        let drawn = box_graph(&trip(), |_| None, LineCharacters::Unicode, 100).expect("it is small");
        insta::assert_snapshot!(drawn);
    }

    #[test]
    fn draws_states_without_unicode() {
        let status = |task: &DrawnTask| match task.id.as_str() {
            "find" | "weather" => Some(TaskStatus::Succeeded),
            "read" => Some(TaskStatus::Failed),
            _ => Some(TaskStatus::Skipped),
        };
        let drawn = box_graph(&trip(), status, LineCharacters::Ascii, 100).expect("it is small");
        assert!(drawn.is_ascii(), "{drawn}");
        insta::assert_snapshot!(drawn);
    }

    #[test]
    fn tasks_with_the_same_dependents_share_a_line() {
        let plan = plan(&[
            ("a", &[], json!({})),
            ("b", &[], json!({})),
            ("c", &["a", "b"], json!({})),
            ("d", &["a", "b"], json!({})),
        ]);
        insta::assert_snapshot!(box_graph(&plan, |_| None, LineCharacters::Unicode, 80).expect("it is small"));
    }

    #[test]
    fn wide_and_large_graphs_are_not_drawn() {
        assert_eq!(
            box_graph(&trip(), |_| None, LineCharacters::Unicode, 20).map_err(|error| error.to_string().contains("20")),
            Err(true)
        );
        let ids: Vec<String> = (0..=MAX_BOXES).map(|index| format!("t{index}")).collect();
        let tasks: Vec<(&str, &[&str], Value)> = ids.iter().map(|id| (id.as_str(), &[][..], json!({}))).collect();
        assert_eq!(box_graph(&plan(&tasks), |_| None, LineCharacters::Unicode, 80), Err(NotDrawn::TooLarge));
    }

    proptest! {
        /// Every box is drawn whole, every dependent has an arrowhead, and no line ends in nothing.
        #[test]
        fn lines_are_connected(edges in proptest::collection::vec((0_usize..9, 0_usize..9), 0..14)) {
            let ids: Vec<String> = (0..9).map(|index| format!("task{index}")).collect();
            let needs: Vec<Vec<&str>> = (0..9)
                .map(|to| ids[..to].iter().enumerate().filter(|(from, _)| edges.contains(&(*from, to))).map(|(_, id)| id.as_str()).collect())
                .collect();
            let tasks: Vec<(&str, &[&str], Value)> =
                ids.iter().zip(&needs).map(|(id, needs)| (id.as_str(), needs.as_slice(), json!({}))).collect();
            let drawn = match box_graph(&plan(&tasks), |_| None, LineCharacters::Unicode, 400) {
                Ok(drawn) => drawn,
                Err(reason) => {
                    prop_assert_eq!(reason, NotDrawn::Tangled);
                    return Ok(());
                }
            };
            prop_assert!(ids.iter().all(|id| drawn.contains(&format!("│ {id} "))), "{}", drawn);
            let dependents = needs.iter().filter(|needs| !needs.is_empty()).count();
            let heads = drawn.matches('▼').count();
            prop_assert!(heads >= dependents && heads <= needs.iter().map(Vec::len).sum(), "{}", drawn);
            prop_assert_eq!(drawn.matches(['╭', '╮', '╰', '╯']).count(), 4 * ids.len(), "{}", drawn);
            let grid: Vec<Vec<char>> = drawn.lines().map(|line| line.chars().collect()).collect();
            for (row, line) in grid.iter().enumerate() {
                for (column, c) in line.iter().enumerate() {
                    let below = grid.get(row + 1).and_then(|line| line.get(column)).copied().unwrap_or(' ');
                    if "│┌┐┬├┤┼╭╮".contains(*c) {
                        prop_assert!("│└┘┴├┤┼╰╯▼┬─".contains(below), "{} below {} in\n{}", below, c, drawn);
                    }
                }
            }
        }
    }
}
