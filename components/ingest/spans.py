"""Spans: spilled rows that outlive a run, so that the next one reads only what is new.

State of a span, in <state>/spans/<settings>/<span>/: its spills, the lists of its refused rows
and span.pickle. Settings is a digest of all that decides how a row is read, so that changed
settings read everything anew. A span whose files changed (size or time of modification) is read
anew as well. What is no longer in use is removed: a client that was deleted from the source does
not live on here.
"""

import dataclasses
import pickle
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.reading import Spilled
from privet.components.ingest.rejects import Rejects
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.spill import Spill
from privet.components.shared import files
from privet.components.shared.schema import Schema

_DONE = "span.pickle"

Stamps = dict[str, tuple[int, int]]
"""Name of a file -> its size and time of modification."""


@dataclasses.dataclass(frozen=True)
class SpanStore:
    """Where the state of spans is.

    Attributes:
      folder: of the settings' spans.
    """

    folder: str

    @classmethod
    def of(cls, state: str, config: IngestConfig, schema: Schema, salt: bytes) -> "SpanStore":
        """The store of a configuration; removes what other settings left.

        Args:
          state: folder of what outlives runs.
          config, schema: settings.
          salt: the secret of ids and choices.
        """
        sources = files.source_digest(
            Path(__file__).parent, Path(__file__).parent.parent / "shared"
        )
        settings = files.digest(
            config.to_json().encode(), schema.to_json().encode(), salt, sources.encode()
        )
        root, name = files.join(state, "spans"), settings[:16]
        for other in files.folders(root):
            if other != name:
                files.remove_folder(files.join(root, other))
        return cls(files.join(root, name))

    def keep(self, spans: Iterable[int]) -> None:
        """Removes the state of all other spans."""
        names = {self._name(span) for span in spans}
        for other in set(files.folders(self.folder)) - names:
            files.remove_folder(files.join(self.folder, other))

    def span_folder(self, span: int) -> str:
        """The folder of a span."""
        return files.join(self.folder, self._name(span))

    def load(self, span: int, stamps: Stamps) -> tuple[list[Spill], Rejects] | None:
        """What an earlier run left of a span; removes it if the span's files changed.

        Args:
          span: its number.
          stamps: of its files as they are now.
        """
        folder = self.span_folder(span)
        path = files.join(folder, _DONE)
        if files.exists(path):
            then, spilled = pickle.loads(files.read_bytes(path))
            # The work directory may have moved.
            spills = [
                dataclasses.replace(spill, path=files.join(folder, posixpath.basename(spill.path)))
                for one in spilled
                for spill in one.spills
            ]
            if then == stamps and all(files.exists(spill.path) for spill in spills):
                rejects = Rejects()
                for one in spilled:
                    rejects.merge(one.rejects)
                return spills, rejects
        files.remove_folder(folder)
        return None

    def save(self, span: int, stamps: Stamps, spilled: Sequence[Spilled]) -> None:
        """Records that a span was read whole; stamps were taken before."""
        content = pickle.dumps((stamps, list(spilled)))
        files.write_bytes(files.join(self.span_folder(span), _DONE), content)

    @staticmethod
    def _name(span: int) -> str:
        return f"{span:010d}"


def stamps_of(portions: Sequence[Portion]) -> Stamps:
    """Size and time of modification of the portions' files."""
    return {portion.name: files.stamp(portion.source) for portion in portions}
