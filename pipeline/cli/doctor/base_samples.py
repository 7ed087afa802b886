"""A few completions of a base model by transformers alone, as a program: it reads a question on
standard input, as JSON, and prints `texts`, by prompt [text, ended] of each sample, or `error`.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StepwellError
from pipeline.recipe.model_source import ModelSource


def texts(question: Mapping[str, Any]) -> list[list[tuple[str, bool]]]:
    """Samples of each prompt, and whether they ended by themselves.

    Raises StepwellError for a model that cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from pipeline.generate.chat import load_chat, shown, with_opening
    from pipeline.models.materialize import materialize

    source = ModelSource.model_validate(question["source"])
    folder = materialize(source, Path(question["folder"]), seed=question["seed"])
    chat = load_chat(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=source.trust_remote_code
    )
    model.eval()
    torch.manual_seed(question["seed"])
    result = []
    for row in question["prompts"]:
        prompt = chat.render(row["question"], question["preface"], row["context"])
        ids = torch.tensor([chat.prompt_ids(prompt)])
        rows = model.generate(
            ids.repeat(question["samples"], 1),
            attention_mask=torch.ones_like(ids).repeat(question["samples"], 1),
            do_sample=True,
            temperature=question["temperature"],
            top_k=0,
            max_new_tokens=question["max_tokens"],
            eos_token_id=list(chat.ends),
            pad_token_id=chat.ends[0],
        )
        group = []
        for tokens in rows[:, ids.shape[1] :].tolist():
            ends = [place for place, token in enumerate(tokens) if token in chat.ends]
            said = tokens[: ends[0]] if ends else tokens
            text = chat.tokenizer.decode(said, skip_special_tokens=False)
            group.append((with_opening(shown(prompt), text), bool(ends)))
        result.append(group)
    return result


def main() -> None:
    """Answer on standard output what was asked on standard input."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print
    try:
        document: Mapping[str, Any] = {"texts": texts(json.load(sys.stdin))}
    except StepwellError as error:
        document = {"error": str(error)}
    with os.fdopen(answer, "w") as out:
        json.dump(document, out)


if __name__ == "__main__":
    main()
