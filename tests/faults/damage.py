"""Files and directories that are not what was written: flipped, cut, swapped, gone, foreign, or out to do harm."""

import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .outcomes import LOST, Outcome, outcome
from .works import RESUMED, WORKS, Arrays, Work, begin


def files_of(path: Path) -> list[Path]:
    """Returns the files at or below a path that hold anything, in a fixed order."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in files if file.is_file() and file.stat().st_size]


def _flipped(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def _cut(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])


def _longer(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes() + draw.randbytes(40))


def _gone(file: Path, draw: random.Random) -> None:
    file.unlink()


def _folder(file: Path, draw: random.Random) -> None:
    file.unlink()
    file.mkdir()


def _text(file: Path, draw: random.Random) -> None:
    file.write_text("not what it was")


class Harm:
    """What makes a file beside it when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.file,)


def harm_done(file: Path) -> Path:
    """Where the file would be that unpickling makes."""
    return Path("/tmp") / f"lectopt-harm-{file.parts[2]}"


def _pickle(file: Path, draw: random.Random) -> None:
    file.write_bytes(pickle.dumps(Harm(harm_done(file))))


def _pickled_arrays(file: Path, draw: random.Random) -> None:
    """In each array of an .npz, an object to unpickle; in other files, outside of which there is no array, a pickle."""
    if not zipfile.is_zipfile(file):
        _pickle(file, draw)
        return
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    header += b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    with zipfile.ZipFile(file) as old:
        names = old.namelist()
    with zipfile.ZipFile(file, "w") as new:
        for name in names:
            new.writestr(name, header + pickle.dumps(Harm(harm_done(file))))


def _swapped(file: Path, draw: random.Random) -> None:
    """With another file of the same directory."""
    other = draw.choice([one for one in files_of(_top(file)) if one != file] or [file])
    mine, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(mine)


def _top(file: Path) -> Path:
    return next(path for path in file.parents if path.name == "kept")


FILE_FAULTS = {
    "a flipped bit": _flipped,
    "cut short": _cut,
    "longer": _longer,
    "gone": _gone,
    "a folder in its place": _folder,
    "text in its place": _text,
    "a pickle in its place": _pickle,
    "arrays that are pickles": _pickled_arrays,
    "swapped": _swapped,
}


READS = {("fit", "run"), ("search", "partial"), ("halving", "partial"), ("partial", "search")}
"""(whose directory, who may read it)."""


def damaged(scratch: Path, name: str, work: Work, whole: Arrays, times: dict[str, int]) -> Iterator[Outcome]:
    """Yields what becomes of a work whose files are damaged, each kind of fault so many times."""
    draw, template = random.Random(name), scratch / f"{name} template" / "kept"
    template.parent.mkdir()
    begin(work, template) if name in RESUMED else work(template)
    for fault, spoil in FILE_FAULTS.items():
        for time in range(times.get(fault, times["others"])):
            place = scratch / f"{name} {fault} {time}" / "kept"
            place.parent.mkdir()
            (shutil.copytree if template.is_dir() else shutil.copy)(template, place)
            file = draw.choice(files_of(place))
            if not (file == place and fault == "swapped"):
                spoil(file, draw)
            case = f"{name}: {file.relative_to(place.parent)} {fault}"
            part = "said" if name == "partial" else ""
            part = "unsaid" if part and fault == "gone" else part  # what is not there was not run
            found = outcome(case, work, place, whole, part=part) if place.exists() else None
            if harm_done(file).exists():
                harm_done(file).unlink()
                found = Outcome(case, LOST, "it was unpickled")
            if found is not None:
                yield found
            shutil.rmtree(place.parent)


def foreign(scratch: Path, wholes: dict[str, Arrays]) -> Iterator[Outcome]:
    """Yields what becomes of works in directories, or at files, of others, which have to stay as they are."""
    for name in WORKS:
        place = scratch / f"of {name}" / "kept"
        place.parent.mkdir()
        WORKS[name](place)
        before = {file: file.read_bytes() for file in files_of(place)}
        for other, work in WORKS.items():
            if other == name or (name, other) in READS:
                continue
            case = f"{other}: in the place of {name}"
            found = outcome(case, work, place, wholes[other])
            if {file: file.read_bytes() for file in files_of(place)} != before:
                found = Outcome(case, LOST, "what was there is not there any more")
            yield found
