"""The house rules: one word per chapter everywhere, light imports, a small and clean repository."""

import re
import subprocess
import sys

import pytest

from kit.artifacts import ROOT
from kit.lesson import chapters

LIGHT = {"arrivals", "artifacts", "data", "facts", "policy", "records", "economics", "measure"}
GROUND = {*LIGHT, "models", "engine", "plots"}
TOP = {"lesson", "cli", "doctor"}

# Written in pieces, so that this file does not break its own rule.
HOSTS = ["py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js.org", "deb.deb" + "ian.org"]
HOSTS += ["repo.maven." + "apache.org", "repo1." + "maven.org", "proxy.go" + "lang.org", "crates" + ".io"]
PATHS = ["/" + "root/", "/" + "work/", r"/home/(?!\.)\w+/", "/" + r"Users/\w+/", r"[A-Z]:\\+" + "Users"]


def words(folder, pattern):
    return {m[1] for p in folder.iterdir() if (m := re.fullmatch(pattern, p.name))}


MODULES = words(ROOT / "kit", r"([a-z][a-z_]*)(?:\.py)?")
CHAPTERS = {chapters.word(p) for p in chapters.notebooks().values()}
TESTS = words(ROOT / "tests", r"test_([a-z_]+)\.py")


def tracked():
    """Files that are, or would be, in the repository."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / n for n in names if n and (ROOT / n).is_file()]


# --- one word per chapter


def test_every_notebook_has_its_module():
    lonely = CHAPTERS - MODULES
    assert not lonely, "a notebook NN_word.ipynb needs kit/word.py, or a package kit/word/"


def test_every_chapter_module_has_its_notebook():
    lonely = MODULES - GROUND - TOP - CHAPTERS
    assert not lonely, "a module of kit is a chapter with a notebook, or belongs to the ground floor"


def test_every_module_has_its_test():
    lonely = MODULES - TESTS
    assert not lonely, "kit/word.py needs tests/test_word.py"


def test_every_test_has_its_module():
    parts = {t for t in TESTS for m in MODULES if t.startswith(f"{m}_")}  # where one file would be too long
    lonely = TESTS - MODULES - parts - {"house", "notebooks"}
    assert not lonely, "tests/test_word.py, or test_word_part.py, needs kit/word.py"


@pytest.mark.parametrize("folder", ["notebooks", "slides"])
def test_the_readme_lists_the_chapters_and_decks_that_exist(folder):
    text = (ROOT / "README.md").read_text("utf-8")
    listed = set(re.findall(rf"\({folder}/(\d\d_[a-z_]+\.ipynb)\)", text))
    assert listed == {p.name for p in (ROOT / folder).glob("*.ipynb")}


# --- light imports


def loaded_by(module):
    """Top-level names of everything that a fresh Python has loaded after importing ``module``."""
    code = f"import sys, {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", ["kit", *(f"kit.{m}" for m in sorted(LIGHT))])
def test_light_modules_load_nothing_heavy(module):
    assert not loaded_by(module) & {"torch", "transformers", "onnxruntime", "optimum"}


def test_the_doctor_needs_no_package_to_start():
    """``kit doctor`` is for machines where something is missing."""
    assert not loaded_by("kit.cli") & {"numpy", "plotly", "ipywidgets", "nbformat", "IPython"}


# --- the repository


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    pattern = re.compile("|".join([*map(re.escape, HOSTS), *PATHS, re.escape(str(ROOT))]))
    found = []
    for file in tracked():
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(ROOT)}: {m[0]}" for m in pattern.finditer(text)]
    assert found == []


def test_the_repository_is_small():
    assert sum(f.stat().st_size for f in tracked()) < 40e6


def test_no_pickles():
    assert [f.name for f in tracked() if f.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib")] == []
