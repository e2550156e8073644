//! Lays rows out in columns, each as wide as its widest cell.
//! Never lets a control character through: cells may hold agents' text.

use std::{borrow::Cow, fmt};

use super::text::printable;

/// Rows of one table.
#[derive(Debug, Default)]
pub(super) struct TextTable {
    rows: Vec<TableRow>,
}

/// A row, and the lines that stand under it.
#[derive(Debug, Default)]
pub(super) struct TableRow {
    cells: Vec<String>,
    details: Vec<String>,
}

impl TableRow {
    /// A row of these cells.
    pub(super) fn new<'a>(cells: impl IntoIterator<Item = &'a str>) -> Self {
        Self { cells: cells.into_iter().map(|cell| printable(cell).into_owned()).collect(), details: Vec::new() }
    }

    /// The same row with one more line under it.
    pub(super) fn with_detail(mut self, note: impl Into<Cow<'static, str>>) -> Self {
        self.details.push(printable(&note.into()).into_owned());
        self
    }
}

impl TextTable {
    /// Adds a row at the end.
    pub(super) fn push(&mut self, row: TableRow) {
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let columns = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.cells.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
            for note in &row.details {
                writeln!(f, "    {note}")?;
            }
        }
        Ok(())
    }
}
