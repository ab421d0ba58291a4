"""What pyproject.toml cannot say: a wheel carries the chapters, data and models, in `course_lib/share`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("chapters", "datasets/haneul", "datasets/adapters", "models/haneul-*")


class BuildWithCourse(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # then the repository's own folders are used
            return
        share = Path(self.build_lib, "course_lib", "share")
        shutil.rmtree(share, ignore_errors=True)  # what an earlier build left
        for pattern in CARRIED:
            for folder in Path().glob(pattern):
                shutil.copytree(folder, share / folder, ignore=shutil.ignore_patterns(".*", "__*"))


setup(cmdclass={"build_py": BuildWithCourse})
