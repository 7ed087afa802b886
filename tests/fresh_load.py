"""What a model folder says in a process that has transformers alone, as whoever gets it has."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROMPTS = ("ab", "What is 2 + 3?")
NEW_TOKENS = 12
SCRIPT = """
import json, sys
sys.modules["pipeline"] = sys.modules["rewards"] = None  # cannot be imported
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, trusted, prompts, new_tokens = json.loads(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trusted)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
said = []
for text in prompts:
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )
    out = model.generate(**prompt, do_sample=False, max_new_tokens=new_tokens)
    said.append(out[0].tolist())
ends = model.generation_config.eos_token_id
print(json.dumps({"said": said, "ends": ends if isinstance(ends, list) else [ends]}))
"""


def said_afresh(folder: Path, *, cwd: Path, trusted: bool = False) -> dict[str, Any]:
    """`said`: the tokens of two prompts and of greedy answers, by the folder's own settings;
    `ends`: the tokens that end an answer."""
    asked = json.dumps([str(folder), trusted, PROMPTS, NEW_TOKENS])
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, asked],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
