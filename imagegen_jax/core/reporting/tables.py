"""Tables for people: drawn by rich, in a terminal with its width and colours, elsewhere as plain text."""

from __future__ import annotations

import dataclasses
import html
import io
from collections.abc import Sequence
from typing import IO

_WIDTH = 2_000  # of plain text, in which no line is to be broken


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, the heads of columns, and rows of texts; columns of numbers are aligned at the right."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        text = io.StringIO()
        self.print(text, _WIDTH)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def print(self, file: IO[str] | None = None, width: int | None = None) -> None:
        """Prints it; None: to standard output."""
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        title = Text(self.title) if self.title else None
        table = RichTable(
            title=title, title_style="bold", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
        )
        for i, head in enumerate(self.heads):
            numbers = self._is_of_numbers(i)
            table.add_column(Text(head), justify="right" if numbers else "left", no_wrap=numbers, overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        console = Console(file=file, width=width, highlight=False)
        if width is None and not console.is_terminal:
            print(self, file=file)
        else:
            console.print(table)

    def html(self) -> str:
        """Writes it as HTML, with everything escaped."""
        sides = ['style="text-align:right"' if self._is_of_numbers(i) else "" for i in range(len(self.heads))]
        head = "".join(f"<th {side}>{html.escape(name)}</th>" for side, name in zip(sides, self.heads, strict=True))
        body = "".join(
            f"<tr>{''.join(f'<td {s}>{html.escape(cell)}</td>' for s, cell in zip(sides, row, strict=True))}</tr>"
            for row in self.rows
        )
        title = f"<h3>{html.escape(self.title)}</h3>" if self.title else ""
        return f'{title}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    def _is_of_numbers(self, column: int) -> bool:
        cells = [row[column] for row in self.rows if row[column] not in ("", "-")]
        return bool(cells) and all(_is_number(cell) for cell in cells)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").removeprefix("< "))
    except ValueError:
        return False
    return True
