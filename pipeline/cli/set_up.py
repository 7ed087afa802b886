"""How Stepwell's packages are installed again, as they were the first time."""

from pathlib import Path

_CLONE = Path(__file__).resolve().parents[2]


def set_up_again() -> str:
    """What to do where packages are missing, broken or of other versions: in a clone, or with a
    wheel."""
    if (_CLONE / ".ci" / "setup.py").is_file():
        return "run set-up again: make setup"
    return 'install it again: pip install "stepwell[cpu]" (or [gpu]), from where its wheel came'
