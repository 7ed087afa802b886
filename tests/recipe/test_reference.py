"""The reference of keys: complete, and the page is what the schema says."""

import re
from pathlib import Path

from pipeline.recipe.places import shipped_recipes
from pipeline.recipe.reference import END, START, markdown, sections
from pipeline.recipe.schema import Recipe

PAGE = Path(__file__).parents[2] / "recipes" / "README.md"


def test_every_key_of_the_schema_has_a_description() -> None:
    schema = Recipe.model_json_schema()
    objects = {"Recipe": schema, **schema["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, content in objects.items()
        for key, value in content.get("properties", {}).items()
        if not value.get("description")
    ]
    assert not bare
    assert sum(len(content.get("properties", {})) for content in objects.values()) > 100


def test_the_page_has_every_key_as_the_schema_has_it() -> None:
    text = PAGE.read_text()
    written = text[text.index(START) : text.index(END) + len(END)] + "\n"
    assert written == markdown(), "write it anew: python tests/recipe/test_reference.py"


def test_every_section_of_the_schema_is_in_the_reference_once() -> None:
    listed = [section.__name__ for _, section in sections()]
    assert len(listed) == len(set(listed))
    assert set(listed) == {"Recipe", *Recipe.model_json_schema()["$defs"]}
    places = [where for where, _ in sections()]
    assert len(places) == len(set(places))
    assert {"The recipe", "`grpo`", "`grpo.watch`", "`prompts.NAME`", "`hardware`"} <= set(places)


def test_every_shipped_recipe_is_on_the_page() -> None:
    names = {path.stem for path in shipped_recipes().glob("*.yaml")}
    table = PAGE.read_text().partition("| recipe |")[2].partition("\n\n")[0]
    listed = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in row.replace("`", "").split(", ")
    }
    assert listed == names


if __name__ == "__main__":
    text = PAGE.read_text()
    after = text[text.index(END) + len(END) :].lstrip("\n")
    PAGE.write_text(text[: text.index(START)] + markdown() + after)
