//! Formats rows in columns, each as wide on a terminal as its widest cell.
//! Control characters are always escaped, since cells may contain text of agents.

use std::borrow::Cow;
use std::fmt;

use console::{Alignment, measure_text_width, pad_str};
use owo_colors::{OwoColorize, Style};

use crate::view::text::printable;

/// The rows of a table.
#[derive(Debug, Default)]
pub(crate) struct TextTable {
    rows: Vec<TableRow>,
}

/// A row with the detail lines below it.
#[derive(Debug, Default)]
pub(crate) struct TableRow {
    cells: Vec<String>,
    /// The styles of some cells, by column.
    styles: Vec<(usize, Style)>,
    details: Vec<String>,
}

impl TableRow {
    /// Creates a row with these cells.
    pub(crate) fn new<'a>(cells: impl IntoIterator<Item = &'a str>) -> Self {
        Self { cells: cells.into_iter().map(|cell| printable(cell).into_owned()).collect(), ..Self::default() }
    }

    /// Creates a row with the names of the columns.
    pub(crate) fn header<'a>(cells: impl IntoIterator<Item = &'a str>) -> Self {
        let mut row = Self::new(cells);
        row.styles = (0..row.cells.len()).map(|column| (column, Style::new().dimmed())).collect();
        row
    }

    /// Sets the style of a cell.
    pub(crate) fn with_style(mut self, column: usize, style: Style) -> Self {
        self.styles.push((column, style));
        self
    }

    /// Adds a detail line below the row.
    pub(crate) fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.details.push(printable(&detail.into()).into_owned());
        self
    }
}

impl TextTable {
    /// Appends a row.
    pub(crate) fn push(&mut self, row: TableRow) {
        self.rows.push(row);
    }

    /// Returns whether the table has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
            cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
        };
        let columns = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            let last = row.cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
            for (column, (cell, width)) in row.cells.iter().zip(&widths).enumerate().take(last) {
                let style = row.styles.iter().find(|(styled, _)| *styled == column).map(|(_, style)| style);
                let styled = style.map_or_else(|| cell.clone(), |style| cell.style(*style).to_string());
                line.push_str(&styled);
                if column + 1 < last {
                    line.push_str(&pad_str("", width + 2 - measure_text_width(cell), Alignment::Left, None));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
            for detail in &row.details {
                writeln!(f, "    {detail}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_wide_characters() {
        let mut table = TextTable::default();
        for cells in [["東京", "a"], ["e\u{301}té", "b"], ["Lisbon", "c"], ["👩‍💻", "d"]] {
            table.push(TableRow::new(cells));
        }
        assert_eq!(table.to_string(), "東京    a\ne\u{301}té     b\nLisbon  c\n👩‍💻      d\n");
    }
}
