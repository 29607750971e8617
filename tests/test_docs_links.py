"""Every link and picture inside the repository exists, and so does the heading that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]


def without_code(page: Path) -> str:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", lambda match: match[0].replace("[", "").replace("(", ""), text)


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*?) *$", without_code(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(slug + (f"-{found.count(slug)}" if slug in found else ""))
    return set(found)


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(\s*([^)\s]+)\s*\)", without_code(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_exist(page):
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_each_page_is_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        found = {
            (page.parent / link.partition("#")[0]).resolve() for page in new for link in links(page)
        }
        new = {path for path in found if path.suffix == ".md"} - reached
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page not in reached] == []


def test_answers_are_short():
    """An answer of the FAQ has at most five lines, and each question is in the contents."""
    text = (ROOT / "docs" / "faq.md").read_text()
    contents, _, body = text.partition("\n## Scores")
    questions = re.split(r"^### ", body, flags=re.MULTILINE)[1:]
    assert len(questions) > 90
    for question in questions:
        title, _, answer = question.partition("\n")
        assert f"* [{title}](#" in contents
        assert len(answer.partition("\n## ")[0].strip().splitlines()) <= 5, title
