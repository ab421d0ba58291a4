"""Install the course from this folder, without a network: python3 install.py [FOLDER]

FOLDER is where the course goes, by default local-ai-measured in your home folder. The same command goes on
after an interruption. Only Python is needed.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

PACK = Path(__file__).resolve().parent
COURSE = "local-ai-measured"


class Failed(Exception):
    """What went wrong, and the fix."""

    def __init__(self, what, fix):
        Exception.__init__(self, "%s\n  Fix: %s" % (what, fix))


def target():
    """Return this system and Python, such as "linux 3.12"."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux-arm" if arm else "linux")
    return "%s %d.%d" % ((system,) + tuple(sys.version_info[:2]))


def check(manifest, names):
    """Raise Failed unless each file is there with its SHA-256."""
    for name in names:
        path = PACK / name
        if not path.is_file():
            raise Failed("%s is missing in this folder" % name, "copy the whole folder again")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        if digest.hexdigest() != manifest["sha256"][name]:
            raise Failed("%s was changed, or copied badly" % name, "copy the whole folder again")


def unpack(archive, folder):
    """Unpack the course into `folder`. Its files are replaced there; others, such as workspace/, stay."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "course.py").is_file():
        raise Failed("%s holds something else" % folder, "name another folder: install.py FOLDER")
    with zipfile.ZipFile(str(archive)) as z:
        for member in z.infolist():
            path = folder / member.filename.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(z.read(member))


def course(folder, words, wheels):
    """Run a command of the course, for which pip finds everything in `wheels`. Raises Failed if it fails."""
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    environment = dict(os.environ, HF_HUB_OFFLINE="1", **settings)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "COURSE_TORCH"):
        environment.pop(name, None)
    if subprocess.call([sys.executable, "course.py"] + words, cwd=str(folder), env=environment):
        raise Failed("`course.py %s` did not succeed" % " ".join(words), "read what stands above this line")


def pull(name, folder, terms):
    """Install a model, or, if it has terms that its user must accept, say how."""
    wheels = PACK / "wheels"
    if not terms:
        return course(folder, ["models", "pull", name], wheels)
    start = (
        "set PIP_NO_INDEX=1&& set PIP_FIND_LINKS=%s&& py"
        if os.name == "nt"
        else "PIP_NO_INDEX=1 PIP_FIND_LINKS=%s python3"
    )
    print("%s has terms of its own. If you accept them, type in %s:" % (name, folder))
    print("  %s course.py models pull %s --accept-licence" % (start % quote(wheels), name))


def quote(path):
    """Return a path quoted for this system's shell. `set` takes a path as it is on Windows."""
    return str(path) if os.name == "nt" else shlex.quote(str(path))


def main(arguments):
    """Check the pack, unpack the course, and install it. Returns the exit status."""
    folder = Path(arguments[0]).expanduser().resolve() if arguments else Path.home() / COURSE
    try:
        manifest = json.loads((PACK / "manifest.json").read_text(encoding="utf-8"))
        if target() not in manifest["targets"]:
            pythons = ", ".join(sorted(manifest["targets"]))
            raise Failed("this is %s; the pack is for: %s" % (target(), pythons), "use one of these Pythons")
        models = manifest["models"]
        wheels = manifest["targets"][target()] + [name for own in models.values() for name in own]
        print("Checking %d files." % (len(wheels) + 1), flush=True)
        check(manifest, [manifest["course"]] + wheels)
        unpack(PACK / manifest["course"], folder)
        course(folder, ["set-up"], PACK / "wheels")
        for name in models:
            pull(name, folder, name in manifest["terms"])
        course(folder, ["doctor"], PACK / "wheels")
    except (Failed, OSError, ValueError, KeyError) as error:
        sys.stderr.write("install: %s\n" % error)
        return 1
    print(
        "Installed in %s. To begin, type there: %s course.py lab"
        % (folder, "py" if os.name == "nt" else "python3")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
