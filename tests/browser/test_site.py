"""The course's site, built once: its links and names, and three pages of it in a real browser."""

import importlib
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from course_lib.chapters import all_chapters
from course_lib.data import ROOT
from tests import npm
from tests.browser.chromium import chromium, needs_browser

pytestmark = pytest.mark.skipif(
    not (find_spec("furo") and find_spec("myst_nb")),
    reason="the packages of the extra [site] are not installed",
)
THREE_PAGES = ("index.html", "chapters/07-serving.html", "api/course_lib.retrieval.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site. Sphinx's warnings are errors."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, ROOT / "docs" / "site" / "build.py", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


class Page(HTMLParser):
    """The links, ids, loaded files and pictures of an HTML page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids, self.pictures = [], [], set(), []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given.get("id"), given.get("name") if tag == "a" else None}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append((given["src"], given.get("alt") or ""))
        if tag in ("img", "script", "iframe", "source", "link") and given.get("rel") not in (
            "search",
            "index",
        ):
            self.loaded += [address for key in ("src", "href") if (address := given.get(key))]


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def broken_links(pages):
    """Links and loaded files that lead nowhere within the site. Addresses elsewhere are not tried."""
    found = []
    for path, page in pages.items():
        for address in (*page.links, *page.loaded):
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if parts.scheme in ("https", "http", "mailto", "data"):
                continue
            ids = pages[target].ids if target in pages and parts.fragment else {unquote(parts.fragment)}
            if not target.is_file() or unquote(parts.fragment) not in ids:
                found.append(f"{path.name}: {address}")
    return found


def test_all_chapters_are_there_and_no_link_is_broken(site, pages):
    assert {site / "chapters" / f"{c.stem}.html" for c in all_chapters()} <= set(pages)
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert broken_links(pages) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "a.html"
    page.write_text('<p id="x"><a href="#x">1</a><a href="#y">2</a><a href="b.html">3</a><img src="c.png">')
    assert broken_links({page: Page(page)}) == ["a.html: #y", "a.html: b.html", "a.html: c.png"]


def test_no_drawing_is_shown_as_its_code(site):
    chapters = [path.read_text("utf-8") for path in (site / "chapters").glob("*.html")]
    assert not [text for text in chapters if "flowchart" in text or "mermaid" in text]
    assert any("what runs it?" in text for text in chapters), "the list of the same steps is missing"


def test_no_page_names_a_file_of_another_server(pages):
    assert [a for page in pages.values() for a in page.loaded if urlsplit(a).scheme not in ("", "data")] == []


def test_every_picture_has_words(pages):
    pictures = [picture for page in pages.values() for picture in page.pictures]
    assert len(pictures) > 30 and [a for source, a in pictures if len(a) < 15 or a in source] == []


def test_every_public_name_is_described(site, pages):
    names = {module.stem for module in (site / "api").glob("*.html")}
    assert {"course_lib", "course_lib.models", "course_lib.rag", "course_lib.measure"} <= names
    for module in sorted(names):
        page = pages[site / "api" / f"{module}.html"]
        for name in importlib.import_module(module).__all__:
            described = f"{module}.{name}" in page.ids
            assert described or any(link.endswith(f".{name}") for link in page.links), f"{module}.{name}"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@needs_browser
def test_pages_ask_no_other_server_and_the_search_finds_offline(site, browser):
    page, outside = browser.new_page(), []
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else outside.append(r.url))
    backgrounds = set()
    for name in THREE_PAGES:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto((site / name).as_uri())
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
            backgrounds.add((scheme, colour))
    assert len(backgrounds) == 2, "a theme is not what the reader's system asks for"
    page.get_by_role("searchbox").or_(page.locator("input[name=q]")).first.fill("calibration")
    page.keyboard.press("Enter")
    # Results come in one after the other.
    page.locator("#search-results li a", has_text="RAG and classification").first.wait_for(timeout=20_000)
    assert outside == []


@needs_browser
def test_axe_finds_nothing_serious_on_three_pages(site, browser, request):
    axe = (
        npm.installed(request.config, Path(__file__).with_name("npm"))
        / "node_modules"
        / "axe-core"
        / "axe.min.js"
    )
    found = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        for name in THREE_PAGES:
            page.goto((site / name).as_uri())
            page.add_script_tag(path=axe)
            for problem in page.evaluate("axe.run().then(result => result.violations)"):
                if problem["impact"] in ("serious", "critical"):
                    places = [node["html"][:120] for node in problem["nodes"][:3]]
                    found.append(f"{scheme} {name}: {problem['id']} x {len(problem['nodes'])}: {places}")
    assert found == []
