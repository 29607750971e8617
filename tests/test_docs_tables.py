"""The marked tables of docs are those that tools/docs_tables.py makes from docs/runs."""

import re

import pytest

from esrgan_jax.errors import RunError
from tools import docs_tables

PAGES = sorted(docs_tables.DOCS.glob("**/*.md"))
MARKS = (docs_tables.MARK, docs_tables.BENCHMARK)
MARKED = [page for page in PAGES if any(mark.search(page.read_text()) for mark in MARKS)]


@pytest.mark.parametrize("page", MARKED, ids=lambda page: page.name)
def test_tables_equal_the_recorded_results(page):
    assert docs_tables.rewritten(page.read_text()) == page.read_text()


def test_every_table_is_on_a_page():
    tables, benchmarks = (
        {match[match.re.groups] for page in MARKED for match in mark.finditer(page.read_text())}
        for mark in MARKS
    )
    assert tables == set(docs_tables.TABLES)
    files = (docs_tables.DOCS / "runs" / "performance").glob("*.jsonl")
    assert benchmarks == {file.stem for file in files}


def test_a_changed_number_is_noticed_and_written_again(tmp_path, monkeypatch, capsys):
    original = next(page for page in MARKED if page.name == "reproduction.md").read_text()
    page = tmp_path / "page.md"
    page.write_text(re.sub(r"32\.73 / 0\.9011", "32.74 / 0.9011", original))
    assert page.read_text() != original
    runs = docs_tables.DOCS / "runs"
    monkeypatch.setattr(docs_tables, "DOCS", tmp_path)
    (tmp_path / "runs").symlink_to(runs)
    with pytest.raises(RunError, match=r"tables of page\.md differ"):
        docs_tables.main(["--check"])
    docs_tables.main([])
    assert page.read_text() == original
    docs_tables.main(["--check"])
