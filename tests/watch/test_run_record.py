"""A run as an object."""

import json
from pathlib import Path

from pipeline.watch.html_tables import html_lines, html_table
from pipeline.watch.run_record import Result, read_run


def test_results_are_typed_and_know_what_a_row_leaves_out() -> None:
    row = {"model": "a", "accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6, "new": 3, "depth": 2}
    result = Result.of(row)
    assert (result.model, result.accuracy, result.depth) == ("a", 0.5, 2)
    assert result.mean_tokens is None
    assert "<td>50.0%</td><td>40.0% to 60.0%</td>" in result._repr_html_()


def test_a_run_that_goes_on_is_read_as_far_as_it_is(run_folder: Path) -> None:
    (run_folder / "results.json").unlink()
    (run_folder / "inputs" / "base" / "model").mkdir(parents=True)
    (run_folder / "stages" / "preference" / "model").mkdir()
    run = read_run(run_folder)
    assert (run.results, run.report, run.is_done) == ((), None, False)
    assert list(run.models) == ["base", "preference"]
    assert run.stages[0].artifact == str(run_folder / "stages" / "cold_start")
    assert run.stages[-1].artifact is None


def test_a_run_shows_itself_as_tables_and_nothing_in_it_is_markup(run_folder: Path) -> None:
    state = json.loads((run_folder / "state.json").read_text())
    state[0]["error"] = "<script>"
    (run_folder / "state.json").write_text(json.dumps(state))
    shown = read_run(run_folder)._repr_html_()
    assert "<td>cold_start</td><td>sft</td><td>done</td><td>0:42</td>" in shown
    assert "<td>base</td><td>held_out</td><td>15.3%</td>" in shown
    assert "<script>" not in shown
    assert "&lt;b&gt;" in html_table(["a"], [["<b>"]])
    assert html_lines(["<b>", "c"]) == "<pre>&lt;b&gt;\nc</pre>"
    assert html_lines([]) == ""
