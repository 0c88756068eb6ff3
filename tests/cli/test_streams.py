"""Standard streams that are full, closed or interrupted: one message, and an exit code that tells."""

import io
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from arith.cli import main
from arith.cli.failures import put, say
from arith.errors import SpecError
from arith.runtime.backbones.slots import SlotBackbone
from tests.cli.conftest import Arith, Spec

ARITH = [sys.executable, "-m", "arith"]


@pytest.mark.parametrize(
    ("word", "message"), [("schema", "standard output can't be written: no space"), ("--help", "no space")]
)
def test_a_full_standard_output_is_one_message(word: str, message: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*ARITH, word], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {message} left on device\n"


def test_a_character_that_standard_output_lacks_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SpecError, match=r"can't hold '\\xe9': its encoding is ascii"):
        put("caf\u00e9")


def test_a_full_disk_is_one_message(arith: Arith, spec: Spec) -> None:
    result = arith("generate", spec(), "--out", "/dev/full", "--overwrite", stdin="one\ntwo\n")
    assert result.exit_code == 2
    assert result.stderr.count("error: /dev/full: can't be written: no space left on device") == 1


def test_a_closed_stream_is_not_taken_for_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", None)
        say("progress")
    with monkeypatch.context() as patched, pytest.raises(SpecError, match="standard output is closed"):
        patched.setattr(sys, "stdout", None)
        put("a row")
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_ends_the_program_in_silence() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*ARITH, "schema"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == "" and done.returncode == 1


class Interrupting:
    """Ctrl-C in the moment in which a module is looked for."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name == "arith.cli.app":
            raise KeyboardInterrupt
        return None


def test_interrupted_while_it_is_imported_it_ends_as_in_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "arith.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_a_second_process_on_one_file_is_refused_and_a_dead_one_holds_nothing(
    arith: Arith, spec: Spec, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    holder = "import sys, time; from pathlib import Path; from arith.results_file import ResultsFile\n"
    holder += "file = ResultsFile(Path(sys.argv[1]), run='r'); print('held', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", holder, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        for flags in ([], ["--resume"], ["--overwrite"]):
            result = arith("generate", spec(), "--prompt", "one", "--out", out, *flags)
            assert result.exit_code == 2 and f"{out}: another process is writing to it" in result.stderr
    finally:
        process.kill()
        process.communicate()
    assert arith("generate", spec(), "--prompt", "one", "--out", out).exit_code == 0
    assert len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize("rows", [1, 2])
def test_an_interrupted_text_ends_its_line_and_says_how_to_go_on(
    rows: int, arith: Arith, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = SlotBackbone.step, list[int]()

    def interrupted(self: SlotBackbone, lanes: Any, tokens: Any) -> Any:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return step(self, lanes, tokens)

    monkeypatch.setattr(SlotBackbone, "step", interrupted)
    flags = ["--out", tmp_path / "out.jsonl"] if rows > 1 else []
    call = ("generate", spec(), "--prompt", "abc", "--num-return-sequences", rows, *flags)
    result = arith(*call)
    assert result.exit_code == 130 and result.stderr.endswith("stopped\n")
    assert result.stdout.endswith("\n") if rows == 1 else "--resume goes on with the rest" in result.stderr
    finished = arith(*call, *(["--resume"] if rows > 1 else []))
    assert finished.exit_code == 0 and "goes on" not in finished.stderr
