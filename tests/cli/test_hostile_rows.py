"""Rows that no run could use, from outside: one sentence with file and place, exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = '{"question": "1+1?", "answer": "2"}\n'
RECIPE = """
name: hostile
model: {{scratch: {{hidden: 32, layers: 1, heads: 1, mlp: 32}}}}
prompts: {{p: {{file: {file}}}}}
rewards: {{answer: {{use: "builtin:exact_match"}}}}
stages: {{e: {{kind: evaluate, models: [base], prompts: p, max_tokens: 8}}}}
"""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "rows.jsonl",
            GOOD + '{"question": "a \\ud800", "answer": "2"}',
            ", line 2: column 'quest",
        ),
        (
            "rows.json",
            "[" + GOOD + ',{"n": ' + "9" * 5000 + "}]",
            ", row 2, line 2: a whole number",
        ),
        ("rows.csv", "question,answer\n1+1?,2\n2+2?\n", ", line 3: 1 values for 2 columns"),
        ("rows.parquet", "PAR1" + "\x01" * 50, ": cannot be read as parquet"),
    ],
)
def test_hostile_rows_end_every_command_in_one_sentence(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(file=name))
    commands = [["plan"], ["data", "check"], ["run"]] if name == "rows.jsonl" else [["plan"]]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command, "recipe.yaml", "--json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, done.stderr
        error = json.loads(done.stdout)["error"]
        assert f"{name}{said}" in error
        assert "\n" not in error
        assert "Traceback" not in done.stderr
