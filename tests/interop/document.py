"""Reads and writes the tables of docs/interop.md, each between two comments."""

import pathlib

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/interop.md"


def row(cells):
    """Returns a row of a table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


class Table:
    """A table of the document. `command` writes it, and stands in its first comment."""

    def __init__(self, name, command):
        self.start = f"<!-- {name} table: {command} -->\n"
        self.end = f"<!-- end of the {name} table -->\n"

    def lines(self):
        """Returns the lines of the table."""
        return DOCUMENT.read_text().split(self.start)[1].split(self.end)[0].splitlines()

    def write(self, columns, rows):
        """Replaces the table by the titles of its columns and its rows."""
        lines = [row(columns), row(["---"] * len(columns)), *map(row, rows)]
        before, rest = DOCUMENT.read_text().split(self.start)
        after = rest.split(self.end)[1]
        DOCUMENT.write_text(before + self.start + "\n" + "\n".join(lines) + "\n\n" + self.end + after)
