"""The commands of README and docs run, in the order of the page, on small inputs.

Each page is run in a folder of its own. Installations, `make`, benchmarks and `code` with "…" are
left out, and what has a mark `<!-- not run: REASON -->` before a block or after `code`. Of a
training two steps are done; see `stand_ins`.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import stand_ins
from tests.docs_commands import BLOCK, PAGES, ROOT, inline, lines, shell, split

MARK = re.compile(r"<!-- not run: [^>]+ -->\s*$")
LEFT_OUT = ("pip", "git", "make", "srun", "mpirun")
OUTPUTS = re.compile(r"--(?:output|json|csv|markdown|sheet|workdir)=(.+)")
LAST_IS_OUTPUT = ("convert", "export", "degrad")  # in the names of tools


def scripts(page: Path) -> list[tuple[int, str]]:
    """Returns the line and the text of what is run of a page: blocks, and commands in `code`."""
    text, found = page.read_text(), []
    for block in BLOCK.finditer(text):
        if shell(block) and not MARK.search(text[: block.start()]):
            kept = [line for line in lines(block[3]) if not line.startswith(LEFT_OUT)]
            found.append((block.start(), "\n".join(kept)))
    for match in inline(text):
        command = " ".join(match[1].split())
        whole = len(command.split()) > 3 and "…" not in command and "benchmarks." not in command
        marked = text[match.end() :].startswith("<!-- not run: ")
        if whole and not marked and not command.startswith(LEFT_OUT):
            found.append((match.start(), command))
    return [(text.count("\n", 0, start) + 1, script) for start, script in sorted(found) if script]


def outputs(script: str) -> list[str]:
    """Returns the files and folders that commands name as their outputs."""
    found = []
    for line in script.splitlines():
        found += [match[1] for match in re.finditer(r"(?<=> )(\S+)", line)]
        for words in split(line):
            found += [match[1] for word in words if (match := OUTPUTS.fullmatch(word))]
            if any(name in word for word in words[1:3] for name in LAST_IS_OUTPUT):
                found.append([word for word in words if not word.startswith("--")][-1])
    return [name for name in found if name != "-" and "$" not in name]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Returns a folder with inputs for all pages, and the environment to run commands in."""
    from tests import videos

    folder = tmp_path_factory.mktemp("inputs")
    programs, cache = folder.with_name("bin"), folder.with_name("cache")
    programs.mkdir()
    python = f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/stand_ins.py" '
    for name, words in (("python", '"$@"'), ("esrgan-jax", '-m esrgan_jax.cli "$@"')):
        (programs / name).write_text(python + words + "\n")
        (programs / name).chmod(stat.S_IRWXU)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ESRGAN_JAX_CACHE": str(cache),
        "JAX_NUM_CPU_DEVICES": "1",
        "TMPDIR": str(folder.parent),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESRGAN_JAX_CACHE", str(cache))
        stand_ins.write_weights(folder, cache)
    stand_ins.write_images(folder)
    videos.make(folder / "video.mp4", times=videos.STEADY[:3])
    for name in ("configs", "tools"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("runs", "examples", "images"):  # copies, because commands write there
        shutil.copytree(ROOT / "docs" / name, folder / "docs" / name)
    run(
        "python -m esrgan_jax.main --config=configs/x4.py --workdir=runs/x4 "
        "--config.data.train=photos --config.data.val=Set5 --config.vgg=vgg19.safetensors",
        folder,
        environment,
        "the run of all pages",
    )
    shutil.copytree(folder / "runs/x4", folder / "runs/mine")
    for name, place in stand_ins.RUNS.items():
        (folder / name).symlink_to(place)
    return folder, environment


def run(script: str, folder: Path, environment: dict[str, str], place: str) -> None:
    """Fails if a command fails, or does not write what it names as its output."""
    written = [folder / name for name in outputs(script)]
    for path in written:  # by earlier commands
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    ended = f"{place}: {script}\nexit code {done.returncode}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, ended
    assert [path for path in written if not path.exists()] == [], ended


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if scripts(page)], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_run(page, inputs, tmp_path):
    folder, environment = inputs
    shutil.copytree(folder, tmp_path / "work", symlinks=True)
    for line, script in scripts(page):
        run(script, tmp_path / "work", environment, f"{page.name}:{line}")


@pytest.mark.parametrize(
    "script", ["false", "false | true", "echo --output=none.png", "false\ntrue"]
)
def test_a_command_that_fails_or_writes_nothing_is_noticed(script, tmp_path):
    run("echo > a\necho --output=b > b", tmp_path, dict(os.environ), "page:1")
    with pytest.raises(AssertionError, match="page:1: "):
        run(script, tmp_path, dict(os.environ), "page:1")
