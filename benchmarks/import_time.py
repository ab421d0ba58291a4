"""How long `import course_lib` takes in a fresh interpreter, beside `import numpy`."""

import subprocess
import sys

from course_lib.measure import machine, measure


def in_fresh_interpreter(code: str) -> float:
    """Median seconds of starting Python and running `code`."""
    return measure(lambda: subprocess.run([sys.executable, "-c", code], check=True), repeats=9).median


def main() -> None:
    nothing = in_fresh_interpreter("pass")
    ours = (
        in_fresh_interpreter("import course_lib, course_lib.data, course_lib.measure, course_lib.cli")
        - nothing
    )
    numpy = in_fresh_interpreter("import numpy") - nothing
    print(machine())
    print(f"course_lib {1e3 * ours:.0f} ms, numpy {1e3 * numpy:.0f} ms, ratio {ours / numpy:.2f}")


if __name__ == "__main__":
    main()
