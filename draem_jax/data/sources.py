"""Where a data set's files come from: a folder, a list file or an archive of the user's."""

import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from draem_jax.data.archives import ENDINGS, is_archive, unpacked
from draem_jax.data.layouts import LAYOUTS, Listing, Problem
from draem_jax.data.layouts.entries import is_hidden
from draem_jax.data.pictures import SUFFIXES
from draem_jax.errors import UserError


@dataclass(frozen=True)
class Source:
    """A folder, list file or archive that exists.

    Attributes:
        root: what the user named, as an absolute path.
        is_archive: whether it must be unpacked first.
    """

    root: Path
    is_archive: bool

    def fingerprint(self, category: str = "") -> str:
        """Digest of the path, and of names, sizes and times of the files; of no contents.

        Args:
            category: the folder whose files count, if there is such a folder.
        """
        files = [self.root]
        if self.root.is_dir():
            inside = self.root / category if category else self.root
            inside = inside if inside.is_dir() else self.root
            files = [path for path in inside.glob("**/*") if _counts(path.relative_to(inside))]
        elif not self.is_archive:
            files += [path for path in self.root.parent.glob("**/*") if _counts(path)]
        digest = hashlib.sha256(str(self.root / category).encode("utf-8", "surrogateescape"))
        for path in sorted(files):
            try:
                state = path.stat()
            except OSError:
                continue  # a link that leads nowhere; reading it will tell
            line = f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def _counts(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, ".csv", ".txt") and not is_hidden(path)


def find_source(root: str | Path) -> Source:
    """Looks what the user named.

    Raises:
        UserError: there is no such folder or archive.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise UserError(f"there is no file or folder {root}; check the path")
    path = path.resolve()
    if path.is_dir() or path.suffix.lower() == ".csv":
        return Source(path, is_archive=False)
    if is_archive(path):
        return Source(path, is_archive=True)
    raise UserError(
        f"{root} is neither a folder nor a list (.csv) nor an archive ({', '.join(ENDINGS)}), or "
        "is damaged"
    )


@contextlib.contextmanager
def opened(
    source: Source,
    beside: Path,
    *,
    without: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Iterator[Path]:
    """The folder or list file of a source; an archive is unpacked while the block runs.

    Args:
        source: the user's folder, list file or archive.
        beside: the folder to unpack an archive in.
        without: names of folders within an archive that are not needed.
        progress: called with the number of files unpacked so far.

    Raises:
        UserError: see `archives.unpacked`; and in messages of the block, paths of files that were
            unpacked become paths within the archive.
    """
    if not source.is_archive:
        yield source.root
        return
    with unpacked(source.root, beside, without=without, progress=progress) as folder:
        try:
            yield folder
        except UserError as error:
            raise UserError(str(error).replace(str(folder), str(source.root))) from error


def list_source(name: str, category: str, folder: Path, source: Source) -> Listing:
    """Lists one category; paths within an archive are shown as such.

    Raises:
        UserError: the folder has not the data set's layout.
    """
    listing = LAYOUTS[name].list_category(folder, category)
    if not source.is_archive:
        return listing
    problems = tuple(
        Problem(p.kind, p.path, p.text.replace(str(folder), str(source.root)))
        for p in listing.problems
    )
    return Listing(listing.entries, problems, listing.left_out, listing.notes)


def folder_config(source: Source, category: str) -> str:
    """Name of the prepared copy of a user's folder: its name in ASCII, and its state.

    An edited folder gets another name, and so is prepared anew.
    """
    last = category or source.root.name
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:40] or "pictures"
    return f"{plain}-{source.fingerprint(category)[:12]}"
