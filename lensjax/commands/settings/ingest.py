"""Keys of `lensjax ingest`."""

from dataclasses import dataclass
from pathlib import Path

from lensjax.commands.settings.checks import ConfigError, between


@dataclass
class IngestConfig:
    """`lensjax ingest`."""

    lenses: str | None = None  # folder of HSC cutouts and PSFs, or a table of files
    sdss: str | None = None  # table of their spectra; without it z and vdisp are drawn
    mosaics: str | None = None  # folder of the Hubble Ultra Deep Field's mosaics
    redshifts: str | None = None  # table of redshifts in it
    out: str | None = None  # folder to write, for data=... of the other commands
    margin: int = 4  # pixels kept around a cutout, to shift it in
    workers: int = 0  # processes that read; 0: as many as there are cores
    overwrite: bool = False  # make it anew
    strict: bool = False  # exit with status 3 where a galaxy was left out
    positions: str | None = None  # table of id, ra, dec, to order cutouts of
    upload_list: str | None = None  # folder for the lists that order them, alone
    rerun: str = "pdr3_wide"  # data release that they are ordered from

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        between("margin", self.margin, 0, 64)
        between("workers", self.workers, 0, 4096)
        for one, other, why in (
            ("sdss", "lenses", "spectra are matched to cutouts"),
            ("mosaics", "redshifts", "only galaxies of known redshift are cut out"),
            ("redshifts", "mosaics", "galaxies are cut out of them"),
            ("positions", "upload_list", "it says where the lists go"),
            ("upload_list", "positions", "it says what to order"),
        ):
            if getattr(self, one) is not None and getattr(self, other) is None:
                raise ConfigError(f"{one} needs {other}=..., too: {why}")
        archives = [k for k in ("lenses", "mosaics") if getattr(self, k) is not None]
        if self.upload_list is not None and (archives or self.out is not None):
            given = archives[0] if archives else "out"
            raise ConfigError(f"upload_list writes lists alone: leave out {given}")
        if self.upload_list is None and not archives:
            raise ConfigError(
                "nothing to read: give lenses=... (with sdss=...), or mosaics=... "
                "redshifts=..., or both"
            )
        if archives and self.out is None:
            raise ConfigError("out is needed: give out=...")
        for key, kind in (
            ("lenses", "a folder or a table"),
            ("sdss", "a table"),
            ("mosaics", "a folder"),
            ("redshifts", "a table"),
            ("positions", "a table"),
        ):
            path = getattr(self, key)
            if path is None:
                continue
            folder, file = Path(path).is_dir(), Path(path).is_file()
            if not (folder and "folder" in kind or file and "table" in kind):
                what = "a folder" if folder else "a file" if file else "not there"
                raise ConfigError(f"{key}: {path} is {what}: give {kind}")
        if self.out is not None and Path(self.out).is_file():
            raise ConfigError(f"out: {self.out} is a file: give a folder")
