"""Pictures that vanish or change while a run streams, where the run goes on without them."""

import logging
from collections.abc import Iterable

from draem_jax.data.streaming import PicturePairs
from draem_jax.data.texture_sources import PictureSource
from draem_jax.errors import UserError
from draem_jax.hosts.talking import gathered
from draem_jax.training.pictures import TrainingPictures

_LOG = logging.getLogger("draem_jax")


class LostPictures:
    """Counts pictures in whose places others stood; names each once, in one line.

    Attributes:
        samples: how many samples were made of others.
    """

    def __init__(self, pictures: TrainingPictures):
        self._sources: tuple[PictureSource, PictureSource] = pictures.normal, pictures.textures
        self._known: set[tuple[int, int]] = set()
        self.samples = 0

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._known)

    def note(self, batches: Iterable[PicturePairs]) -> None:
        """Takes what was read for some steps."""
        for batch in batches:
            if batch.lost is None:
                continue
            self.samples += int((batch.lost >= 0).any(-1).sum())
            for lost in batch.lost.reshape(-1, 2):
                for source, index in enumerate(lost.tolist()):
                    if index >= 0 and (source, index) not in self._known:
                        self._known.add((source, index))
                        why = _why(self._sources[source], index)
                        _LOG.warning(f"{why}; the run goes on with others in its place")

    def gather(self) -> None:
        """Takes in what the other hosts did without; all must call it, once, at the end."""
        known, samples = zip(*gathered([sorted(self._known), self.samples]), strict=True)
        self._known = {(source, index) for of_host in known for source, index in of_host}
        self.samples = sum(samples)

    def told(self) -> str:
        """What was lost in all, in one line."""
        pictures = "picture was" if len(self) == 1 else "pictures were"
        return (
            f"{len(self)} {pictures} lost while the run streamed; "
            f"{self.samples} samples were made of others"
        )


def _why(source: PictureSource, index: int) -> str:
    try:
        source[index]
    except UserError as error:
        return str(error)
    return f"picture {index} could not be read for a while"
