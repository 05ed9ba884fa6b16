"""The pytest plugin without an engine: what it collects, how it names it, and what it says about the rest."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

ON_BOTH = """
title: t
peers: {laptop: {user: alice}}
steps:
  - expect-peer: {peer: laptop, online: true}
"""
HEADSCALE_ONLY = ON_BOTH + "  - accept-routes: {on: laptop}\n"
BOTH = ("--lab", "headscale", "--lab", "netbird")


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    (pytester.path / "both.scenario.yaml").write_text(ON_BOTH)
    (pytester.path / "ladder.scenario.yaml").write_text(HEADSCALE_ONLY)
    return pytester


def test_nothing_is_collected_unasked(folder: pytest.Pytester) -> None:
    assert folder.runpytest("--collect-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_one_test_for_each_lab_and_what_does_not_apply_is_none(folder: pytest.Pytester) -> None:
    shown = folder.runpytest("--collect-only", "-q", *BOTH)
    shown.stdout.fnmatch_lines(
        [
            "both.scenario.yaml::both[[]headscale]",
            "both.scenario.yaml::both[[]netbird]",
            "ladder.scenario.yaml::ladder[[]headscale]",
        ]
    )
    shown.stdout.no_fnmatch_line("*ladder[[]netbird]*")
    shown.stdout.fnmatch_lines(["*not applicable*", "ladder on netbird: NetBird's routes are made at the server*"])


def test_the_ini_key_is_as_good_as_the_option(folder: pytest.Pytester) -> None:
    folder.makeini("[pytest]\nmesh_labs = netbird\n")
    folder.runpytest("--collect-only", "-q").stdout.fnmatch_lines(["both.scenario.yaml::both[[]netbird]"])


def test_repetitions_have_names_of_their_own(folder: pytest.Pytester) -> None:
    shown = folder.runpytest("--collect-only", "-q", "--lab", "netbird", "--repeat", "2")
    shown.stdout.fnmatch_lines(["*::both[[]netbird-1]", "*::both[[]netbird-2]"])


def test_a_file_that_is_not_understood_is_shown_without_a_traceback(pytester: pytest.Pytester) -> None:
    (pytester.path / "bad.scenario.yaml").write_text(ON_BOTH.replace("online", "onlime"))
    shown = pytester.runpytest("--lab", "netbird")
    shown.stdout.fnmatch_lines(["*bad.scenario.yaml:5:*expect-peer.onlime", "*did you mean online?"])
    shown.stdout.no_fnmatch_line("*Traceback*")
    assert shown.ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_run_that_the_machine_did_not_allow_is_no_verdict(
    how: str, folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = "unix:///nonexistent/docker.sock"
    if how == "variable":
        monkeypatch.setenv("MESH_LABS_ENGINE_NAMED", dead)
    shown = folder.runpytest("--lab", "netbird", *(["--lab-engine", dead] if how == "option" else []))
    shown.stdout.fnmatch_lines(["The container engine does not answer", f"*where: {dead} (as given)"])
    assert shown.ret == pytest.ExitCode.INTERNAL_ERROR


def test_a_failure_of_another_kind_is_still_a_failure(folder: pytest.Pytester) -> None:
    folder.makepyfile(test_it="def test_it():\n    assert False\n")
    shown = folder.runpytest("--lab", "netbird", "--lab-engine", "unix:///nonexistent/docker.sock")
    assert shown.ret == pytest.ExitCode.TESTS_FAILED


def test_a_topology_that_is_not_there(folder: pytest.Pytester) -> None:
    shown = folder.runpytest("--lab", "netbrid")
    shown.stdout.fnmatch_lines(["*There is no topology called netbrid*", "*did you mean netbird?*"])
