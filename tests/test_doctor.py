"""The check-up of the machine."""

import socket

import pytest

from kit import artifacts, doctor


def test_only_something_needed_changes_the_exit_code(monkeypatch, capsys):
    lines = [doctor.Line("ok", "a"), doctor.Line("note", "b", "do this")]
    monkeypatch.setattr(doctor, "findings", lambda: lines)
    assert doctor.report() == 0
    assert "→ do this" in capsys.readouterr().out
    lines.append(doctor.Line("missing", "c"))
    assert doctor.report() == 1
    assert "1 missing" in capsys.readouterr().out


def test_every_finding_that_is_missing_says_how_to_mend_it():
    for line in doctor.findings():
        assert line.text
        assert line.mend or line.state != "missing"


def test_an_old_python_is_noticed(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 1))
    assert doctor.python().state == "missing"


def test_packages_are_held_against_both_files(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=1", "no-such-package>=2"]\n')
    (tmp_path / "constraints.txt").write_text("numpy==0.1\n# a comment\n")
    lines = list(doctor.packages(tmp_path))
    assert lines[0].state == "missing"
    assert "no-such-package" in lines[0].text
    assert "numpy" not in lines[0].text
    assert "tested: 0.1" in lines[-1].text


def test_a_build_for_another_processor_is_the_same_version(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torch"]\n')
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    torch = type("Torch", (), {"name": "torch", "version": "2.13.0+cpu"})
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: [torch])
    assert not any("tested" in line.text for line in doctor.packages(tmp_path))


@pytest.mark.parametrize(
    ("flags", "state", "says"),
    [
        ({"avx2", "avx512_vnni"}, "ok", "VNNI"),
        ({"avx2"}, "note", "INT8 may not be faster"),
        ({"asimd", "asimddp"}, "ok", "NEON dot product"),
        (set(), "note", "cannot be read"),
    ],
)
def test_cpu_features_in_plain_words(flags, state, says):
    line = doctor.instructions(flags)
    assert line.state == state
    assert says in line.text


def test_a_busy_port_is_told_from_a_free_one():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        assert "in use" in (doctor.port_problem(port) or "")
    assert doctor.port_problem(port) is None
    with pytest.raises(ValueError, match="65535"):
        doctor.port_problem(65536)


def test_missing_artifacts_are_a_note(monkeypatch, tmp_path):
    status = artifacts.Status("intent.pt", False, 15, None, 90, tmp_path)
    monkeypatch.setattr(artifacts, "status", lambda: [status])
    assert doctor.built().state == "note"
    assert "about 2 min" in doctor.built().mend
