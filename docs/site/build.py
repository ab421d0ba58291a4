"""Build the course's site, a folder of HTML that needs no server: `make site`, or `build.py FOLDER`.

The pages are the repository's own. They are copied into one folder of sources, at the same paths, so that the
links between them hold; to these come the pages of the public names. Sphinx makes the HTML. Nothing is run.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

import course_lib
from course_lib.chapters import all_chapters, read_notebook
from course_lib.data import ROOT
from course_lib.learn.student import tags

HERE = Path(__file__).parent
# Section of the list of pages -> its pages. A page that is added to docs/ appears by itself.
SECTIONS = {
    "Chapters": ["chapters/*.ipynb"],
    "Guides": ["docs/*.md"],
    "Models and data": ["datasets/haneul/DATASHEET.md", "models/haneul-*/README.md", "benchmarks/README.md"],
    "The project": [
        "CONTRIBUTING.md",
        "chapters/AUTHORING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "LICENSE-TEXT-AND-DATA.md",
    ],
}
# matplotlib gives `set` to every class.
CLASS_OPTIONS = ["   :members:", "   :exclude-members: set, model_config, model_post_init"]
# What axe-core finds in the HTML of furo and myst-nb, and its mend. As found, a keyboard does not reach what
# scrolls, and a screen reader does not tell the parts of a page.
MENDED = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="all pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="this page">',
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '<th class="head"><p></p></th>': '<td class="head"></td>',
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}
DRAWING = re.compile(r"```mermaid\n.*?```\n+The same as a list:\n", re.DOTALL)
BESIDE = ["LICENSE", "docs/*.png"]  # what pages show or link to


def files(patterns: list[str]) -> list[Path]:
    """Return the repository's files that fit, relative to its root."""
    return [path.relative_to(ROOT) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def prepare(notebook: Any) -> Any:
    """Return a chapter for reading: solutions are folded, and each picture has an alternative text.

    Jupyter and GitHub draw Mermaid; here its program would come from another server: the list stands alone.
    The words of a widget's picture are an output of their own above it.
    """
    for cell in notebook.cells:
        cell.source = DRAWING.sub("", cell.source)
        shown: dict[str, Any] = {}  # settings for myst-nb
        if "exercise" in tags(cell):
            cell.metadata["tags"].append("hide-input")
            shown["code_prompt_show"], shown["code_prompt_hide"] = "Show our solution", "Hide our solution"
        outputs = []
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt, text = output.metadata["image/png"]["alt"], output.data["text/plain"]
                if "widget" in tags(cell):
                    outputs.append(nbformat.v4.new_output("stream", text=text + "\n"))
                    alt = text.splitlines()[0] + ", drawn; the text above says the same"
                shown["image"] = {"alt": alt}
            outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs, cell.metadata["mystnb"] = outputs, shown
    return notebook


def public_modules() -> list[str]:
    """Return the packages of the library that say in `__all__` what they offer."""
    found = [
        "course_lib",
        *(m.name for m in pkgutil.walk_packages(course_lib.__path__, "course_lib.") if m.ispkg),
    ]
    offering = [name for name in found if hasattr(importlib.import_module(name), "__all__")]
    return sorted(offering, key=lambda name: name.count("."))


def comment(package: Any, name: str) -> str:
    """Return the comment `#:` above a constant in one of the package's files, which is its docstring."""
    texts = (path.read_text("utf-8") for path in sorted(Path(package.__path__[0]).glob("*.py")))
    found = (re.search(rf"^#: (.+)\n{name}\b", text, re.MULTILINE) for text in texts)
    return next(match[1] for match in found if match)


def reference(module: str, homes: dict[int, str]) -> str:
    """Return the page of a package: what it is for, and each of its public names with its docstring.

    homes: id of an object -> the name under which it has been described already; here that is linked.
    """
    lines = [module, "=" * len(module), "", f".. automodule:: {module}", "   :no-members:", ""]
    package = importlib.import_module(module)
    for name in sorted(package.__all__, key=str.lower):
        value = getattr(package, name)
        if home := homes.get(id(value)):
            lines += [f"- ``{name}`` is :py:obj:`{home}`.", ""]
            continue
        homes[id(value)] = f"{module}.{name}"
        if isinstance(value, type):
            lines += [f".. autoclass:: {module}.{name}", *CLASS_OPTIONS, ""]
        elif callable(value):
            lines += [f".. autofunction:: {module}.{name}", ""]
        else:
            lines += [f".. py:data:: {module}.{name}", "", f"   {comment(package, name)}", ""]
    return "\n".join(lines)


def contents(title: str, pages: list[str]) -> str:
    """Return one section of the list of pages, in MyST."""
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])


def assemble(sources: Path) -> None:
    """Write the sources of all pages into a folder."""
    for path in files([p for patterns in SECTIONS.values() for p in patterns] + BESIDE):
        (sources / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, sources / path)
    for path in all_chapters():
        nbformat.write(prepare(read_notebook(path)), sources / "chapters" / path.name)
    modules = public_modules()
    (sources / "api").mkdir()
    homes: dict[int, str] = {}
    for module in modules:
        (sources / "api" / f"{module}.rst").write_text(reference(module, homes), "utf-8")
    lists = {
        title: [p.with_suffix("").as_posix() for p in files(patterns)] for title, patterns in SECTIONS.items()
    }
    lists["Reference"] = [f"api/{module}" for module in modules]
    text = (ROOT / "README.md").read_text("utf-8")
    text += "\n" + "\n".join(contents(title, pages) for title, pages in lists.items())
    (sources / "index.md").write_text(text, "utf-8")


def build(out: Path) -> int:
    """Build the site in `out`, and return Sphinx's exit status."""
    from sphinx.cmd.build import main

    with TemporaryDirectory() as folder:
        sources = Path(folder) / "pages"
        assemble(sources)
        options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(HERE), "-d", f"{folder}/cache"]
        status = int(main([*options, str(sources), str(out)]))
    for path in out.rglob("*.html"):
        text = path.read_text("utf-8")
        for found, mended in MENDED.items():
            text = text.replace(found, mended)
        path.write_text(text, "utf-8")
    return status


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site")
    status = build(target)
    print(f"{target / 'index.html'}" if not status else "The site was not built.")
    sys.exit(status)
