"""Functions that the runner calls inside a chapter's kernel. The chapter does not see their names."""

import os

from IPython import get_ipython

SETTINGS = ("COURSE_STATE", "COURSE_CHECK")  # environment variables that a replay may set
_before: dict[str, object] = {}


def begin(settings):
    """Remember the chapter's names, and set environment variables for the text that is run next."""
    _before.clear()
    _before.update(_names())
    os.environ.update(settings)


def end(keep):
    """Unset the environment variables, and undo what was bound since `begin` unless `keep`.

    Returns the names that are bound to something else now, but not those that were `...`, a stub's value.
    """
    for name in SETTINGS:
        os.environ.pop(name, None)
    after = _names()
    rebound = [k for k, value in _before.items() if value is not ... and after.get(k, ...) is not value]
    if not keep:
        namespace = get_ipython().user_ns
        for name in after.keys() - _before.keys():
            del namespace[name]
        namespace.update(_before)
    _before.clear()
    return sorted(rebound)


def drive():
    """Move the widget that the last cell showed to every end; return how many positions there were."""
    from course_lib.learn.predictions import Prediction
    from course_lib.learn.widgets import Explorer

    shell = get_ipython()
    shown = shell.user_ns["Out"].get(shell.execution_count - 1)
    assert isinstance(shown, (Explorer, Prediction)), "a widget cell that shows no widget"
    return shown.drive()


def _names():
    shell = get_ipython()
    hidden = shell.user_ns_hidden
    return {k: v for k, v in shell.user_ns.items() if not k.startswith("_") and k not in hidden}
