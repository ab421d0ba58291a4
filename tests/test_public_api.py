"""What `import course_lib` and `import course_lib.tuning` offer, and that the import alone costs nothing."""

import json
import statistics
import subprocess
import sys

import pytest

import course_lib
from course_lib import tuning

MEASURE = """
import sys, time
before, begun = set(sys.modules), time.perf_counter()
import course_lib, course_lib.tuning
seconds = time.perf_counter() - begun
import json
print(json.dumps([seconds, sorted({name.split(".")[0] for name in set(sys.modules) - before})]))
"""


def test_importing_the_library_takes_a_fifth_of_a_second_at_most_and_loads_no_other_library():
    runs = [json.loads(subprocess.check_output([sys.executable, "-c", MEASURE], text=True)) for _ in range(3)]
    assert statistics.median(seconds for seconds, _ in runs) < 0.2
    loaded = set(runs[0][1]) - sys.stdlib_module_names
    assert {name for name in loaded if not name.startswith("__editable__")} == {"course_lib"}


@pytest.mark.parametrize("package", [course_lib, tuning], ids=lambda package: package.__name__)
def test_every_public_name_is_there_and_is_listed(package):
    for name in package.__all__:
        assert getattr(package, name) is not None and name in dir(package)
    assert len(package.__all__) <= 12
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'trian'"):
        package.trian  # noqa: B018


def test_train_is_the_function_even_when_its_module_was_imported():
    import course_lib.tuning.training as module

    assert course_lib.train is tuning.train is module.train
