"""JupyterLab in a real browser: chapter 01, a widget moved by keyboard, an exercise wrong and then right."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from course_lib.chapters import read_notebook
from course_lib.data import ROOT
from course_lib.lab import OFFLINE_OPTIONS, next_free_port
from course_lib.learn import state
from course_lib.learn.student import tags
from course_lib.learn.workspace import start
from tests.browser.chromium import chromium, needs_browser

CHAPTER = "01-model-comparison.ipynb"
ARTEFACTS = ROOT / "tests" / "artefacts"
SESSION = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session"
CONNECTED = f"() => {SESSION}?.kernel?.connectionStatus === 'connected'"
IDLE = f"() => {SESSION}.kernel.status === 'idle'"
# The chapter's last widget is there, or a cell has failed: then nothing more would come.
ENDED = """() => {
    const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
    for (let i = 0; i < cells.length; i++) {
        const outputs = cells.get(i).outputs;
        for (let j = 0; outputs && j < outputs.length; j++)
            if (outputs.get(j).type === 'error') return 'cell ' + i + ': ' + outputs.get(j).toJSON().evalue;
    }
    return document.querySelector('.course-choose-model') ? 'shown' : false;
}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"

pytestmark = needs_browser


@pytest.fixture
def server(tmp_path):
    """JupyterLab on a fresh workspace: every folder of its own, and cells drawn even where nobody looks."""
    start(tmp_path / "workspace")
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')
    folders = "JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR JUPYTERLAB_WORKSPACES_DIR IPYTHONDIR"
    environment = os.environ | {name: str(tmp_path / name.lower()) for name in folders.split()}
    environment |= {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "COURSE_STATE": str(tmp_path / "state.json"),
        "JUPYTER_CONFIG_PATH": str(ROOT / "course_lib" / "jupyter"),
        "HF_HUB_OFFLINE": "1",
        "COURSE_SHARE": "0.25",  # the same cells with fewer questions
    }
    port = next_free_port(18_000)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": tmp_path / "workspace",
        "IdentityProvider.token": "",
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", *OFFLINE_OPTIONS]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (
        (tmp_path / "lab.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            for _ in range(120):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=1)
                    break
                time.sleep(0.5)
            else:
                pytest.fail((tmp_path / "lab.log").read_text())
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def page():
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1200, "height": 900})


def picture(page, name):
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png")


def answer(page, cell, text):
    """Replace the text of a code cell by keyboard, and run it; what it says."""
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)
    page.keyboard.press("Control+Enter")
    page.wait_for_timeout(300)
    page.wait_for_function(IDLE)
    return cell.locator(".jp-OutputArea").inner_text()


def spread_questions(workspace: Path) -> None:
    """In the chapter's copy, take the fewer questions from all areas."""
    path = workspace / CHAPTER
    notebook = read_notebook(path)
    asks = next(cell for cell in notebook.cells if "[::2], 80)" in cell.source)
    asks.source = asks.source.replace("[::2], 80)", "[::8], 80)")
    nbformat.write(notebook, path)


def test_a_learner_in_chapter_01(server, page, tmp_path):
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    outside = []
    inside = (server, "data:", "blob:", server.replace("http", "ws"))
    page.on("request", lambda r: None if r.url.startswith(inside) else outside.append(r.url))
    spread_questions(tmp_path / "workspace")
    page.goto(f"{server}/lab/tree/{CHAPTER}")
    page.wait_for_function(CONNECTED, timeout=120_000)
    page.set_default_timeout(60_000)
    page.evaluate(RUN_ALL)

    chooser = page.locator(".course-choose-model")
    assert page.wait_for_function(ENDED, timeout=600_000).json_value() == "shown"
    page.wait_for_function(IDLE, timeout=300_000)
    status = chooser.get_by_role("status")
    assert status.inner_text().startswith("Choose haneul-")
    memory = chooser.get_by_label("memory for weights, at most, MB")
    for typed, text in (
        ("2", "Choose haneul-300k"),
        ("0", "None fits"),
        ("2", "Not haneul-4m: it takes 17.8 MB"),
    ):
        memory.focus()
        page.keyboard.press("Control+a")
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        expect(status).to_contain_text(text)
    chooser.scroll_into_view_if_needed()
    picture(page, "widget")

    guess = page.locator(".course-predict").first
    guess.get_by_label("Your guess:").fill("20")
    page.keyboard.press("Enter")
    guess.get_by_text("does not count").wait_for()  # the measurement below had been run already

    exercise = page.locator(".jp-CodeCell").filter(has_text='check("01.1"')
    exercise.scroll_into_view_if_needed()
    assert "01.1 not answered" in exercise.locator(".jp-OutputArea").inner_text()
    stub = next(
        c.source for c in read_notebook(tmp_path / "workspace" / CHAPTER).cells if "exercise" in tags(c)
    )
    wrong = stub.replace('raise NotImplementedError("your code here")', "return parameters * bits / 10**6")
    assert "01.1 not yet: that counts 4 bits as 4 bytes" in answer(page, exercise, wrong)
    picture(page, "exercise-wrong")
    assert "01.1 right" in answer(page, exercise, wrong.replace("bits /", "bits / 8 /"))
    picture(page, "exercise-right")

    assert state.load(tmp_path / "state.json").exercises["01.1"].passed
    assert outside == []
