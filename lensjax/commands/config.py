"""From the command line to checked settings (`settings`).

Presets are in conf/; a key=value on the command line goes over them.
"""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lensjax.commands import overrides as overrides_
from lensjax.commands.settings import (
    ConfigError,
    DrawConfig,
    EvaluateConfig,
    ExportConfig,
    FitConfig,
    GridConfig,
    IngestConfig,
    PredictConfig,
    SampleConfig,
    TrainConfig,
)
from lensjax.commands.settings.checks import choice

__all__ = ["SampleConfig"]  # what is not used here, for the commands

CONF = Path(__file__).parent / "conf"
FORMER = {"endless": "online"}  # keys of version 0.1 -> their names now
PRESETS = ("sample", "estimator")  # keys that stand for others, see conf/
SWEPT = ("train", "grid")  # commands whose runs are folders of their own
SCHEMAS: dict[str, type] = {
    "sample": DrawConfig,
    "train": TrainConfig,
    "predict": PredictConfig,
    "fit": FitConfig,
    "ingest": IngestConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "grid": GridConfig,
}
_FOLDERS: dict[str, Path] = {}  # of commands whose YAML is not in `CONF`


def add(name: str, schema: type, folder: Path = CONF) -> None:
    """Make a command known: its keys, and the folder of its <name>.yaml."""
    SCHEMAS[name], _FOLDERS[name] = schema, folder
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


for _name, _schema in list(SCHEMAS.items()):
    add(_name, _schema)


def main(name: str, task: Callable[[Any], int | None]) -> None:
    """Run `task` with the checked configuration of command `name`, and exit.

    Status 2 and one line on standard error for a setting that cannot work.  With
    hydra's own flags (-m for a sweep, --cfg job) hydra runs the show.
    """
    arguments = check(name)

    def checked(config: Any) -> int:
        # and JAX, once the keys are right
        from lensjax.commands import compiled, failures

        try:
            settings = typed(config, SCHEMAS[name])
            compiled.keep()
            return task(settings) or 0
        except ConfigError as error:
            _refuse(error)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except Exception as error:
            text = failures.in_one_line(error, config)
            if text is None:  # a fault of ours: all that can be known of it
                raise
            print(f"error: {text}", file=sys.stderr)
            raise SystemExit(1) from None

    def job(config):
        if name in SWEPT and HydraConfig.get().mode == RunMode.MULTIRUN:
            config.run_dir = HydraConfig.get().runtime.output_dir
        status = checked(config)
        if status:
            raise SystemExit(status)

    if any(a.startswith("-") for a in arguments):
        # hydra's parser wants all key=value in one piece
        keys = _overrides(arguments)
        flags = [a for a in arguments if a not in keys]
        if not {"-m", "--multirun"} & {*flags}:  # in a sweep a comma parts values
            keys = [overrides_.literal(k) for k in keys]
        folders = _sweep_folders(arguments) if name in SWEPT else []
        sys.argv[1:] = flags + keys + folders
        # hydra.main takes the job's name from its function
        job.__name__ = name
        hydra.main(str(_FOLDERS[name]), name, "1.3")(job)()
    else:
        raise SystemExit(checked(compose(name, arguments)))


def _sweep_folders(arguments: list[str]) -> list[str]:
    """What tells hydra to name a sweep's folders, in run_dir, by what is swept."""
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    single = [k for k, value in given.items() if not {",", "("} & {*value}]
    named = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(single)}]"
    folder = given.get("run_dir")
    return [named] + ([f"hydra.sweep.dir={folder}"] if folder else [])


def _overrides(arguments: list[str]) -> list[str]:
    """The arguments that are key=value, hydra's own flags left out."""
    return [a for a in arguments if "=" in a and a[0] != "-"]


def check(name: str) -> list[str]:
    """The command's arguments; exits at once where they cannot work, or are --help.

    Imports nothing heavy, so that a command can call it before it loads JAX.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & {*arguments}:
        try:
            print(usage(name), flush=True)
        except OSError:  # into head, say; Python must not write there again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)
    try:
        if any(a.startswith("-") for a in arguments):
            overrides_.check_flags(arguments)
            _check_keys(name, _overrides(arguments))
        else:
            typed(compose(name, arguments), SCHEMAS[name])
    except ConfigError as error:
        _refuse(error)
    return arguments


def _refuse(error: ConfigError) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def usage(name: str) -> str:
    """The keys of a command: default and meaning, from the dataclass's own lines."""
    lines = [f"usage: lensjax {name} key=value ...", ""]
    field = re.compile(r"    (\w+): [^=]+ = (\S+|\(.*?\))(?:\s+# (.*))?")
    found = {}
    for schema in reversed(SCHEMAS[name].__mro__[:-1]):
        for line in inspect.getsource(schema).splitlines():
            if match := field.fullmatch(line):
                found[match[1]] = match.groups()
    for key, default, meaning in found.values():
        value = "needed" if default == "MISSING" else default.strip('"')
        if value.startswith("("):  # as one types it
            inside = value[1:-1].replace(" ", "").replace('"', "").rstrip(",")
            value = f"[{inside}]"
        lines.append(f"  {key:20} {value:>10}  {meaning or ''}".rstrip())
    sweep = "" if name not in SWEPT else " A sweep's runs are folders in run_dir."
    lines += ["", f"-m runs every choice of key=a,b; --cfg job shows all keys.{sweep}"]
    return "\n".join(lines)


def _check_keys(name: str, overrides: list[str]) -> None:
    """Raise ConfigError for a key or a preset that is not there."""
    known = [f.name for f in fields(SCHEMAS[name])]
    for override in overrides:
        key, equals, value = override.partition("=")
        if "_target_" in override or "searchpath" in key:
            raise ConfigError(
                f"{key}: configurations cannot name code or folders of others: leave "
                "it out"
            )
        if not equals:
            raise ConfigError(f"{override!r} is not of the form key=value")
        if key not in known and not key.lstrip("+~").startswith("hydra"):
            near = difflib.get_close_matches(key, known, 1)
            if FORMER.get(key) in known:
                raise ConfigError(f"{key} is called {FORMER[key]} now")
            listed = ", ".join(known)
            hint = f"did you mean {near[0]}?" if near else f"there are {listed}"
            raise ConfigError(f"there is no key {key!r}: {hint}")
        if key in PRESETS:  # a preset is a file: hydra's words name its search path
            presets = sorted(path.stem for path in (CONF / key).glob("*.yaml"))
            for one in value.split(","):
                choice(key, one, tuple(presets))


def compose(name: str, overrides: list[str]) -> Any:
    """Hydra's configuration of command `name`; ConfigError for a wrong override."""
    _check_keys(name, overrides)
    try:
        with hydra.initialize_config_dir(str(_FOLDERS[name]), version_base="1.3"):
            return hydra.compose(name, [overrides_.literal(o) for o in overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_in_one_line(error.__cause__ or error)) from error


def typed(config: Any, schema: type) -> Any:
    """The checked dataclass that a hydra configuration stands for."""
    try:
        values = OmegaConf.to_container(config, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{error.full_key} is needed: give {error.full_key}=..."
        ) from (error)
    made = schema(**_tuples(values))
    made.validate()
    return made


def _tuples(values: dict) -> dict:
    """The same with tuples for lists, as the schemas have them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def to_yaml(config: Any) -> str:
    """The configuration as it is written into a run's folder."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def from_yaml(path: Path, schema: type) -> Any:
    """A configuration as `to_yaml` wrote it; ConfigError where it is none."""
    try:
        found = OmegaConf.load(path)
        for former, name in FORMER.items():
            if isinstance(found, DictConfig) and former in found:
                found[name] = found.pop(former)
        values = OmegaConf.merge(OmegaConf.structured(schema), found)
        plain = OmegaConf.to_container(values, throw_on_missing=True)
        made = schema(**_tuples(plain))
        # the data may be elsewhere by now
        replace(made, data=None, sources=None, stream="auto").validate()
    except (yaml.YAMLError, UnicodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {_first_line(error)}") from error
    except (ValueError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{path} is no configuration of this version: {_in_one_line(error)}"
        ) from error
    return made


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [repr(error)])[0]


def _in_one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("full_key")), ""
    )
    lines = [
        x for x in lines if not x.startswith(("full_key", "object_type", "reference"))
    ]
    return f"{key}: {' '.join(lines)}" if key else " ".join(lines)


def command_line(settings: TrainConfig) -> str:
    """The command that makes a training run: what differs from the defaults."""
    keys = [f"sample={settings.sample}"]
    if settings.estimator != "paper":
        keys.append(f"estimator={settings.estimator}")
    preset = typed(compose("train", keys), TrainConfig)
    local = ("run_dir", "checkpoint_seconds", "steps_per_dispatch", "devices", *PRESETS)
    for key, value in vars(settings).items():
        if key not in local and value != getattr(preset, key):
            keys.append(f"{key}={_as_typed(value)}")
    return "lensjax train " + " ".join(keys)


def _as_typed(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
