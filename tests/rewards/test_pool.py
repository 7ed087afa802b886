"""The pool: budgets, deaths, faults, and that one sample's trouble is its own."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import rewards
from rewards import Pool, Sample
from rewards.routes import BY_ROW, by_row

USER_FILE = """
import os, signal, time
from pathlib import Path

def words(sample, *, factor=1.0):
    return factor * len(sample.completion.split())

def trouble(sample):
    match sample.completion:
        case "nan": return float("nan")
        case "inf": return float("inf")
        case "text": return "1.0"
        case "none": return None
        case "raise": raise KeyError("no such row")
        case "spin":
            while True: pass
        case "die": os.kill(os.getpid(), signal.SIGSEGV)
        case "exit": os._exit(0)
        case "memory": return float(len(bytearray(8 << 30)))
        case "print": print("x" * 100_000)
        case "pid": return float(os.getpid())
        case "sleep": time.sleep(60)
        case "orphan":
            if os.fork() == 0: time.sleep(60)
            os.kill(os.getpid(), signal.SIGABRT)
    return 1.0

trouble.cpu_s = 0.3

def die_once(sample):
    mark = Path(sample.columns["mark"])
    if not mark.exists():
        mark.touch()
        os.abort()
    return 1.0

def napping(sample):
    time.sleep(60)

napping.wall_s = 0.2

def here(sample):
    return float(os.getpid())

here.isolation = "inline"

async def later(sample):
    import asyncio
    await asyncio.sleep(0)
    return 0.5

def trl_style(prompts, completions, answer, **kwargs):
    return [float(c.strip() == a) for c, a in zip(completions, answer)]

def too_many(samples):
    return [1.0] * 7
"""


def sample(completion: str, **fields: object) -> Sample:
    return Sample(prompt="", completion=completion, id=f"s-{completion}", **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(USER_FILE)
    return folder


@pytest.fixture(scope="module")
def pool() -> object:
    with Pool(2) as pool:
        yield pool


def test_user_file_with_arguments(base: Path) -> None:
    (reward,) = rewards.score("mine.py:words", [sample("a b c")], args={"factor": 2}, base=base)
    assert (reward.value, reward.verdict) == (6.0, "scored")


@pytest.mark.parametrize("ref", ["mine.py:later", "mine.py:trl_style"])
def test_other_forms(pool: Pool, base: Path, ref: str) -> None:
    reward = pool.submit(ref, sample("4", gold="4"), base=base).result()
    assert reward.value == (0.5 if "later" in ref else 1.0)


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        ("nan", "value = nan"),
        ("inf", "value = inf"),
        ("text", "returned str, not a number"),
        ("raise", "KeyError: 'no such row'"),
        ("die", "SIGSEGV"),
        ("exit", "exit code 0"),
        ("memory", "MemoryError"),
        ("orphan", "SIGABRT"),
    ],
)
def test_faults_name_function_and_sample(
    pool: Pool, base: Path, completion: str, said: str
) -> None:
    reward = pool.submit("mine.py:trouble", sample(completion), base=base).result()
    assert (reward.value, reward.verdict) == (None, "infra_error")
    for part in ("mine.py:trouble", f"'s-{completion}'", said):
        assert part in reward.detail["error"]


def test_wrong_length(pool: Pool, base: Path) -> None:
    reward = pool.submit("mine.py:too_many", sample("x"), base=base).result()
    assert "7 rewards for 1 samples" in reward.detail["error"]


def test_none_is_not_scored(pool: Pool, base: Path) -> None:
    reward = pool.submit("mine.py:trouble", sample("none"), base=base).result()
    assert (reward.value, reward.verdict) == (None, "not_scored")


def test_prints_do_not_reach_the_protocol(
    pool: Pool, base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert pool.submit("mine.py:trouble", sample("print"), base=base).result().value == 1.0


def test_cpu_budget_ends_a_busy_loop(pool: Pool, base: Path) -> None:
    start_s = time.monotonic()
    reward = pool.submit("mine.py:trouble", sample("spin"), base=base).result()
    assert (reward.value, reward.verdict) == (None, "timeout")
    assert time.monotonic() - start_s < 10


def test_wall_limit_is_a_fault_not_a_zero(pool: Pool, base: Path) -> None:
    reward = pool.submit("mine.py:napping", sample("x"), base=base).result()
    assert (reward.value, reward.verdict) == (None, "infra_error")


def test_one_crash_is_forgiven(pool: Pool, base: Path, tmp_path: Path) -> None:
    columns = {"mark": str(tmp_path / "mark")}
    assert pool.submit("mine.py:die_once", sample("x", columns=columns), base=base).result().value


def test_second_time_a_crasher_is_quarantined(pool: Pool, base: Path) -> None:
    pool.submit("mine.py:trouble", sample("exit"), base=base).result()
    reward = pool.submit("mine.py:trouble", sample("exit"), base=base).result()
    assert "quarantined" in reward.detail["error"]


def test_killed_worker_changes_nothing(base: Path) -> None:
    with Pool(1) as pool:
        pid = pool.submit("mine.py:trouble", sample("pid"), base=base).result().value
        assert pid is not None
        slow = pool.submit("mine.py:trouble", sample("fine"), base=base)
        os.kill(int(pid), signal.SIGKILL)
        rest = [pool.submit("mine.py:trouble", sample(f"{i}"), base=base) for i in range(20)]
        assert [future.result().value for future in [slow, *rest]] == [1.0] * 21
        other = pool.submit("mine.py:trouble", sample("pid"), base=base).result().value
        assert other != pid


def test_kill_in_mid_check_is_retried(base: Path) -> None:
    with Pool(1) as pool:
        pid = pool.submit("mine.py:trouble", sample("pid"), base=base).result().value
        assert pid is not None
        future = pool.submit("mine.py:trouble", sample("spin"), base=base)
        time.sleep(0.15)
        os.kill(int(pid), signal.SIGKILL)
        assert future.result().verdict == "timeout"


def test_workers_end_with_the_pool(base: Path) -> None:
    with Pool(1) as pool:
        pid = pool.submit("mine.py:trouble", sample("pid"), base=base).result().value
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit("mine.py:words", sample("x"), base=base)


def test_inline_runs_here_once_described(pool: Pool, base: Path) -> None:
    pool.describe("mine.py:here", base=base)
    assert pool.submit("mine.py:here", sample("x"), base=base).result().value == os.getpid()


def test_describe_tells_form_and_traits(pool: Pool, base: Path) -> None:
    assert pool.describe("mine.py:trl_style", base=base).form == "trl"
    assert pool.describe("mine.py:later", base=base).form == "async sample"
    assert pool.describe("mine.py:trouble", base=base).traits.cpu_s == 0.3
    with pytest.raises(ValueError, match="no function nothing"):
        pool.describe("mine.py:nothing", base=base)


def test_submits_from_many_threads(pool: Pool, base: Path) -> None:
    values: dict[int, float | None] = {}

    def ask(index: int) -> None:
        text = " ".join("w" * index)
        values[index] = pool.submit("mine.py:words", sample(text), base=base).result().value

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == {index: float(index) for index in range(1, 17)}


def test_missing_function_is_refused_before_any_worker(base: Path) -> None:
    with pytest.raises(rewards.RewardNotFound, match="did you mean words"):
        rewards.score("mine.py:word", [sample("x")], base=base)


def test_the_first_check_of_a_function_may_time_out(base: Path) -> None:
    with Pool(1) as pool:
        reward = pool.submit("mine.py:trouble", sample("spin"), base=base).result()
    assert reward.verdict == "timeout"


def test_an_error_in_the_block_gives_up_what_has_not_begun(base: Path) -> None:
    futures = []

    def interrupted() -> None:
        with Pool(1) as pool:
            for index in range(100):
                futures.append(pool.submit("mine.py:trouble", sample(f"{index}"), base=base))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert sum(future.cancelled() for future in futures) > 90


def test_a_column_of_the_row_decides_the_function(pool: Pool, base: Path) -> None:
    routes = {"plain": ("builtin:exact_match", {}), "own": ("mine.py:words", {})}
    args = by_row("data_source", routes)
    plain, own, lost, none = (
        replace(sample("x y"), gold="x y", columns=columns)
        for columns in ({"data_source": "plain"}, {"data_source": "own"}, {"data_source": "?"}, {})
    )
    found = [
        pool.submit(BY_ROW, s, args=args, base=base).result() for s in (plain, own, lost, none)
    ]
    assert [reward.value for reward in found] == [1.0, 2.0, None, None]
    assert "data_source is '?'" in found[2].detail["error"]
    assert "no column 'data_source'" in found[3].detail["error"]
