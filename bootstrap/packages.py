"""Install packages with pip: show progress in one line, write a log, and explain failures in one sentence.

On Linux, torch is installed from PyTorch's own CPU index, because PyPI's torch includes several GB of CUDA.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request

from bootstrap.host import (
    GB,
    IS_WINDOWS,
    LOG,
    ROOT,
    VENV,
    SetUpFailed,
    check_disk,
    quote,
    venv_program,
)

# Disk space measured on Linux, with pip's downloads: for `course lab`, more for the tests, more for CUDA.
LAB_BYTES, TEST_BYTES, CUDA_BYTES = 3.5 * GB, GB, 6 * GB
PIP_INSTALL = [str(venv_program("python")), "-m", "pip", "install", "--disable-pip-version-check"]
PYTORCH = "https://download.pytorch.org/whl/"
NETWORK_SIGNS = (
    "NewConnectionError",
    "Name or service not known",
    "name resolution",
    "getaddrinfo failed",
    "nodename nor servname",
    "ProxyError",
    "Network is unreachable",
    "ConnectTimeout",
    "Read timed out",
    "Failed to establish",
    "Connection refused",
    "Connection broken",
    "RemoteDisconnected",
)


def required_disk_bytes(dev, cuda=False):
    """Return the maximum disk space that an installation needs, in bytes."""
    return LAB_BYTES + (TEST_BYTES if dev else 0) + (CUDA_BYTES if cuda else 0)


def requirement(name):
    """Return the pinned requirement of a package in pyproject.toml, such as torch==2.13.0."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"(%s==[^"]+)"' % name, text)[0]


def torch_setting():
    """Return COURSE_TORCH: cpu, cuda, the name of a PyTorch index such as cu130, or ''."""
    name = os.environ.get("COURSE_TORCH", "").strip().lower()
    if not re.match(r"(cpu|cuda|cu\d+|rocm[\d.]+|xpu|)$", name):
        raise SetUpFailed(
            "COURSE_TORCH=%r is unknown; cpu and cuda are known" % name, "COURSE_TORCH=cuda make lab"
        )
    return name


def torch_index(name):
    """Return the URL of PyTorch's index for a setting of COURSE_TORCH, or None for pip's default index.

    PyPI has the CUDA build for Linux, and the CPU builds for macOS and Windows.
    """
    if name == "cuda":
        name = "cu130" if IS_WINDOWS else ""
    elif not name and sys.platform == "linux":
        name = "cpu"
    return PYTORCH + name if name else None


def is_reachable(url):
    """Whether a package index responds within five seconds."""
    try:
        return urllib.request.urlopen(url + "/torch/", timeout=5).getcode() == 200
    except (OSError, ValueError):
        return False


def explain_failure(output):
    """Return the likely cause of a failure of pip, from its output, and the fix."""
    errors = [line.partition("ERROR:")[2].strip() for line in output.splitlines() if "ERROR:" in line]
    missing = re.findall(r"No matching distribution found for (\S+)", output)
    again = "run the same command again"
    if "No space left on device" in output:
        return "the disk became full while installing", "free %.0f GB and %s" % (LAB_BYTES / GB, again)
    if "CERTIFICATE_VERIFY_FAILED" in output:
        return (
            "pip does not trust the certificate of this network; a company's proxy may be the cause",
            "pip config set global.cert FILE, with the file of your network's certificates",
        )
    check_network = "check the connection (a proxy goes into HTTPS_PROXY) and %s" % again
    if any(sign in output for sign in NETWORK_SIGNS):
        return "pip could not get a package from the network", check_network
    if missing:
        system = "%s for this Python on %s %s" % (missing[0], platform.system(), platform.machine())
        if "(from versions: none)" in output:
            return (
                "pip could not get a package from the network: it found no file of %s" % system,
                check_network,
            )
        return "pip found no file of %s" % system, "see 'Where it runs' in README.md"
    return "pip failed: %s" % (errors[-1] if errors else "it gave no reason"), "read %s" % quote(LOG)


class Progress:
    """A progress line that shows what pip is doing. Without a terminal, prints a line per step instead."""

    def __init__(self):
        self.count, self.step = 0, ""

    def show(self, step, detail=""):
        """Show the current step."""
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r" + ("  %s %s" % (step, detail))[:width].ljust(width))
        elif step != self.step:
            sys.stdout.write("  %s\n" % step)
        sys.stdout.flush()
        self.step = step

    def read(self, line):
        """Update the progress from a line of pip's output."""
        words = line.split()
        if line.startswith("Collecting "):
            self.count += 1
            self.show("collecting packages", "%d: %s" % (self.count, re.split(r"[<>=!~;\[]", words[1])[0]))
        elif words[:1] == ["Downloading"] and "MB" in line:
            name = words[1].rpartition("/")[2].split("-")[0]
            self.show("collecting packages", "%d: %s %s" % (self.count, name, " ".join(words[2:])))
        elif line.startswith("Installing collected packages:"):
            self.show("installing packages", "(%d, a minute or two)" % (line.count(",") + 1))

    def end(self):
        """Clear the progress line."""
        if sys.stdout.isatty():
            sys.stdout.write("\r%s\r" % (" " * (shutil.get_terminal_size().columns - 1)))
            sys.stdout.flush()


def pip(arguments, progress):
    """Run `pip install`, show its progress and log its output. Returns the exit status and the output."""
    command = PIP_INSTALL + ["--no-input", "--progress-bar", "off", "--retries", "2"] + arguments
    environment = dict(os.environ, PYTHONIOENCODING="utf-8", PYTHONUNBUFFERED="1")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=str(ROOT), env=environment
    )
    lines = []
    for raw in process.stdout or ():
        line = raw.decode("utf-8", "replace")
        lines.append(line)
        progress.read(line)
        try:
            with LOG.open("a", encoding="utf-8") as log:
                log.write(line)
        except OSError:  # the disk is full, which pip reports itself
            pass
    return process.wait(), "".join(lines)


def default_torch_needs_cuda():
    """Whether torch from pip's default index depends on CUDA's libraries, as PyPI's does on Linux."""
    command = PIP_INSTALL + ["--dry-run", "--quiet", "--no-deps", "--ignore-installed", "--report", "-"]
    result = subprocess.run(
        command + [requirement("torch")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        metadata = json.loads(result.stdout.decode("utf-8"))["install"][0]["metadata"]
    except (ValueError, KeyError, IndexError):
        return False  # the actual installation will fail with the same error and report it
    return any(re.match("nvidia|cuda|triton", needed) for needed in metadata.get("requires_dist", ()))


def install_torch(name, dev, progress):
    """Install torch from PyTorch's own index if that has the requested build, else leave it to `install`."""
    if list(VENV.glob("**/site-packages/%s*.dist-info" % requirement("torch").replace("==", "-"))):
        return
    index, chosen = torch_index(name), name not in ("", "cpu")
    offline = os.environ.get("PIP_NO_INDEX", "").lower() not in ("", "0", "no", "false", "off")
    if index and (chosen or (not offline and is_reachable(index))):
        status, output = pip(["--no-deps", "--index-url", index, requirement("torch")], progress)
        if status == 0:
            return
        if chosen:
            raise SetUpFailed(*explain_failure(output))
    if sys.platform == "linux" and default_torch_needs_cuda():
        check_disk(required_disk_bytes(dev, cuda=True))
        progress.end()
        why = "" if chosen else "PyTorch's index of CPU builds cannot be used here. "
        print(
            "  %sThe default index includes CUDA: 3.1 GB to download and 5.6 GB on disk, not 0.6 and 2.4."
            % why
        )


def install(name, dev):
    """Install the requirements of pyproject.toml into the environment.

    name: a setting of COURSE_TORCH. dev: also install the packages for the tests. Raises SetUpFailed.
    """
    LOG.write_text("", encoding="utf-8")
    progress = Progress()
    try:
        install_torch(name, dev, progress)
        status, output = pip(["--editable", "%s[dev,site]" % ROOT if dev else str(ROOT)], progress)
        if dev and status == 0:  # pyproject.toml tells why
            status, output = pip(["--no-deps", requirement("spandrel")], progress)
    finally:
        progress.end()
    if status:
        what, fix = explain_failure(output)
        raise SetUpFailed("%s (pip's output: %s)" % (what, quote(LOG)), fix)
