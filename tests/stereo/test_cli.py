"""The front door: options, exit codes, one-line errors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from stereo import cli
from stereo.errors import UserError, require
from stereo.options import parse_size, positional


@dataclasses.dataclass
class Nested:
    """Nested options.

    Args:
        name: which.
        model: a file.
        exact: or not, or whatever is best.
    """

    name: Literal["one", "two"] = "one"
    model: Path | None = None
    exact: bool | None = None


@dataclasses.dataclass
class Options:
    """Options of a verb for tests.

    Args:
        source: where from.
        out: where to.
        nested: nested.
        frame_count: how many.
        force: whatever it says.
    """

    shorthands: ClassVar[dict[str, str]] = {"nested": "nested.name", "exact": "nested.exact"}

    source: str = positional()
    out: Path = dataclasses.field(kw_only=True)
    nested: Nested = dataclasses.field(default_factory=Nested, kw_only=True)
    frame_count: int = dataclasses.field(default=1, kw_only=True)
    force: bool = dataclasses.field(default=False, kw_only=True)


seen: list[Options] = []


def work(options: Options) -> Path:
    """Remember the options; the source decides how it ends."""
    seen.append(options)
    if options.source == "interrupt":
        raise KeyboardInterrupt
    if options.source == "bug":
        raise ZeroDivisionError
    if options.source == "package":
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    return options.out


@pytest.fixture(autouse=True)
def verb(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    monkeypatch.setitem(cli.VERBS, "work", cli.Verb("work", "work:Options", "work:work"))
    monkeypatch.setattr(cli, "resolve", lambda reference: globals()[reference.split(":")[1]])


def test_options_reach_the_verb_and_its_path_is_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["work", "here", "--out", "there", "--nested", "two", "--nested.model=m", "--frame-count", "3"]) == 0
    )
    assert seen == [Options("here", out=Path("there"), nested=Nested("two", Path("m")), frame_count=3)]
    assert capsys.readouterr().out.splitlines()[-1] == "there"


@pytest.mark.parametrize(
    "words",
    [
        ("--force", "here", "--out", "there", "--exact"),
        ("here", "--exact", "--force", "--out", "there"),
        ("--force", "true", "here", "--out=there", "--nested.exact", "true"),
        ("--exact=true", "here", "--out", "there", "--force=true"),
    ],
)
def test_flags_stand_alone_or_with_their_value(words: tuple[str, ...]) -> None:
    assert cli.main(["work", *words]) == 0
    assert seen == [Options("here", out=Path("there"), nested=Nested(exact=True), force=True)]


def test_flags_can_be_switched_off(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("force: true\nnested: {exact: true}\n")
    assert cli.main(["work", "--config", str(recipe), "--force", "false", "--exact", "null", "here", "--out", "x"]) == 0
    assert seen == [Options("here", out=Path("x"))]


def test_recipe_and_command_line(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("frame_count: 5\nnested:\n  name: two\n")
    assert cli.main(["work", "here", "--config", str(recipe), "--out", "o", "--frame_count", "6"]) == 0
    assert (seen[0].frame_count, seen[0].nested.name) == (6, "two")


@pytest.mark.parametrize(
    ("recipe", "suggestion"),
    [("frame_cuont: 5", "did you mean 'frame_count'"), ("nested:\n  modle: x", "did you mean 'nested.model'")],
)
def test_unknown_key_in_a_recipe_gets_its_nearest_match(
    tmp_path: Path, recipe: str, suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert cli.main(["work", "here", "--config", str(tmp_path / "recipe.yaml"), "--out", "o"]) == 2
    assert suggestion in capsys.readouterr().err
    assert not seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["work", "a", "--out", "b", "--frame_coun", "3"], "did you mean 'frame_count'"),
        (["work", "a", "--out", "b", "--frame_count", "many"], "Expected a <class 'int'>"),
        (["work", "a", "--out", "b", "--nested", "three"], "'two'"),
        (["work", "a"], "out"),
        (["wrok"], "did you mean 'work'"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not seen


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["work", "interrupt", "--out", "b"]) == 130
    assert "what was finished is kept" in capsys.readouterr().err
    assert cli.main(["work", "package", "--out", "b"]) == 2
    assert "stereodistill[train]" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        cli.main(["work", "bug", "--out", "b"])
    assert cli.main([]) == 0
    assert cli.main(["work", "--help"]) == 0
    assert "where from" in capsys.readouterr().out


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(UserError):
        cli.main(["nothing", "--debug"])


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_help_of_every_verb_works_without_heavy_imports(name: str) -> None:
    code = (
        "import sys; from stereo.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'onnxruntime', 'openvino', 'pytorch_lightning', 'modelopt'} & set(sys.modules); "
        "sys.exit(f'imports {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, name, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


def test_parse_size() -> None:
    assert parse_size("480x640", multiple=32) == (480, 640)
    for text in ("480", "480x", "axb", "0x640"):
        with pytest.raises(UserError, match="--size"):
            parse_size(text, multiple=32)


def test_require_tells_how_to_install() -> None:
    with pytest.raises(UserError, match=r"cannot import no_such_package.*pip install it"):
        require("no_such_package", hint="pip install it")


def test_errors_are_one_line() -> None:
    assert str(UserError("is\n  odd", where="here", fix="do that")) == "here: is odd (do that)"
