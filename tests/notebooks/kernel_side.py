"""Functions that the runner calls inside a chapter's kernel, where they are not visible to the chapter."""

import os

from IPython import get_ipython

SETTINGS = ("COURSE_STATE", "COURSE_CHECK")  # environment variables that a replay may set
_before: dict[str, object] = {}


def begin(settings):
    """Remember the values of the chapter's variables, and set environment variables for the next code."""
    _before.clear()
    _before.update(_names())
    os.environ.update(settings)


def end(keep):
    """Unset the environment variables and, unless `keep`, restore the variables as they were at `begin`.

    Returns the names of variables that were rebound since then, except those that were `...`, a stub's value.
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
    """Try the test values of all controls of the last cell's widget; return the number of values tried."""
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
