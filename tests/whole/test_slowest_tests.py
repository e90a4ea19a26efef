"""The table of what took most is made of a report of pytest, in which each test says so."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import slowest_tests  # noqa: E402

CASE = (
    '<testcase classname="{}" name="{}"><properties><property name="cpu_seconds" value="{}"/></properties></testcase>'
)


def report(path: pathlib.Path, *cases: tuple[str, str, float]) -> str:
    path.write_text(
        "<testsuites><testsuite>" + "".join(CASE.format(*case) for case in cases) + "</testsuite></testsuites>"
    )
    return str(path)


def test_the_slowest_come_first_with_their_part_of_all(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    slowest_tests.main(
        report(tmp_path / "r.xml", ("tests.a", "one", 1), ("tests.a", "two", 2), ("tests.b", "three", 5))
    )
    files, tests = capsys.readouterr().out.split("slowest tests, of 8 s in all:\n")
    assert files.splitlines()[1:] == ["     5.0 s  62.5%  tests.b", "     3.0 s  37.5%  tests.a"]
    assert [line.split()[-1] for line in tests.splitlines()] == ["tests.b::three", "tests.a::two", "tests.a::one"]


def test_twenty_are_shown(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    slowest_tests.main(report(tmp_path / "r.xml", *(("tests.a", f"t{i:02}", i) for i in range(30))))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1 + 1 + 20 and lines[3].endswith("t29") and lines[-1].endswith("t10")


@pytest.mark.slow
def test_tests_note_what_they_take_with_fixtures_and_processes(tmp_path: pathlib.Path, root: pathlib.Path) -> None:
    burn = "begin = time.process_time()\nwhile time.process_time() - begin < 0.5: pass\n"
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""\
            import subprocess, sys, time, pytest
            BURN = {!r}

            @pytest.fixture(scope="module")
            def slow():
                exec(BURN)

            def test_with_a_fixture(slow):
                pass

            def test_with_the_same(slow):
                pass

            def test_with_a_process():
                subprocess.run([sys.executable, "-c", "import time\\n" + BURN], check=True)
            """).format(burn)
    )
    path = tmp_path / "r.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", f"--junitxml={path}", str(tmp_path)]
    environment = {"PYTHONPATH": f"{root}:{root / 'tests'}", "PATH": "", "IMAGEGEN_CACHE": str(tmp_path / "cache")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = {name: took for (_, name), took in slowest_tests.seconds(str(path)).items()}
    assert found["test_with_a_fixture"] >= 0.5 and found["test_with_a_process"] >= 0.5
    assert found["test_with_the_same"] < 0.4


def test_what_takes_more_than_half_a_second_is_listed(tmp_path: pathlib.Path) -> None:
    cases = ("tests.a", "one[x::y]", 0.51), ("tests.a", "two", 0.5), ("tests.b.Class", "three", 5)
    slowest_tests.main(report(tmp_path / "r.xml", *cases), str(tmp_path / "list.txt"))
    assert (tmp_path / "list.txt").read_text() == "tests.a::one[x::y]\ntests.b.Class::three\n"


@pytest.mark.parametrize("odd", ["a::b", "plain"])
def test_a_test_has_one_name_in_pytest_and_in_its_reports(request: pytest.FixtureRequest, odd: str) -> None:
    name = f"tests.whole.test_slowest_tests::test_a_test_has_one_name_in_pytest_and_in_its_reports[{odd}]"
    assert slowest_tests.name_in_reports(request.node.nodeid) == name
