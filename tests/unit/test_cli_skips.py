"""In CI a skip fails the run: tests/conftest.py, run by pytest on a generated file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

TESTS = Path(__file__).parents[1]
SKIPPING = """
    import pytest

    def test_passes(): pass

    @pytest.mark.skip(reason="no engine here")
    def test_skips(): pass

    @pytest.mark.xfail(reason="known")
    def test_is_expected_to_fail(): raise AssertionError
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("CI", "true")
    shutil.copy(TESTS / "conftest.py", pytester.path)
    pytester.makefile(".txt", allowed_skips="# nothing\n")
    return pytester


def allow(suite: pytest.Pytester, text: str) -> None:
    (suite.path / "allowed_skips.txt").write_text(text)


def test_a_skip_fails_the_run_and_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPPING)
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*skips that CI does not allow*",
            "test_it.py::test_skips: Skipped: no engine here",
            "test_it.py::test_is_expected_to_fail: expected to fail: known",
            "Failed: list them in allowed_skips.txt with a reason, or make them run.",
            "*1 passed, 1 skipped, 1 xfailed*",
        ]
    )


def test_a_listed_skip_is_allowed(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPPING)
    allow(suite, "test_it.py::test_skips  # not here\ntest_it.py::test_is_expected_to_fail  # known\n")
    assert suite.runpytest().ret == pytest.ExitCode.OK


def test_a_module_that_skips_itself_fails_the_run(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it="import pytest; pytest.importorskip('no_such_module')")
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_it.py: Skipped: could not import 'no_such_module'*"])


def test_a_skip_in_another_folder_fails_the_run(suite: pytest.Pytester) -> None:
    suite.mkdir("tests")
    for name in ("conftest.py", "allowed_skips.txt"):
        shutil.move(suite.path / name, suite.path / "tests" / name)
    (suite.path / "tests" / "test_here.py").write_text("def test_passes(): pass\n")
    suite.mkdir("elsewhere")
    (suite.path / "elsewhere" / "test_there.py").write_text("import pytest\ndef test_skips(): pytest.skip('no')\n")
    result = suite.runpytest("tests", "elsewhere")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["elsewhere/test_there.py::test_skips: Skipped: no"])


def test_a_line_without_a_reason_is_refused(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPPING)
    allow(suite, "test_it.py::test_skips\n")
    assert suite.runpytest().ret == pytest.ExitCode.USAGE_ERROR


def test_outside_of_ci_a_skip_is_only_a_skip(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    suite.makepyfile(test_it=SKIPPING)
    assert suite.runpytest().ret == pytest.ExitCode.OK


def test_a_failure_stays_what_it_is(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPPING + "\n    def test_fails(): raise ValueError\n")
    assert suite.runpytest().ret == pytest.ExitCode.TESTS_FAILED
