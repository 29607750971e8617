"""The command line of training: errors in one line, --help, --version and paths."""

import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from configs import x4
from esrgan_jax import main
from esrgan_jax.errors import InputError
from esrgan_jax.training.setting_rules import rules

ROOT = Path(__file__).parents[1]
X4, RUN = "--config=configs/x4.py", "--workdir=x"


@pytest.fixture
def parse(monkeypatch):
    """Returns a function that parses arguments as `python -m esrgan_jax.main` does."""
    monkeypatch.chdir(ROOT)

    def parsed(*arguments: str) -> list[str]:
        for name in ("config", "workdir"):
            flags.FLAGS[name].unparse()
        for name in list(flags.FLAGS):  # flags of the previous config
            if name.startswith("config."):
                delattr(flags.FLAGS, name)
        monkeypatch.setattr(sys, "argv", ["main", *arguments])
        return main._parse(sys.argv)

    return parsed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([RUN, X4, "--config.psnr.stepz=1"], "psnr.stepz: did you mean --config.psnr.steps?"),
        ([RUN, X4, "--config.gan.learnin_rate", "1"], "did you mean --config.gan.learning_rate?"),
        ([RUN, X4, "--config.date.train=x"], "did you mean --config.data.train?"),
        ([RUN, X4, "--config.gan.layer_weights.relu5_4=1"], "no setting --config.gan.l"),
        ([RUN, X4, "--config.psnr=3"], "--config.psnr is a section: change one of its settings"),
        ([RUN, X4, "--psnr.steps=3"], "no flag --psnr.steps: did you mean --config.psnr.steps?"),
        ([X4, "--workdri=x"], "there is no flag --workdri: did you mean --workdir?"),
        ([RUN, "--confg=configs/x4.py"], "there is no flag --confg: did you mean --config?"),
        ([RUN, X4, "-o", "y"], "there is no flag --o: see --help"),
        ([RUN, X4, "--config.psnr.steps=1.5"], "psnr.steps=1.5: take a whole number, 1 or more"),
        ([RUN, X4, "--config.data.augment=maybe"], "augment=maybe: take True or False"),
        ([RUN, X4, "--config.gan.b1=x"], "--config.gan.b1=x: take a number, 0 or more, below 1"),
        ([RUN, X4, "--config.data.train"], "Missing value for flag --config.data.train"),
        ([X4, "--workdir"], "Missing value for flag --workdir"),
        ([RUN, X4, ""], "unknown argument '': flags look like --workdir=DIR"),
        ([RUN, X4, "extra"], "unknown argument 'extra': flags look like --workdir=DIR"),
        ([X4], "--config or --workdir is missing: python -m esrgan_jax.main"),
        ([X4, "--workdir="], "--config or --workdir is missing"),
        ([RUN], "--config or --workdir is missing"),
        ([RUN, "--config="], "--config=: there is no such file; the package has configs/demo.py"),
        ([RUN, "--config=configs/none.py"], "no such file; the package has configs/demo.py, "),
        ([RUN, "--config=configs"], "--config=configs: there is no such file"),
        ([RUN, "--config=setup.cfg"], "--config=setup.cfg cannot be loaded: SyntaxError: "),
        ([RUN, "--config=esrgan_jax/errors.py"], "has no get_config, so it is not a config"),
        ([RUN, "--config=configs/x4.py:best"], "loaded: recipe 'best': choose one of paper,"),
        ([RUN, "--config=configs/demo.py:abc"], "loaded: TypeError: get_config() takes 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_in_one_line(parse, arguments, message):
    with pytest.raises(InputError) as raised:
        parse(*arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "\\n" not in str(raised.value)


def test_a_config_file_that_fails_or_returns_another_type_is_refused(parse, tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return {'steps': 1}\n")
    with pytest.raises(InputError, match="get_config does not return a ConfigDict"):
        parse(f"--config={tmp_path}/mine.py", RUN)
    cases = {"OSError('two\\nlines')": "two lines", "KeyError('get_config')": "'get_config'"}
    for raised, shown in cases.items():
        (tmp_path / "mine.py").write_text(f"def get_config():\n    raise {raised}\n")
        with pytest.raises(InputError, match=rf"mine.py cannot be loaded: \w+Error: {shown}"):
            parse(f"--config={tmp_path}/mine.py", RUN)


def test_a_section_that_is_none_is_listed(parse, tmp_path, capsys):
    text = "from configs import x4\ndef get_config():\n    config = x4.get_config()\n"
    text += "    config.discriminator = None\n    return config\n"
    (tmp_path / "mine.py").write_text(text)
    parse(mine := f"--config={tmp_path}/mine.py", RUN)  # `check_settings` refuses it
    with pytest.raises(SystemExit):
        parse(mine, "--help")
    assert [*map(str.split, capsys.readouterr().out.splitlines())].count(["discriminator", "None"])


def test_help_lists_flags_and_the_settings_of_a_given_config(parse, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    output = capsys.readouterr().out
    assert ended.value.code == 0
    for flag in ("--config=FILE", "--workdir=DIR", "--config.KEY=VALUE", "--version"):
        assert flag in output
    assert "psnr.steps" not in output
    with pytest.raises(SystemExit) as ended:
        parse(X4, "--help")
    rows = {
        line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line[:2] == "  "
    }
    assert ended.value.code == 0
    assert rows["psnr.steps"].split(maxsplit=2)[1:] == ["1000000", "a whole number, 1 or more"]
    assert rows["gan.relativistic"].split(maxsplit=2)[1:] == ["True", "True or False"]
    assert "  a weight of 0 or more for each layer, " in rows["gan.layer_weights.conv5_4"]
    assert {key for key, _ in main.settings(x4.get_config())} <= rows.keys()


def test_every_setting_has_a_rule():
    config = x4.get_config()
    assert {key for key, _ in main.settings(config)} - rules(config).keys() == {
        "gan.layer_weights.conv5_4"
    }


@pytest.mark.parametrize("none", ["None", "none", ""])
def test_path_settings_can_be_none(parse, none):
    keys = [key for key, what in rules(x4.get_config()).items() if what == "a path, or none"]
    assert {"vgg", "data.val", "psnr.init_from", "gan.init_from", "gan.d_init_from"} < set(keys)
    for given in (none, "./None"):
        parse(X4, RUN, *(f"--config.{key}={given}" for key in keys))
        values = dict(main.settings(main._CONFIG.value))
        assert {values[key] for key in keys} == {given if "/" in given else None}


def test_version_is_printed(parse, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out == "esrgan_jax 0.1.0\n"


def test_a_tilde_is_expanded_in_paths(parse, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("from configs.x4 import get_config\n")
    assert parse("--config=~/mine.py:basicsr", "--workdir=~/run", "--config.seed=3") == ["main"]
    assert main._WORKDIR.value == f"{tmp_path}/run"
    assert (main._CONFIG.value.recipe, main._CONFIG.value.seed) == ("basicsr", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.psnr.stepz=1"], "psnr.steps?"),
        (["--config.psnr.b1=1"], "b1 is 1.0: take a"),
    ],
)
def test_wrong_input_exits_with_code_2(arguments, message):
    result = subprocess.run(
        [sys.executable, "-m", "esrgan_jax.main", X4, RUN, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
