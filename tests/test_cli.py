"""The command line and the check-up: plain messages, right exit codes."""

import argparse
import re
import socket
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from kit import artifacts, cli, doctor
from kit.lesson import bake, chapters, slides


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of our own with empty ``notebooks`` and ``slides``."""
    for name in ("notebooks", "slides"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(chapters, "SLIDES", tmp_path / "slides")
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setenv("KIT_HOME", str(tmp_path / "kit-home"))
    return tmp_path


def write(path, *sources):
    nbformat.write(new_notebook(cells=[new_code_cell(s) for s in sources]), str(path))


def test_python_m_kit_is_kit():
    command = [sys.executable, "-m", "kit", "--help"]
    text = subprocess.run(command, cwd=artifacts.ROOT, capture_output=True, text=True, check=True).stdout
    for name in ("lab", "run", "build", "slides", "progress", "doctor"):
        assert re.search(rf"^    {name} ", text, re.M)


# --- errors in one line


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["build", "intent.int9"], "no artifact is called 'intent.int9'"),
        (["run", "77"], "there is no chapter '77'"),
        (["lab", "--port", "99999"], "a port is a number"),
    ],
)
def test_wrong_use_is_explained_in_one_line(project, capsys, argv, says):
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_a_port_in_use_is_explained(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["lab", "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert f"port {port} is in use" in err
    assert f"--port {port + 1}" in err


def test_lab_opens_the_first_notebook(monkeypatch):
    from jupyterlab.labapp import LabApp

    calls = []
    monkeypatch.setattr(LabApp, "launch_instance", lambda argv: calls.append(argv))
    monkeypatch.setattr(doctor, "port_problem", lambda port: None)
    assert cli.main(["lab", "--port", "8890", "--", "--no-browser"]) == 0
    assert "--ServerApp.port=8890" in calls[0]
    assert "--no-browser" in calls[0]
    assert any(a.endswith("/lab/tree/notebooks/00_start_here.ipynb") for a in calls[0])


def test_an_unexpected_error_is_not_hidden(monkeypatch):
    def broken(args):
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "parser", lambda: _parser_of(broken))
    with pytest.raises(KeyError):
        cli.main([])


def test_ctrl_c_ends_quietly(monkeypatch, capsys):
    def stopped(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parser", lambda: _parser_of(stopped))
    assert cli.main([]) == 130


def _parser_of(function):
    p = argparse.ArgumentParser()
    p.set_defaults(command=function)
    return p


# --- run, build, slides, progress


def test_run_reports_and_stores_nothing(project, capsys):
    path = project / "notebooks" / "00_sample.ipynb"
    write(path, "1 + 1")
    before = path.read_text()
    assert cli.main(["run", "0"]) == 0
    assert "every cell ran" in capsys.readouterr().out
    assert path.read_text() == before


def test_run_shows_the_cell_that_failed(project, capsys):
    write(project / "notebooks" / "00_sample.ipynb", "1 / 0")
    assert cli.main(["run", "00"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(("folder", "argv"), [("notebooks", ["run", "00"]), ("slides", ["slides"])])
def test_save_stores_a_notebook_or_the_decks(project, monkeypatch, capsys, folder, argv):
    for place in ("notebooks", "slides"):
        write(project / place / "00_sample.ipynb", "1")
    saved = []
    monkeypatch.setattr(bake, "save", lambda path: saved.append(path.parent.name) or (1.0, ["cell 1: bar"]))
    monkeypatch.setattr(slides, "export", lambda deck: deck)
    assert cli.main([*argv, "--save"]) == 0
    assert saved == [folder]
    assert "cell 1: bar" in capsys.readouterr().err


def test_slides_shows_the_cell_that_failed(project, capsys):
    write(project / "slides" / "01_shrink.ipynb", "1 / 0")
    assert cli.main(["slides", "--save"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_build_lists_builds_and_cleans(monkeypatch, capsys, tmp_path):
    line = artifacts.Status("intent.pt", True, 12.5, 60, 90, tmp_path)
    monkeypatch.setattr(artifacts, "status", lambda: [line])
    monkeypatch.setattr(artifacts, "get", lambda name: tmp_path / name)
    monkeypatch.setattr(artifacts, "clean", lambda: 3)
    assert cli.main(["build", "--list"]) == 0
    assert "intent.pt" in (out := capsys.readouterr().out)
    assert "12.5 MB" in out
    assert "built 1 min ago" in out
    assert cli.main(["build", "intent.pt", "intent.onnx"]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert cli.main(["build"]) == 0
    assert capsys.readouterr().out.count("\n") == len(artifacts.RECIPES)
    assert cli.main(["build", "--clean"]) == 0
    assert "3 old versions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "says"), [(0, "0 s"), (59.4, "59 s"), (3600, "1 h"), (90_000, "1 d"), (864_000, "10 d")]
)
def test_an_age_is_told_in_one_unit(seconds, says):
    assert cli._ago(seconds) == says


def test_slides_exports_every_deck(project, monkeypatch, capsys):
    assert cli.main(["slides"]) == 0
    assert "no decks yet" in capsys.readouterr().out
    write(project / "slides" / "00_sample.ipynb", "1")
    monkeypatch.setattr(slides, "export", lambda deck: deck)
    assert cli.main(["slides"]) == 0
    assert "00_sample" in capsys.readouterr().out


def test_progress_is_one_line_a_chapter(project, monkeypatch, capsys):
    monkeypatch.setenv("KIT_ANSWERS", str(project / "answers.json"))
    write(project / "notebooks" / "00_sample.ipynb", "1")
    assert cli.main(["progress"]) == 0
    assert re.fullmatch(r"00 sample +0 of 3 exercises solved, 0 pred.*\n", capsys.readouterr().out)


def test_a_closed_pipe_is_no_traceback():
    code = "import sys; from kit import cli; sys.exit(cli.main(['build', '--list']))"
    listing = subprocess.Popen(
        [sys.executable, "-c", code], cwd=artifacts.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listing.stdout
    assert listing.stderr
    listing.stdout.close()
    assert listing.stderr.read() == b""
    assert listing.wait(60) == 1
