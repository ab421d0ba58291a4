"""How long importing course_lib and its light packages takes in a fresh interpreter, beside numpy."""

import subprocess
import sys

from course_lib.measure import machine, measure


def in_fresh_interpreter(code: str) -> float:
    """Median seconds of starting Python and running `code`."""
    return measure(lambda: subprocess.run([sys.executable, "-c", code], check=True), repeats=9).median


def main() -> None:
    nothing = in_fresh_interpreter("pass")
    print(machine())
    for code in (
        "import course_lib",
        "import course_lib.data, course_lib.measure, course_lib.cli",
        "import numpy",
    ):
        print(f"{code}: {1e3 * (in_fresh_interpreter(code) - nothing):.0f} ms")


if __name__ == "__main__":
    main()
