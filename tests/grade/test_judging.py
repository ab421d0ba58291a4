"""One answer at a time: every kind gets its verdict, and none reaches anything outside its process."""

import signal
import subprocess
import sys
import time

import pytest

from course_lib.data import ROOT
from course_lib.grade import judge as judging
from course_lib.grade.answers import answers, cells_of, course_chapters, exercise_ids, needed_before
from course_lib.grade.judge import Answer, Limits, judge
from course_lib.grade.worker import plain_python
from course_lib.learn.exercises import Exercise, all_exercises, find_exercise
from course_lib.learn.student import exercise_cell
from tests.grade.planted import FIRST, HOSTILE, PROTECTED, cell, notebook, solved

CHAPTER = course_chapters()["00"]
pytestmark = PROTECTED


def judged(source, seconds=30, exercise=None):
    return judge(Answer(exercise or find_exercise(FIRST), source, "forge"), Limits(seconds))


@pytest.mark.parametrize("kind", HOSTILE)
def test_every_kind_gets_its_verdict(kind):
    source, verdict, message = HOSTILE[kind]
    answer = dict(answers(cells_of(notebook(source), CHAPTER), CHAPTER))[FIRST]
    if answer is None:
        assert verdict == "not answered"
        return
    begun = time.monotonic()
    result = judge(answer, Limits(2 if verdict == "timed out" else 30))
    assert (result.verdict, message in result.message) == (verdict, True), result
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("%time x = 1", "x = 1"),
        ("def f():\n    %time y = 2\n    return y", "def f():\n    y = 2\n    return y"),
        ("x = %time f(2)", "x = f(2)"),
        ("%timeit f(2)\nx = 1", "pass\nx = 1"),
        ("if x:\n    !ls 'a\ny = 1", "if x:\n    pass\ny = 1"),
        ("x?\nx.real??\n?x\n%matplotlib inline", "pass\npass\npass\npass"),
        ('%pwd\nx = """\n%time y = 2\n!ls\n"""', 'pass\nx = """\n%time y = 2\n!ls\n"""'),
        ("%pwd\r\nx = (7\r\n% 4)", "pass\nx = (7\n% 4)"),
        ("x = 1 +\n%pwd", "x = 1 +\n%pwd"),
    ],
)
def test_commands_of_jupyter_are_taken_out_line_by_line(source, plain):
    assert plain_python(source) == plain


def test_an_answer_that_needs_the_shell_is_told_the_line():
    result = judged("%pwd\nforge = !ls\n")
    assert result.verdict == "crashed" and "stopped in line 2 with SyntaxError" in result.message


def test_an_exercise_says_how_long_its_answer_may_take():
    short = Exercise("00.1", "short", ("", "", ""), lambda _: None, seconds=1)
    answer = Answer(short, "import time\ntime.sleep(1000)", "forge")
    assert judge(answer, Limits()).message == "it did not end within 1 seconds"
    assert {id_: e.seconds for id_, e in all_exercises().items() if e.seconds != 30} == {"09.8": 300}


def test_nothing_outside_is_read_changed_or_reached(tmp_path):
    """What an answer tries comes back as its value: the names of what succeeded."""
    target = tmp_path / "grades.csv"
    target.write_text("kept")
    attempts = f"""
import os, socket, sys
succeeded = []
target = {str(target)!r}
for name, attempt in {{
    "write": lambda: open(target, "w"),
    "append": lambda: open(target, "a"),
    "read": lambda: open(target).read(),
    "truncate": lambda: os.truncate(target, 0),
    "truncate by open": lambda: os.open(os.__file__, os.O_RDONLY | os.O_TRUNC),
    "delete": lambda: os.unlink(target),
    "rename": lambda: os.rename(target, target + "2"),
    "link": lambda: os.link(target, "link"),
    "permissions": lambda: os.chmod(target, 0),
    "times": lambda: os.utime(target),
    "list": lambda: os.listdir({str(tmp_path)!r}),
    "new folder": lambda: os.mkdir("folder"),
    "accounts": lambda: open("/etc/passwd"),
    "the chapters": lambda: os.listdir({str(ROOT / "chapters")!r}),
    "the checkers": lambda: open({str(ROOT / "course_lib/learn/exercises/chapter_00.py")!r}),
    "another process": lambda: open(f"/proc/{{os.getppid()}}/environ").read(),
    "its memory": lambda: open(f"/proc/{{os.getppid()}}/mem", "rb").read(1),
    "start a process": lambda: os.fork(),
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "socket": lambda: socket.socket(),
    "UNIX socket": lambda: socket.socket(socket.AF_UNIX),
    "signal": lambda: os.kill(os.getppid(), 0),
    "more memory": lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_AS, (-1, -1)),
}}.items():
    try:
        attempt()
    except (OSError, ValueError):
        continue
    succeeded.append(name)
open("own", "w").write("its own folder is writable")
forge = [*succeeded, os.environ["HOME"] == os.getcwd(), sorted(os.environ)]
"""
    found = []
    exercise = Exercise(FIRST, "", (), lambda answer: found.append(answer))
    assert judged(attempts, exercise=exercise).verdict == "right"
    home, variables = found[0][-2:]
    assert found[0][:-2] == [] and home
    assert not {"COURSE_STATE", "USER", "SSH_AUTH_SOCK"} & set(variables)
    assert target.read_text() == "kept" and [p.name for p in tmp_path.iterdir()] == ["grades.csv"]


def test_an_answer_that_loads_models_finds_what_it_needs():
    """The whole system of chapter 09's last exercise takes a minute; this is what it failed at."""
    source = f"""
import os
for name in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
    os.makedirs(os.environ[name], exist_ok=True)
open({str(ROOT / "datasets" / "adapters" / "manifest.json")!r}).read()
open("model.gguf", "wb").write(bytes(20_000_000))
forge = True
"""
    assert judged(source, exercise=Exercise(FIRST, "", (), lambda v: None)).verdict == "right"


def test_threads_work_and_numpy_too():
    source = """
import threading
import numpy as np
done = []
thread = threading.Thread(target=lambda: done.append(np.ones((50, 50)) @ np.ones(50)))
thread.start()
thread.join()
forge = done[0]
"""
    exercise = Exercise(FIRST, "", (), lambda v: None if v.sum() == 2500 else "no")
    assert judged(source, exercise=exercise).verdict == "right"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no time of the processor")
def test_the_end_of_the_processors_time_is_told_as_such():
    """By SIGXCPU: a SIGKILL would be told as a crash."""
    code = "from course_lib.grade.protection import _limit; _limit(1)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGXCPU


def test_no_process_outlives_its_judge():
    """Not even where the judge itself is killed."""
    code = f"""
from course_lib.grade.judge import Answer, Limits, judge
from course_lib.learn.exercises import find_exercise
judge(Answer(find_exercise({FIRST!r}), "import time; time.sleep(1000)", "forge"), Limits(100))
"""
    environment_of = "course_lib.grade.worker"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 30
        while not (workers := children(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert workers and environment_of in " ".join(workers[0].cmdline())
        process.kill()
    deadline = time.monotonic() + 30
    while workers[0].is_running() and workers[0].status() != "zombie" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not workers[0].is_running() or workers[0].status() == "zombie"


def children(pid):
    import psutil

    return [c for c in psutil.Process(pid).children() if "course_lib.grade.worker" in c.cmdline()]


def test_what_cannot_be_shut_off_is_not_run(monkeypatch):
    """Landlock of too old a kernel: nothing runs unless somebody says so."""
    environment = judging._environment

    def older(folder):
        (folder / "sitecustomize.py").write_text(
            "import course_lib.grade.protection as p\np._forbid_files = lambda *_: ['files, here']\n"
        )
        changed = environment(folder)
        return changed | {"PYTHONPATH": f"{folder}:{changed['PYTHONPATH']}"}

    monkeypatch.setattr(judging, "_environment", older)
    answer = Answer(find_exercise(FIRST), solved(FIRST), "forge")
    with pytest.raises(judging.CourseError, match="cannot be kept from files, here"):
        judge(answer, Limits())
    assert judge(answer, Limits(unprotected=True)).verdict == "right"


@pytest.mark.parametrize("id_", [i for i in all_exercises() if i[:2] in ("02", "07")])
def test_values_arrive_as_they_were(id_):
    """The solutions of two chapters with arrays, warnings, iterators and generators."""
    cells = {id_: exercise_cell(id_)}
    answer = dict(answers(cells, course_chapters()[id_[:2]]))[id_]
    assert judge(answer, Limits()).verdict == "right"


def test_every_exercise_is_graded():
    found = [id_ for chapter in course_chapters().values() for id_ in exercise_ids(chapter).values()]
    assert sorted(found) == sorted(all_exercises()), "an exercise whose cell is not known gets no points"


def test_a_changed_argument_is_seen():
    source = cell("text.append(1)\nreturn None")

    def check(answer):
        values = [0]
        answer(values, "", "")
        return None if values == [0, 1] else f"{values}"

    assert judged(source, exercise=Exercise(FIRST, "", (), check)).verdict == "right"


def test_a_cell_gets_what_it_needs_of_the_chapter_and_no_more():
    before = [
        "import numpy as np\nimport torch",
        "model = load('big')\nunit = 'GiB'",
        "def helper(x):\n    return np.abs(x) + offset",
        "offset = 3\nprint(model)",
    ]
    cell = "def answer(model):\n    '''uses the name of a variable for its own'''\n    return helper(model)"
    assert needed_before(cell, before) == [
        "import numpy as np",
        "def helper(x):\n    return np.abs(x) + offset",
        "offset = 3",
    ]
    assert needed_before("answer = (", before) == []
