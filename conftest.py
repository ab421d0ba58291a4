"""pytest settings for the tests and the chapters: the chapters' runner, and the order of work."""

import gc
import os
import signal
from collections import Counter

import pytest

from course_lib.chapters import read_notebook
from course_lib.learn.budget import declared_budget
from tests.affected import affected, changed_files
from tests.gguf_files import export_shipped_models

pytest_plugins = ["tests.notebooks.runner", "tests.real_models"]
LAST_TIME = "course/seconds"  # in pytest's cache: file -> seconds that its tests took
SLOWEST = "course/slowest"  # in pytest's cache: the 30 slowest tests of the last whole run
WHOLE_RUN = 1000  # tests, at least
_seconds: Counter[str] = Counter()
_tests: Counter[str] = Counter()


def pytest_addoption(parser):
    parser.addoption(
        "--changed", action="store_true", help="only tests whose imports changed since the last commit"
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Keep the course's own cache with pytest's, out of the home folder; listen to Ctrl-C."""
    cache = _cache(config)
    if cache:
        os.environ.setdefault("COURSE_CACHE_DIR", str(cache.mkdir("course")))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell makes what it starts in the background deaf to Ctrl-C, and their children with them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.changed:
        config.chosen, config.left = affected(changed_files(), _last_time(config))


def pytest_report_header(config):
    if config.option.changed:
        left = [f"left to make test, for lack of time: {', '.join(path.stem for path in config.left)}"]
        return [f"{len(config.chosen)} files import what changed", *(left if config.left else [])]


def pytest_ignore_collect(collection_path, config):
    if config.option.changed and collection_path.is_file() and collection_path.name != "__init__.py":
        return collection_path not in config.chosen or None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Put the files that take longest first, so that the workers of pytest-xdist end at about the same time.

    A chapter takes its declared minutes; another file what it took here the last time.
    """
    if not hasattr(config, "workerinput"):
        return
    seconds = _last_time(config)
    for path in {item.path for item in items if item.path.suffix == ".ipynb"}:
        name = path.relative_to(config.rootpath).as_posix()
        seconds[name] = 60 * declared_budget(read_notebook(path), path.name).minutes
    items.sort(key=lambda item: -seconds.get(_file(item.nodeid), 0))


def pytest_collection_finish(session):
    """Leave what is there now out of garbage collections: every training makes a full one, of 0.6 s.

    The first worker of a whole run writes the GGUF files that chapters and tests pull.
    """
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0" and len(session.items) >= WHOLE_RUN:
        export_shipped_models()
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report):
    _seconds[_file(report.nodeid)] += report.duration
    _tests[report.nodeid] += report.duration


def pytest_sessionfinish(session):
    config = session.config
    if _cache(config) and not hasattr(config, "workerinput"):
        _cache(config).set(LAST_TIME, _last_time(config) | _seconds)
        if len(_tests) >= WHOLE_RUN:
            _cache(config).set(SLOWEST, _tests.most_common(30))


def _cache(config):
    """pytest's cache, or None where `-p no:cacheprovider` switched it off."""
    return getattr(config, "cache", None)


def _last_time(config):
    return _cache(config).get(LAST_TIME, {}) if _cache(config) else {}


def _file(nodeid):
    return nodeid.partition("::")[0]
