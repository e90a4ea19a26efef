"""Tables: whole lines where nobody looks at a terminal, numbers at the right, everything escaped in pages."""

import io

from imagegen_jax.core.reporting.tables import Table

TABLE = Table("Scores", ["run", "value"], [["a" * 300, "1,000.5"], ["<b>[red]", "-"]])


def test_plain_text_has_whole_lines_and_words_as_they_are(capsys):
    TABLE.print()
    lines = capsys.readouterr().out.splitlines()
    assert lines == str(TABLE).splitlines() and lines[0] == "Scores"
    assert "a" * 300 in str(TABLE) and "<b>[red]" in str(TABLE)
    ends = {len(line) for line in lines if line.endswith(("1,000.5", "-"))}
    assert len(ends) == 1  # at the right


def test_a_narrow_screen_folds_what_is_long():
    file = io.StringIO()
    TABLE.print(file, width=40)
    assert max(map(len, file.getvalue().splitlines())) <= 40 and file.getvalue().count("a") >= 300


def test_html_is_escaped_and_aligned():
    page = TABLE.html()
    assert "&lt;b&gt;[red]" in page and "<b>" not in page and page.count("text-align:right") == 3
