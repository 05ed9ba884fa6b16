"""Results on disk: whole or not there, and refused when they are something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.errors import FileProblem
from labs.results import Diagnosis, Layer, StepResult, load, save
from labs.results.schema import Outcome

STEP = StepResult(
    number=1,
    text="expect",
    outcome=Outcome.FAILED,
    took_s=1.5,
    evidence=("seen",),
    diagnosis=Diagnosis(layer=Layer.TUNNEL, seen="no ping"),
)


def test_what_is_saved_can_be_loaded(tmp_path: Path) -> None:
    path = save(STEP, tmp_path / "deep" / "step.json")
    assert load(StepResult, path) == STEP
    assert [file.name for file in path.parent.iterdir()] == ["step.json"]


def test_something_else_is_refused_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    path.write_text(STEP.model_dump_json().replace("took_s", "took"))
    with pytest.raises(FileProblem, match="not a result of this version") as refused:
        load(StepResult, path)
    assert refused.value.where == f"{path}: took_s"


def test_a_result_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such result"):
        load(StepResult, tmp_path / "x.json")
