"""A pytest plugin that runs each chapter once, in one kernel, and makes all checks of it in that run.

nbval runs the cells and compares their outputs with the saved ones. At an exercise cell, the same kernel also
runs each known wrong answer, the reference solution under COURSE_CHECK=strict, and finally the student's
unchanged stub, with which the rest of the chapter runs. After a widget cell, its controls are tried. Last
come the checks of the whole run: exercises, claims (measured numbers in the text), progress and budget. Each
of these steps is a separate test. The saved outputs are those of tier tiny, so they are compared only in it.
"""

import contextlib
import json
import re
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path
from queue import Empty

import nbformat
import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

from course_lib.chapters import PeakMemory, read_notebook
from course_lib.learn import budget
from course_lib.learn.student import EXERCISE_ID, replace_solution, solution_in, tags
from course_lib.learn.workspace import update_copy
from course_lib.models.catalog import tier
from tests.notebooks.checks import WHOLE_RUN, wrong_answer_problem
from tests.notebooks.wrong_answers import wrong_answers

SANITIZE = Path(__file__).parents[1] / "sanitize.cfg"
KERNEL_SIDE = Path(__file__).with_name("kernel_side.py")
MEASURED = "measured"  # name of a report's property: minutes and memory of a chapter
MARK = re.compile(r"\x1b\[[0-9;]*m|[✓✗○] ")  # the colour and the sign of a verdict


def pytest_collect_file(file_path, parent):
    """Collect every chapter, unless nbval was asked to run notebooks by itself."""
    option = parent.config.option
    if re.fullmatch(r"\d\d-.+\.ipynb", file_path.name) and not (option.nbval or option.nbval_lax):
        return ChapterFile.from_parent(parent, path=file_path)


def pytest_terminal_summary(terminalreporter):
    """Print the minutes and the memory of each chapter that ran."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.getreports(outcome)]
    for line in sorted(text for r in reports for name, text in r.user_properties if name == MEASURED):
        terminalreporter.write_line(line)


class ChapterKernel(RunningKernel):
    """nbval's kernel, but with history, so that `Out` holds the results of cells, and without lost outputs.

    nbval reads a cell's outputs after its reply. Some thousand outputs of a progress bar do not fit in the
    sockets' queues until then, and the rest is lost, the last one included, for which nbval waits.
    So outputs are read while the reply is awaited.
    """

    def __init__(self, *args, **kwargs):
        self.outputs = deque()
        super().__init__(*args, **kwargs)

    def execute_cell_input(self, cell_input, allow_stdin=None):
        return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)

    def get_message(self, stream, timeout=None):
        """Get a message as nbval does, but raise RuntimeError at once if the kernel died."""
        end = time.monotonic() + timeout
        while True:
            if stream == "iopub" and self.outputs:
                return self.outputs.popleft()
            if stream == "shell":
                self.read_outputs()
            wait = min(0.1 if stream == "shell" else 1, end - time.monotonic())
            try:
                return super().get_message(stream, timeout=max(0, wait))
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("The kernel died") from None
                if time.monotonic() >= end:
                    raise

    def read_outputs(self):
        """Move all outputs that have arrived from the socket to `outputs`."""
        with contextlib.suppress(Empty):
            while True:
                self.outputs.append(super().get_message("iopub", timeout=0))

    def call(self, function, *arguments):
        """Call a function of kernel_side.py in the kernel and return its result.

        Raises AssertionError if it raises.
        """
        messages = []
        code = f"print(__import__('json').dumps(get_ipython().course[{function!r}](*{arguments!r})))"
        self.quietly(code, messages.append)
        errors = [m["content"] for m in messages if m["msg_type"] == "error"]
        assert not errors, f"{errors[0]['ename']}: {errors[0]['evalue']}"
        return json.loads("".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream"))

    def load_side(self):
        """Define the functions of kernel_side.py in the kernel, in a separate namespace."""
        code = f"compile(open({str(KERNEL_SIDE)!r}).read(), 'kernel_side.py', 'exec')"
        self.quietly(f"exec({code}, get_ipython().__dict__.setdefault('course', {{}}))")

    def quietly(self, code, output_hook=None):
        """Run code without history and without showing its output."""
        self.kc.execute_interactive(
            code, silent=True, store_history=False, allow_stdin=False, timeout=300, output_hook=output_hook
        )


class ChapterFile(IPyNbFile):
    """A chapter: pytest's collector of its steps, and the data of its run, which WHOLE_RUN checks."""

    def setup(self):
        self.resources = contextlib.ExitStack()
        self.folder = Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="chapter-")))
        self.student_state, self.other_state = self.folder / "state.json", self.folder / "other.json"
        # Students run their copy in another folder, so a chapter may not depend on the folder chapters/.
        student_file = self.folder / "workspace" / self.path.name
        update_copy(self.path, student_file)
        self.student_sources = {cell.id: cell.source for cell in read_notebook(student_file).cells}
        self.done, self.replies, self.rebound, self.measured = set(), {}, {}, ""
        self.first_further_cell, self.further_begun = budget.first_further_cell(self.nb), 0.0
        self.speed, self.begun = budget.calibrate(), time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COURSE_CLAIMS", str(self.folder / "claims.jsonl"))
            for name in ("COURSE_STATE", "COURSE_CHECK", "COURSE_SOLUTIONS"):
                patch.delenv(name, raising=False)
            self.kernel = ChapterKernel(CURRENT_ENV_KERNEL_NAME, cwd=str(student_file.parent))
        self.peak = self.resources.enter_context(PeakMemory(self.kernel.km.provisioner.pid))
        self.kernel.load_side()
        self.setup_sanitize_files()

    def teardown(self):
        super().teardown()
        self.resources.close()

    def get_sanitize_files(self):
        return [str(SANITIZE)]

    def collect(self):
        self.steps = []
        for step in super().collect():
            self.steps += self._steps_of(step)
        yield from self.steps
        for check in WHOLE_RUN:
            yield WholeRun.from_parent(self, name=check.__name__, check=check)

    def _steps_of(self, step):
        """Return the steps for one cell, in order."""
        make = partial(self._make, step)
        own = make(ChapterCell, step.name, cell=step.cell)
        if "widget" in tags(step.cell):
            return [own, make(WidgetDrive, f"{step.name} [widget]")]
        if "exercise" not in tags(step.cell):
            return [own]
        before, after = [], []
        for id_ in EXERCISE_ID.findall(step.cell.source):
            for name, wrong in wrong_answers(id_).items():
                before.append(make(WrongAnswer, f"{step.name} [{id_} wrong: {name}]", id_=id_))
                before[-1].wrong = (name, wrong)
            before.append(make(StrictReference, f"{step.name} [{id_} reference, strictly]", id_=id_))
            after.append(make(Stub, f"{step.name} [{id_} stub]", id_=id_))
        return [*before, own, *after]

    def _make(self, step, kind, name, cell=None, id_=""):
        item = kind.from_parent(
            self,
            name=name,
            cell_num=step.cell_num,
            cell=cell or nbformat.v4.new_code_cell(),
            options=step.options if tier() == "tiny" else step.options | {"check": False},
        )
        item.chapter_cell, item.exercise_id = step.cell, id_
        return item


class ChapterCell(IPyNbCell):
    """A cell of the chapter. The variables that an exercise or solution cell sets are restored afterwards."""

    def setup(self):
        if self.chapter_cell.id == self.parent.first_further_cell and not self.parent.further_begun:
            self.parent.further_begun = time.monotonic()

    def runtest(self):
        self.parent.done.add(self)
        if not {"exercise", "solution"} & tags(self.chapter_cell):
            super().runtest()
            drawn = any("image/png" in o.get("data", {}) for o in self.test_outputs)
            if "picture" in tags(self.cell) and not drawn:
                self.raise_cell_error("A picture cell drew no picture")
            return
        self.parent.rebound[self.cell.id] = self.run_apart(super().runtest, {})
        for id_ in EXERCISE_ID.findall(self.cell.source):
            if not re.search(rf"^{id_} right", self.reply(), re.M):
                self.raise_cell_error(f"{id_}: the reference got {self.reply()!r}")

    def run_apart(self, run, settings, keep=False):
        """Call `run` with environment variables `settings`, and restore all variables unless `keep`.

        Returns the names of earlier cells' variables that it rebound.
        """
        kernel = self.parent.kernel
        if not kernel.is_alive():
            raise RuntimeError("The kernel is dead")
        kernel.call("begin", {name: str(value) for name, value in settings.items()})
        try:
            run()
        finally:
            rebound = kernel.call("end", keep) if kernel.is_alive() else []
        return rebound

    def reply(self):
        """Return the text that the cell printed, without a verdict's colour and sign."""
        return MARK.sub("", "".join(o.get("text", "") for o in self.test_outputs or []))


class WidgetDrive(ChapterCell):
    """A step that tries the controls of the previous cell's widget, with a separate progress file."""

    def runtest(self):
        self.parent.done.add(self)
        drive = partial(self.parent.kernel.call, "drive")
        try:
            self.run_apart(drive, {"COURSE_STATE": self.parent.other_state})
        except AssertionError as error:
            self.raise_cell_error(f"Widget: {error}")


class Replay(ChapterCell):
    """A step that runs other code in place of an exercise's solution."""

    def run_text(self, source, keep=False, **settings):
        """Run `source` without comparing its output. Returns the names of variables that it rebound."""
        self.parent.done.add(self)
        self.cell.source = source
        settings = {"COURSE_STATE": self.parent.other_state} | settings
        return self.run_apart(super(ChapterCell, self).runtest, settings, keep)


class WrongAnswer(Replay):
    """A step that checks that a wrong answer is rejected, with the feedback for that mistake."""

    def runtest(self):
        name, wrong = self.wrong
        self.run_text(replace_solution(self.chapter_cell.source, wrong.code))
        replies = self.parent.replies.setdefault(self.exercise_id, {})
        if problem := wrong_answer_problem(self.exercise_id, wrong.feedback, self.reply(), replies):
            self.raise_cell_error(problem)
        replies[name] = self.reply()


class StrictReference(Replay):
    """A step that checks the reference solution under COURSE_CHECK=strict, where a wrong answer raises."""

    def runtest(self):
        source = self.chapter_cell.source
        self.run_text(replace_solution(source, solution_in(source)), COURSE_CHECK="strict")
        if not self.reply().startswith(f"{self.exercise_id} right"):
            self.raise_cell_error(f"{self.exercise_id}: the reference got {self.reply()!r}")


class Stub(Replay):
    """A step that runs the unchanged stub with the student's progress file, and keeps its variables."""

    def runtest(self):
        source = self.parent.student_sources.get(self.chapter_cell.id, "")
        rebound = self.run_text(source, keep=True, COURSE_STATE=self.parent.student_state)
        if not re.search(rf"^{self.exercise_id} not answered", self.reply(), re.M):
            self.raise_cell_error(f"{self.exercise_id}: the untouched stub got {self.reply()!r}")
        if others := set(self.parent.rebound.get(self.chapter_cell.id, [])) - set(rebound):
            self.raise_cell_error(f"The solution rebinds names of earlier cells: {', '.join(sorted(others))}")


class WholeRun(pytest.Item):
    """A step that makes one check of WHOLE_RUN after all other steps."""

    def __init__(self, *args, check, **kwargs):
        super().__init__(*args, **kwargs)
        self.check = check

    def runtest(self):
        if len(self.parent.done) < len(self.parent.steps):
            pytest.skip("only a part of the chapter ran")
        problems = self.check(self.parent)
        if self.parent.measured:
            self.user_properties.append((MEASURED, f"{self.path.stem}: {self.parent.measured}"))
        assert not problems, "\n".join(problems)

    def repr_failure(self, excinfo):
        return str(excinfo.value) if excinfo.errisinstance(AssertionError) else super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, self.name
