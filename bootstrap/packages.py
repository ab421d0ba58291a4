"""Install packages with pip: one line of progress, a log, and the cause of a failure in one sentence.

On Linux torch comes from PyTorch's own index for processors, since PyPI's torch brings CUDA.
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

# Measured on Linux: the environment of `lab`, what `test` adds, CUDA's libraries; each with pip's downloads.
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
    """How much of the disk installing takes at most."""
    return LAB_BYTES + (TEST_BYTES if dev else 0) + (CUDA_BYTES if cuda else 0)


def requirement(name):
    """What pyproject.toml asks for, such as torch==2.13.0."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"(%s==[^"]+)"' % name, text)[0]


def torch_setting():
    """COURSE_TORCH: cpu, cuda, the name of a folder of PyTorch's index such as cu130, or nothing."""
    name = os.environ.get("COURSE_TORCH", "").strip().lower()
    if not re.match(r"(cpu|cuda|cu\d+|rocm[\d.]+|xpu|)$", name):
        raise SetUpFailed(
            "COURSE_TORCH=%r is unknown; cpu and cuda are known" % name, "COURSE_TORCH=cuda make lab"
        )
    return name


def torch_index(name):
    """The URL of PyTorch's own index for a build, or None where pip's own index has it.

    PyPI has the CUDA build for Linux, and builds for processors for macOS and Windows.
    """
    if name == "cuda":
        name = "cu130" if IS_WINDOWS else ""
    elif not name and sys.platform == "linux":
        name = "cpu"
    return PYTORCH + name if name else None


def is_reachable(url):
    """Whether an index answers within five seconds."""
    try:
        return urllib.request.urlopen(url + "/torch/", timeout=5).getcode() == 200
    except (OSError, ValueError):
        return False


def explain_failure(output):
    """The likely cause of pip's failure in one sentence, and how to fix it."""
    errors = [line.partition("ERROR:")[2].strip() for line in output.splitlines() if "ERROR:" in line]
    missing = re.findall(r"No matching distribution found for (\S+)", output)
    again = "run the same command again"
    if "No space left on device" in output:
        return "the disk became full while installing", "free %.0f GB and %s" % (LAB_BYTES / GB, again)
    if "CERTIFICATE_VERIFY_FAILED" in output:
        return (
            "pip does not trust the certificate of this network, as behind a company's proxy",
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
    """One line that says what pip is doing. Where there is no terminal, a line for each of its steps."""

    def __init__(self):
        self.count, self.step = 0, ""

    def show(self, step, detail=""):
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r" + ("  %s %s" % (step, detail))[:width].ljust(width))
        elif step != self.step:
            sys.stdout.write("  %s\n" % step)
        sys.stdout.flush()
        self.step = step

    def read(self, line):
        """Take in a line of pip's output."""
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
        if sys.stdout.isatty():
            sys.stdout.write("\r%s\r" % (" " * (shutil.get_terminal_size().columns - 1)))
            sys.stdout.flush()


def pip(arguments, progress):
    """Run `pip install`, show its progress and log its output. Returns the exit status and the output."""
    command = [
        str(venv_program("python")),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += ["--progress-bar", "off", "--retries", "2"] + arguments
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
        except OSError:  # a full disk, which pip's own message tells
            pass
    return process.wait(), "".join(lines)


def default_torch_needs_cuda():
    """Whether pip's own index gives a torch that needs CUDA's libraries, as PyPI does on Linux."""
    command = PIP_INSTALL + ["--dry-run", "--quiet", "--no-deps", "--ignore-installed", "--report", "-"]
    result = subprocess.run(
        command + [requirement("torch")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        metadata = json.loads(result.stdout.decode("utf-8"))["install"][0]["metadata"]
    except (ValueError, KeyError, IndexError):
        return False  # whatever is wrong, the real installation will meet it and say so
    return any(re.match("nvidia|cuda|triton", needed) for needed in metadata.get("requires_dist", ()))


def install_torch(name, dev, progress):
    """Install torch from PyTorch's own index where that has the wanted build; else leave it to pip's."""
    if list(VENV.glob("**/site-packages/%s*.dist-info" % requirement("torch").replace("==", "-"))):
        return
    index, chosen = torch_index(name), name not in ("", "cpu")
    if index and (chosen or is_reachable(index)):
        status, output = pip(["--no-deps", "--index-url", index, requirement("torch")], progress)
        if status == 0:
            return
        if chosen:
            raise SetUpFailed(*explain_failure(output))
    if sys.platform == "linux" and default_torch_needs_cuda():
        check_disk(required_disk_bytes(dev, cuda=True))
        progress.end()
        why = "" if chosen else "PyTorch's index of builds for processors cannot be used here. "
        print(
            "  %sThe package index brings CUDA: 3.1 GB to download and 5.6 GB on disk, not 0.6 and 2.4." % why
        )


def install(name, dev):
    """Fill the environment with what pyproject.toml asks for."""
    LOG.write_text("", encoding="utf-8")
    progress = Progress()
    try:
        install_torch(name, dev, progress)
        status, output = pip(["--editable", "%s[dev]" % ROOT if dev else str(ROOT)], progress)
    finally:
        progress.end()
    if status:
        what, fix = explain_failure(output)
        raise SetUpFailed("%s (all that pip said: %s)" % (what, quote(LOG)), fix)
