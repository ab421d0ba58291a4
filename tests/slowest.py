"""`python -m tests.slowest`: the 30 slowest tests of the last `make test`, as a table for docs/testing.md."""

import json

from course_lib.data import ROOT


def main():
    path = ROOT / ".pytest_cache" / "v" / "course" / "slowest"
    if not path.is_file():
        raise SystemExit("no whole run is known here\n  Fix: make test")
    print("| seconds | test |\n|---|---|")
    for nodeid, seconds in json.loads(path.read_text("utf-8")):
        print(f"| {seconds:.0f} | `{nodeid}` |")


if __name__ == "__main__":
    main()
