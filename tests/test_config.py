"""Command lines: a wrong one is refused at once, in one line that names the remedy."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lensjax import __version__
from lensjax.commands import cli, config
from lensjax.commands.config import ConfigError, TrainConfig

ROOT = Path(__file__).parent.parent


def settings(*overrides, name="train"):
    return config.typed(config.compose(name, list(overrides)), config.SCHEMAS[name])


def test_keys_are_typed_and_presets_fill_them():
    made = settings("fold=3", "sample=uniform", "learning_rate=1e-3", "epochs=2")
    assert isinstance(made, TrainConfig)
    assert (made.fold, made.folds, made.epochs) == (3, [3], 2)
    assert (made.sample, made.cap, made.rotate) == ("uniform", 0.057, True)
    assert made.learning_rate == 1e-3
    assert settings("fold=all").folds == [0, 1, 2, 3, 4]
    assert settings("sample=uniform", "cap=400").cap == 400
    posterior = settings("estimator=posterior")
    assert (posterior.sample, posterior.galaxies) == ("decoupled", "varied")
    assert (posterior.schedule, posterior.clip) == ("cosine", 1.0)
    assert settings("estimator=posterior", "sample=uniform").sample == "uniform"
    assert settings("estimator=posterior", "clip=2").clip == 2
    assert settings().estimator == "paper"
    for value in ("true", "True", "auto", "false"):
        assert settings(f"keep_images={value}").keep_images == value.lower()


@pytest.mark.parametrize(
    "override, words",
    [
        ("fold=7", "fold must be 0 to 4 or all, not 7"),
        ("fold=3.0", "fold must be"),
        ("fold=[0,1]", "fold must be"),
        ("flod=3", "no key 'flod': did you mean fold"),
        ("+flod=3", "no key '\\+flod'"),
        ("bogus", "'bogus' is not of the form key=value"),
        ("data=/nowhere", "/nowhere is no folder: give a folder with lenses.csv"),
        ("sample=unform", "did you mean uniform"),
        ("sample=", "sample must be decoupled, natural, natural_wide or uniform"),
        ("estimator=posteror", "did you mean posterior"),
        ("schedule=linear", "schedule must be constant or cosine"),
        ("clip=-1", "clip must be from 0"),
        ("galaxies=real", "galaxies must be smooth or varied"),
        ("arc_free=1", "arc_free must be from 0 to 0.9"),
        ("multiplicity=quad", "did you mean quads"),
        ("epochs=abc", "epochs: .*'abc'"),
        ("epochs=0", "epochs must be from 1"),
        ("size=1e3", "size: .*1000.0"),
        ("size=-3", "size must be from 1"),
        ("learning_rate=nan", "learning_rate must be from 0 to 10"),
        ("dropout=1", "dropout must be from 0 to 0.99"),
        ("keep_images=maybe", "keep_images must be auto, true or false"),
        ("scaling=log", "scaling must be none, asinh, standardize, .* or mean_peak"),
        ("channels=[]", "channels must be a list of widths such as"),
        ("dense=[8,x]", "dense must be a list of widths such as"),
        ("final=true", "final=true needs fold=all, not 0"),
        ("optimizer=adamw", "optimizer must be sgd or adam.*did you mean adam"),
        ("theta_E_min=5", "theta_E_min .* must be below theta_E_max"),
        ("cap=2", "cap=2 lets no more than .* raise cap or lower size"),
        ("channels=[1", "channels|input"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(override, words):
    with pytest.raises(ConfigError, match=words) as caught:
        settings(override)
    assert "\n" not in str(caught.value)


def test_a_batch_larger_than_the_sample_is_refused():
    with pytest.raises(ConfigError, match="batch_size .* lower it or draw"):
        settings("batch_size=100", "size=60")


def test_what_is_needed_is_named(tmp_path):
    with pytest.raises(ConfigError, match="out is needed: give out="):
        settings(name="sample")
    with pytest.raises(ConfigError, match="holds no training run .* train one"):
        settings(f"run_dir={tmp_path}", "cutouts=x", "out=y", name="predict")
    (tmp_path / "systems.parquet").touch()
    with pytest.raises(ConfigError, match="exists: give another out, or overwrite"):
        settings(f"out={tmp_path}", name="sample")
    assert settings(f"out={tmp_path}", "overwrite=true", name="sample").overwrite


def test_a_configuration_comes_back_from_its_file(tmp_path):
    made = settings("fold=all", "run_dir=/a b/c", "weight_theta_E=5", "scaling=asinh")
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(made))
    assert config.from_yaml(path, TrainConfig) == made


def test_a_run_with_sources_of_another_folder_comes_back(tmp_path):
    """Its folders may be elsewhere by then, as with data."""
    for settings in (
        TrainConfig(data="here", sources="there", survey="DES"),
        TrainConfig(data="here", stream="true"),
    ):
        path = tmp_path / "config.yaml"
        path.write_text(config.to_yaml(settings))
        assert config.from_yaml(path, TrainConfig) == settings


@pytest.mark.parametrize(
    "text",
    [
        "fold: [1",
        "\x00",
        "just words",
        "- 1\n- 2\n",
        "epochs: many\n",
        "flod: 3\n",
        "fold: 9\n",
        "scaling: log\n",
    ],
)
def test_a_broken_configuration_file_is_named(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="config.yaml") as caught:
        config.from_yaml(path, TrainConfig)
    assert "\n" not in str(caught.value)


def test_help_tells_every_key():
    for name, schema in config.SCHEMAS.items():
        usage = config.usage(name)
        for field in dataclasses.fields(schema):
            assert f"\n  {field.name} " in usage, field.name


def command(name, *arguments, cwd=None):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lensjax", name, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    return done, time.monotonic() - began


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("train", ["fold=7"], "fold must be 0 to 4 or all"),
        ("train", ["-m", "flod=0,1"], "did you mean fold"),
        ("sample", ["size=10"], "out is needed"),
        ("predict", ["run_dir=/nowhere", "cutouts=x", "out=y"], "no training run"),
    ],
)
def test_the_commands_refuse_at_once_with_status_2(name, arguments, words, tmp_path):
    done, seconds = command(name, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert seconds < 10  # about one on a quiet machine: JAX is not even loaded
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_is_found_before_jax_is_loaded():
    code = (
        "import sys; sys.argv[1:] = ['fold=7']\n"
        "import runpy\n"
        "try: runpy.run_module('experiments.train', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_and_hydras_own_flags(tmp_path):
    done, _ = command("train", "--help")
    assert done.returncode == 0 and "0 to 4, or all" in done.stdout
    for line in (["--cfg", "job", "fold=2"], ["fold=2", "seed=1", "--cfg", "job"]):
        done, _ = command("train", *line, cwd=tmp_path)
        assert done.returncode == 0 and "fold: 2" in done.stdout, done.stderr


def test_a_small_share_is_a_cap_and_not_none():
    assert config.DrawConfig(cap=0.004, size=100, out="x").most_in_bin == 1
    assert config.DrawConfig(cap=0.057, size=1000, out="x").most_in_bin == 57
    assert config.DrawConfig(cap=0.0, size=100, out="x").most_in_bin == 0


def test_in_a_checkout_each_command_goes_by_its_other_name_too():
    for name in cli.COMMANDS:
        line = [sys.executable, "-m", f"experiments.{name}", "--help"]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: lensjax {name} key=value")


def test_the_command_says_what_there_is_and_what_was_meant(tmp_path):
    done, _ = command("--help", cwd=tmp_path)
    assert done.returncode == 0 and "predict" in done.stdout
    done, _ = command("--version", cwd=tmp_path)
    assert done.stdout == f"lensjax {__version__}\n"
    done, _ = command("trian", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: there is no command 'trian': did you mean train?\n"
