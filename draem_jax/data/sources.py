"""Where a data set's files come from: a folder, a list file or an archive of the user's."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from draem_jax.data.archives import ENDINGS, is_archive
from draem_jax.data.folders import look
from draem_jax.data.layouts import LAYOUTS
from draem_jax.errors import UserError
from draem_jax.files import expand

_READ = (".csv", ".txt")  # besides pictures
_RULES = 3
"""Number of the rules by which folders are read. Raise it when they change, so that what was
prepared by older ones is not used."""


@dataclass(frozen=True)
class Source:
    """A folder, list file or archive that exists.

    Attributes:
        root: what the user named, as an absolute path.
        is_archive: whether it must be unpacked first.
    """

    root: Path
    is_archive: bool

    def fingerprint(self, name: str, category: str) -> str:
        """Digest of the root's path and of its files' names, sizes, inodes and times.

        Of files that are not read the name alone counts, and what is left out does not count.

        Args:
            name: the data set.
            category: the folder whose files count, if there is such a folder.
        """
        files, unread = [self.root], list[Path]()
        if self.is_archive:
            pass
        elif self.root.is_file():
            listing = LAYOUTS[name].list_category(self.root, category)
            listed = {file for entry in listing.entries for file in (entry.path, *entry.masks)}
            files += listed
        else:
            base = self.root / category
            base = base if base.is_dir() else self.root
            contents = look(base)
            read = [path for path in contents.others if path.suffix.lower() in _READ]
            unread = [path for path in contents.others if path.suffix.lower() not in _READ]
            files = [*contents.pictures, *read]
        lines = [f"{_RULES}\0{name}\0{self.root}\0{category}\n", *(f"{p}\n" for p in unread)]
        for path in sorted(files):
            try:
                state = path.stat()
            except OSError:
                continue  # a link that leads nowhere; reading it will tell
            # Files that are exchanged keep their times of writing, and may be of equal size.
            times = f"{state.st_mtime_ns}\0{state.st_ctime_ns}"
            lines.append(f"{path}\0{state.st_size}\0{state.st_ino}\0{times}\n")
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def find_source(root: str | Path) -> Source:
    """Finds what the user named.

    Raises:
        UserError: there is no such folder or archive.
    """
    path = expand(root)
    if not path.exists():
        looked = "" if path.is_absolute() else f", which is {path.absolute()}"
        raise UserError(f"there is no file or folder {root}{looked}; check the path")
    path = path.resolve()
    if path.is_dir() or path.suffix.lower() == ".csv":
        return Source(path, is_archive=False)
    if is_archive(path):
        return Source(path, is_archive=True)
    raise UserError(
        f"{root} is neither a folder nor a list (.csv) nor an archive ({', '.join(ENDINGS)}), or "
        "is damaged"
    )


def folder_config(folder: str, fingerprint: str) -> str:
    """Name of the prepared copy of a user's folder: its name in ASCII, and its state.

    An edited folder gets another name, and so is prepared anew.
    """
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:40] or "pictures"
    return f"{plain}-{fingerprint[:12]}"
