"""What is typed after a command, made safe for hydra's grammar."""

import re

from lensjax.commands.settings.checks import ConfigError

# of hydra's flags those that read nothing but what is here
FLAGS = ("-m", "--multirun", "--cfg", "-c", "--resolve", "--info", "-p", "--package")
PATHS = (  # keys whose values are taken as they are, whatever is in them
    "data", "sources", "run_dir", "out", "cutouts", "weights", "init", "tables",
    "lenses", "sdss", "mosaics", "redshifts", "positions", "upload_list", "start",
)  # fmt: skip


def literal(override: str) -> str:
    """A path as hydra's grammar takes it for text: commas, brackets, = and all."""
    key, _, value = override.partition("=")
    if key not in PATHS or value in ("", "null") or value[0] in "\"'":
        return override
    value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (m[2] and "\\'"), value)
    return f"{key}='{value}'"


def check_flags(arguments: list[str]) -> None:
    """Raise ConfigError for a flag of hydra's that reads configurations of others."""
    for flag in (a for a in arguments if a.startswith("-")):
        if not any(flag == f or f"{flag}=".startswith(f"{f}=") for f in FLAGS):
            listed = ", ".join(FLAGS)
            raise ConfigError(f"there is no flag {flag}: there are {listed}, --help")
