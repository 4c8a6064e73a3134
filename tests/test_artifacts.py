"""The store keeps its promises when processes die, disks fill up and files are damaged."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from kit import artifacts, cli
from kit.artifacts import ArtifactError, Recipe

ME = Path(__file__)
SHORT = ("seed", "leaf", "folder", "slow", "broken", "nothing", "full", "huge", "absent")

# --- recipes for the tests; each build adds a line to built.txt


def note(name):
    with (artifacts.home() / "built.txt").open("a") as f:
        f.write(name + "\n")


def builds():
    file = artifacts.home() / "built.txt"
    return file.read_text().split() if file.exists() else []


def build_seed(out):
    note("seed")
    out.write_text("a seed of 40 letters, for the other files")


def build_leaf(out, seed):
    note("leaf")
    out.write_text(seed.read_text().upper())


def build_folder(out, seed, leaf):
    note("folder")
    (out / "in").mkdir(parents=True)
    (out / "one.txt").write_text(seed.read_text())
    (out / "in" / "two.txt").write_text(leaf.read_text())


def build_slow(out):
    note("slow")
    out.write_text("half")
    time.sleep(float(os.environ.get("KIT_TEST_SLEEP", "0")))
    out.write_text("whole")


def build_broken(out):
    note("broken")
    out.write_text("half")
    raise KeyError("no such weight")


def build_nothing(out):
    note("nothing")


def build_full(out):
    note("full")
    out.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def build_absent(out):
    import a_package_that_nobody_has  # noqa: F401


def register(names=SHORT):
    needs = {"leaf": ("seed",), "folder": ("seed", "leaf")}
    artifacts.RECIPES = {
        name: Recipe(name, f"{name}.file", f"test_artifacts:build_{name}", needs.get(name, ()), 1, 0.001)
        for name in names
    }


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """An empty store of the recipes above."""
    monkeypatch.setenv("KIT_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("KIT_QUIET", "1")
    monkeypatch.setattr(artifacts, "RECIPES", {})  # so that it comes back
    monkeypatch.setattr(artifacts, "_verified", set())
    artifacts._source_hash.cache_clear()
    (tmp_path / "store").mkdir()
    register()
    yield tmp_path / "store"
    artifacts._source_hash.cache_clear()


def process(code, **env):
    """Another Python with the same store."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys\nfrom kit import artifacts\n{code}"],
        cwd=artifacts.ROOT,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        text=True,
    )


# With the recipes above; without this line, with the kit's own.
TINY = f"sys.path[:0] = [{str(ME.parent)!r}]; import test_artifacts; test_artifacts.register()\n"


def left_over(store, name):
    """What a failed build left in the artifact's folder, the lock aside."""
    return [p.name for p in (store / name).rglob("*") if p.name != ".lock"]


# --- builds


def test_the_oldest_ancestor_is_built_first():
    folder = artifacts.get("folder")
    assert builds() == ["seed", "leaf", "folder"]
    assert (folder / "in" / "two.txt").read_text().startswith("A SEED")


def test_a_second_get_builds_nothing():
    assert artifacts.get("folder") == artifacts.get("folder") == artifacts.path("folder")
    assert len(builds()) == 3


def test_a_built_artifact_does_not_need_its_parents():
    artifacts.get("leaf")
    shutil.rmtree(artifacts.path("seed").parent)
    artifacts.get("leaf")
    assert builds() == ["seed", "leaf"]


def test_two_processes_build_it_once(store):
    both = [process(TINY + "print(artifacts.get('slow').read_text())", KIT_TEST_SLEEP="1") for _ in range(2)]
    assert [p.communicate(timeout=60)[0].strip() for p in both] == ["whole", "whole"]
    assert builds() == ["slow"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_build_leaves_nothing_that_is_believed(store):
    p = process(TINY + "artifacts.get('slow')", KIT_TEST_SLEEP="60")
    deadline = time.monotonic() + 60
    while not (half := list(store.glob("slow/*.part/slow.file"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert half
    p.send_signal(signal.SIGKILL)
    p.wait(timeout=10)
    assert not artifacts.path("slow").exists()
    assert [s.built for s in artifacts.status() if s.name == "slow"] == [False]
    assert artifacts.get("slow").read_text() == "whole"  # its lock died with it
    assert sorted(left_over(store, "slow")) == [
        artifacts.path("slow").parent.name,
        "manifest.json",
        "slow.file",
    ]


# --- damage: what another process finds, which has verified nothing yet


def truncate(file):
    file.write_bytes(file.read_bytes()[:10])


def flip(file):
    raw = bytearray(file.read_bytes())
    raw[7] ^= 1
    file.write_bytes(raw)


def remove(file):
    file.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, remove])
@pytest.mark.parametrize("part", ["one.txt", "in/two.txt"])
def test_a_damaged_file_is_built_again(damage, part, capsys):
    folder = artifacts.get("folder")
    good = {p: p.read_bytes() for p in folder.rglob("*.txt")}
    damage(folder / part)
    assert artifacts.get("folder") == folder
    assert {p: p.read_bytes() for p in folder.rglob("*.txt")} == good
    assert builds() == ["seed", "leaf", "folder", "folder"]
    assert "folder is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "manifest", [None, "", "{", "[]", "null", "{}", '{"sha256": {}}', '{"sha256": "abc", "bytes": 1}', "\xff"]
)
def test_a_damaged_manifest_is_not_believed(manifest):
    file = artifacts.get("seed")
    note_of_it = file.parent / "manifest.json"
    note_of_it.unlink()
    if manifest is not None:
        note_of_it.write_bytes(manifest.encode("latin-1"))
    assert [s.built for s in artifacts.status() if s.name == "seed"] == [False]
    assert artifacts.get("seed") == file
    assert builds() == ["seed", "seed"]


def test_a_damaged_parent_is_built_again_before_its_child():
    seed = artifacts.get("seed")
    truncate(seed)
    assert artifacts.get("leaf").read_text().endswith("FILES")
    assert builds() == ["seed", "seed", "leaf"]


# --- builds that cannot be


def test_a_disk_too_small_is_seen_before_the_build(store, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 900, 100))
    with pytest.raises(
        ArtifactError, match=r"disk is full while building seed .*KIT_HOME.*Nothing half-made"
    ):
        artifacts.get("seed")
    assert builds() == left_over(store, "seed") == []


def test_a_disk_that_fills_up_during_the_build(store):
    with pytest.raises(ArtifactError, match=r"disk is full while building full .*Free some space"):
        artifacts.get("full")
    assert builds() == ["full"]
    assert left_over(store, "full") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"building broken failed in test_artifacts:build_broken: KeyError: 'no such weight'"),
        ("nothing", r"building nothing failed .*left no nothing\.file"),
        ("absent", r"building absent needs a package .*a_package_that_nobody_has.*kit doctor"),
        ("huge", r"building huge failed .*no attribute 'build_huge'"),
    ],
)
def test_a_builder_that_fails_is_named_and_leaves_nothing(store, name, message):
    with pytest.raises(ArtifactError, match=message):
        artifacts.get(name)
    assert left_over(store, name) == []


def test_a_failed_rebuild_can_be_tried_again(monkeypatch):
    with pytest.raises(ArtifactError):
        artifacts.get("broken")
    monkeypatch.setattr(sys.modules[__name__], "build_broken", lambda out: out.write_text("mended"))
    assert artifacts.get("broken").read_text() == "mended"


@pytest.mark.parametrize("where", ["store", "store/seed", "store/seed/.lock"])
def test_a_folder_that_cannot_be_written(tmp_path, where):
    place = tmp_path / where
    shutil.rmtree(tmp_path / "store")
    place.parent.mkdir(parents=True, exist_ok=True)
    if where.endswith(".lock"):
        place.mkdir()
    else:
        place.write_text("a file stands where the folder should be")
    with pytest.raises(ArtifactError, match=r"cannot write to .*Set KIT_HOME"):
        artifacts.get("seed")


def test_a_missing_filelock_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(ArtifactError, match="filelock is missing"):
        artifacts.get("seed")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ArtifactError, match=r"no artifact is called 'sed'.*folder.*leaf.*seed"):
        artifacts.get("sed")


@pytest.mark.parametrize("name", ["broken", "full", "absent", "sed"])
def test_the_command_line_shows_one_line_and_no_traceback(name, capsys):
    assert cli.main(["build", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith("kit: ")
    assert err.count("\n") == 1


def test_building_opens_no_connection():
    """The weights came with their packages: transformers must not ask the Hub for what it has here."""
    code = """
import socket
def refuse(*args, **kwargs): raise AssertionError("a builder called out")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
assert artifacts.get("smollm2.hf").exists()
"""
    p = process(code, HF_HUB_OFFLINE="0")
    p.communicate(timeout=300)
    assert p.returncode == 0
    assert "model.safetensors" in left_over(artifacts.home(), "smollm2.hf")


# --- fingerprints


SOURCES = ("deep", "deep.inner", "facts.csv", "deep/stored/w.safetensors")


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A recipe made from a module, a second module and a data file; and its child."""
    (tmp_path / "src" / "deep").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "src")
    monkeypatch.setattr(artifacts, "DATASETS", tmp_path)
    files = {
        "module": tmp_path / "src" / "recipes_of_a_test.py",
        "package": tmp_path / "src" / "deep" / "__init__.py",
        "inner": tmp_path / "src" / "deep" / "inner.py",
        "data": tmp_path / "facts.csv",
        "weights": tmp_path / "src" / "deep" / "stored" / "w.safetensors",
    }
    files["module"].write_text('def build(out):\n    """Write it."""\n    out.write_text("1")\n')
    files["package"].write_text("raise RuntimeError('a fingerprint must import nothing')\n")
    files["inner"].write_text("A = 1\n")
    files["data"].write_text("a,b\n1,2\n")
    files["weights"].parent.mkdir()
    files["weights"].write_text("weights 1")
    parent = Recipe("parent", "p", "recipes_of_a_test:build", sources=SOURCES)
    child = Recipe("child", "c", "test_artifacts:build_leaf", ("parent",))
    artifacts.RECIPES = {"parent": parent, "child": child}
    return files


def prints():
    artifacts._source_hash.cache_clear()
    return artifacts.fingerprint("parent"), artifacts.fingerprint("child")


@pytest.mark.parametrize(
    ("which", "was", "becomes"),
    [
        ("module", '"1"', '"2"'),
        ("package", "must", "may"),
        ("inner", "1", "2"),
        ("data", "2", "3"),
        ("weights", "1", "2"),
    ],
)
def test_a_change_of_code_or_data_changes_the_print_and_the_childs(sources, which, was, becomes):
    before = prints()
    sources[which].write_text(sources[which].read_text().replace(was, becomes))
    after = prints()
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "same",
    [
        '# why\ndef build(out):\n    """Write it."""\n    out.write_text("1")  # one\n',
        '"""What this is."""\n\ndef build(out):\n    """Other words."""\n    out.write_text(\n"1"\n    )\n',
        'def build(out):\n    out.write_text("1")\n',
    ],
)
def test_comments_docstrings_and_layout_do_not(sources, same):
    before = prints()
    sources["module"].write_text(same)
    assert prints() == before


def test_a_class_of_only_a_docstring_may_change_its_words(sources):
    sources["inner"].write_text('class Wrong(Exception):\n    """Old words."""\n')
    before = prints()
    sources["inner"].write_text('class Wrong(Exception):\n    """New words."""\n')
    assert prints() == before


def test_a_changed_recipe_is_built_beside_the_old_version(sources):
    old = artifacts.get("parent")
    sources["data"].write_text("a,b\n1,9\n")
    artifacts._source_hash.cache_clear()
    new = artifacts.get("parent")
    assert new != old
    assert new.exists()
    assert old.exists()


@pytest.mark.parametrize("which", ["inner", "data", "weights"])
def test_a_source_that_is_missing_is_named(sources, which):
    sources[which].unlink()
    artifacts._source_hash.cache_clear()
    with pytest.raises(
        ArtifactError, match=r"(deep\.inner|facts\.csv|w\.safetensors), which an artifact is made with"
    ):
        artifacts.path("child")


def test_source_code_with_a_mistake_is_named(sources):
    sources["inner"].write_text("A = = 1\n")
    with pytest.raises(ArtifactError, match=r"deep\.inner.*invalid syntax"):
        prints()


def test_the_kits_own_recipes_have_builders():
    """Each builder is a function in its module's file; and a fingerprint is had without torch."""
    code = """
import ast
for r in artifacts.RECIPES.values():
    artifacts.path(r.name)
    module, function = r.builder.split(":")
    tree = ast.parse(artifacts._module_file(module).read_text("utf-8"))
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], r
assert len(artifacts.status()) == len(artifacts.RECIPES) > 10
assert not {"torch", "transformers"} & set(sys.modules)
"""
    p = process(code)
    p.communicate(timeout=60)
    assert p.returncode == 0


# --- status and clean


def test_status():
    artifacts.get("leaf")
    lines = {s.name: s for s in artifacts.status()}
    assert set(lines) == set(SHORT)
    assert {name for name, s in lines.items() if s.built} == {"seed", "leaf"}
    assert lines["seed"].mb == pytest.approx(artifacts.path("seed").stat().st_size / 1e6)
    assert 0 <= lines["seed"].age_s < 60
    assert lines["seed"].seconds < 10
    assert lines["full"].age_s is None
    assert lines["full"].mb == 0.001
    assert builds() == ["seed", "leaf"]


def test_the_manifest_says_what_was_built():
    told = json.loads((artifacts.get("folder").parent / "manifest.json").read_text())
    assert told["artifact"] == "folder"
    assert set(told["sha256"]) == {"folder.file/one.txt", "folder.file/in/two.txt"}


def test_clean_removes_old_versions_only(store):
    seed, leaf = artifacts.get("seed"), artifacts.get("leaf")
    old = store / "seed" / "0123456789ab"
    forgotten = store / "artifact-of-last-year" / "0123456789ab"
    at_work = seed.parent.with_name(seed.parent.name + ".part")
    for folder in (old, forgotten, at_work):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (store / "answers.json").write_text("{}")
    assert artifacts.clean() == 2
    assert not old.exists()
    assert not forgotten.exists()
    assert at_work.exists()
    assert seed.exists()
    assert leaf.exists()
    assert (store / "answers.json").exists()
    assert artifacts.clean() == 0
