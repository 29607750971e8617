"""Every link of README and docs leads to a file that is there, and to a heading that it has.

The same files are read on GitHub and built into the site, so a page in docs/ links only to what is
in docs/, and every page is in the site's contents.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("**/*.md"))]
CODE = re.compile(r"^( *)```.*?^ *```|`[^`]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|(?:src|href)=[\"']([^\"']+)")


def targets(text: str) -> list[str]:
    """Returns what the links and images of a page lead to, but for other hosts."""
    found = [one or other for one, other in LINK.findall(CODE.sub("", text))]
    return [target for target in found if not re.match(r"(https?:)?//|mailto:", target)]


def anchors(text: str) -> set[str]:
    """Returns the anchors that GitHub, and `slugify` in mkdocs.yml, make of a page's headings."""
    blocks = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", blocks, re.MULTILINE):
        title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def broken(page: Path, text: str) -> list[str]:
    """Returns the targets in a page's text that do not exist, or are outside the page's site."""
    wrong = []
    for target in targets(text):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        inside = DOCS not in page.parents or DOCS in file.parents
        is_file = file.is_file() or (file.is_dir() and DOCS not in page.parents)
        if not (inside and is_file) or (anchor and anchor not in anchors(file.read_text())):
            wrong.append(f"{page.relative_to(ROOT)}: {target}")
    return wrong


def test_every_link_and_picture_exists():
    texts = {page: page.read_text() for page in PAGES}
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(notebook.read_text())["cells"]
        texts[notebook] = "\n".join(
            "".join(c["source"]) for c in cells if c["cell_type"] == "markdown"
        )
    assert sum(len(targets(text)) for text in texts.values()) > 80
    assert [wrong for page, text in texts.items() for wrong in broken(page, text)] == []


@pytest.mark.parametrize(
    "link",
    [
        "[a](no_such_page.md)",
        "[a](training.md#no-such-heading)",
        "[a\nb](#no-such-heading)",
        "![a](images/no_such_picture.png)",
        '<img src="images/no_such_picture.png">',
        "[a](../README.md)",
        "[a](runs)",
    ],
)
def test_a_broken_link_is_noticed(link):
    assert len(broken(DOCS / "data.md", link)) == 1


def test_every_page_is_in_the_contents_of_the_site():
    contents = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text().partition("nav:")[2])
    pages = [str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents]
    assert sorted(contents) == sorted(pages)


def test_each_page_is_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        found = {
            (page.parent / target.partition("#")[0]).resolve()
            for page in new
            for target in targets(page.read_text())
        }
        new = {path for path in found if path.suffix == ".md"} - reached
    assert [page for page in PAGES if page not in reached] == []


def test_answers_are_short():
    """An answer of the FAQ has at most five lines, and each question is in the contents."""
    text = (DOCS / "faq.md").read_text()
    contents, _, body = text.partition("\n## Scores")
    questions = re.split(r"^### ", body, flags=re.MULTILINE)[1:]
    assert len(questions) > 90
    for question in questions:
        title, _, answer = question.partition("\n")
        assert f"* [{title}](#" in contents
        assert len(answer.partition("\n## ")[0].strip().splitlines()) <= 5, title
