"""Which version of its tables a database has: an older one is brought forward step by step, a newer one is left alone."""

from collections.abc import Callable, Mapping

from mistudio_explain.errors import Unreachable
from mistudio_explain.store.database import Database, Table

FORMAT = Table("format", key=("name",), texts=("name",), numbers=("version",))
"""One row, which says of the database's tables as a whole what version they have."""

Steps = Mapping[int, Callable[[Database], None]]
"""What makes tables of a version into those of the next one, by the former; runs in a transaction of the caller's."""


class NewerStore(Unreachable):
    """A newer version of this program made the tables; this one neither reads nor changes them."""


def marked_version(database: Database) -> int | None:
    """The version that a database says it has; None where it says none."""
    if not database.columns_of(FORMAT.name):
        return None
    row = database.one("select version from format")
    return None if row is None else int(row[0])


def bring_forward(database: Database, found: int | None, latest: int, steps: Steps, *, where: object) -> None:
    """Make tables of a version that was found (None: there are none) into those of the latest one, within a transaction of the caller's.

    Raises NewerStore, with nothing changed.
    """
    must_not_be_newer(found, latest, where=where)
    for version in range(latest if found is None else found, latest):
        steps[version](database)
    if marked_version(database) != latest:
        database.make(FORMAT)
        database.put(FORMAT, [("tables", latest)])


def must_not_be_newer(found: int | None, latest: int, *, where: object) -> None:
    """Raises NewerStore when tables are of a version that this program does not know."""
    if found is not None and found > latest:
        raise NewerStore(
            f"{where}: a newer version of mistudio-explain made its tables (they are of version {found}, and this one knows up to {latest}); nothing in them "
            "was changed. Run that version or a newer one, or name another place with store.url (docs/upgrades.md)"
        )
