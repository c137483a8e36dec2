"""`lineup export ROW --into`: the gallery in a vector database, and what that database finds of it."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lineup import errors, locks, paths
from lineup.errors import UserError, suggest
from lineup.evaluation.metrics import MAIN_METRIC, top_k_name
from lineup.export import database, database_table, random_weights, side_by_side, synchronisation
from lineup.export.database import Collection, Kind, Provenance, Settings
from lineup.export.database_table import Answering
from lineup.fingerprint import fingerprint
from lineup.refinements import refinement as refinements
from lineup.relevance import prepared_relevance
from lineup.relevance.relevance import Relevance
from lineup.search import gallery
from lineup.search.gallery import Gallery
from lineup.search.vectors import Metric, prepare_vectors
from lineup.settings.params import Params
from lineup.storage import embeddings, files, parquet

log = logging.getLogger(__name__)

# What all databases accept.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True)
class Options:
    """What `lineup export --into` was asked for beside the row and the database.

    check_only: queries a collection that is already filled, and writes nothing.
    force: replaces an existing collection.
    collection: its name; None for the row's.
    index, search: settings, as NAME=VALUE.
    """

    check_only: bool = False
    force: bool = False
    collection: str | None = None
    index: Sequence[str] = ()
    search: Sequence[str] = ()


@dataclass(frozen=True)
class LoadedRow:
    """The row's vectors, and the photos that they are of."""

    provenance: Provenance
    gallery: Gallery
    folder: Path
    manifest: pa.Table
    relevance: Relevance


def run(row: str, target: str, params: Params, options: Options) -> None:
    """Loads the row's gallery into a database, and prints its answers beside those of exact search.

    Args:
        target: the database's name and an address, such as "lancedb:FOLDER".
    Raises:
        UserError: there is no such database, it cannot be reached, or the collection holds something else.
    """
    name, _, address = target.partition(":")
    if not address:
        raise UserError(
            "--into: needs a database and its address, such as lancedb:FOLDER; "
            f"known: {', '.join(database.names())}"
        )
    kind = database.kind(name)
    index = _settings("--index", options.index, kind.INDEX_SETTINGS)
    search = _settings("--search", options.search, kind.SEARCH_SETTINGS)
    if options.check_only and (options.force or index):
        raise UserError("--check-only: writes nothing; use it without --force and --index")
    collection_name = _collection_name(row, options.collection)
    is_path = "://" not in address and any(word in kind.ADDRESS for word in ("FOLDER", "FILE"))
    if options.check_only and is_path and not Path(address).exists():
        raise UserError("--check-only: there is nothing at this address; run it without --check-only")
    loaded = read_row(row, params)
    locks.hold(f"export.{name}.{collection_name}")
    with _explained(name, kind, kind.secrets(address)), closing(kind.connect(address, collection_name)) as to:
        if options.check_only:
            _check_filled(to, name, collection_name, loaded)
        else:
            _fill(to, name, collection_name, loaded, index, options.force)
        answering = Answering(name, to.version, collection_name, to.index(), search, to.size_bytes())
        _compare(to, kind, answering, loaded, params)


def read_row(row: str, params: Params) -> LoadedRow:
    """The row's vectors, checked against the prepared photos.

    Raises:
        UserError: the row's answers do not come from vectors of its own, mean nothing, or are not up to date.
    """
    metric = _metric(row, params)
    _refuse_random(row, params)
    folder = paths.embeddings(row)
    manifest = parquet.read_table(paths.manifest("test"), columns=[*prepared_relevance.COLUMNS, "paths"])
    images = prepared_relevance.read_relevance(
        manifest, parquet.read_table(paths.QRELS), params.relevance.exclude
    )
    gallery.check_same_images(folder, {"query": images.query_ids, "gallery": images.gallery_ids})
    vectors = gallery.open_gallery(folder, metric)
    provenance = Provenance(row, _fingerprint(row, folder, params), metric, vectors.dim)
    return LoadedRow(provenance, vectors, folder, manifest, images)


def _metric(row: str, params: Params) -> Metric:
    """How the row's vectors are compared. UserError if a database cannot answer as the row does."""
    settings = params.refinements.get(row)
    if settings is not None and not settings.makes_vectors:
        source = settings.second
        while source in params.refinements and not params.refinements[source].makes_vectors:
            source = params.refinements[source].second
        raise UserError(
            f"--into: {row} is a {settings.method.replace('_', ' ')}, which a database cannot compute: it "
            f"makes no vectors to load; use {source}, whose vectors it is made of"
        )
    return refinements.metric_of(row, params)


def _refuse_random(row: str, params: Params) -> None:
    """UserError if the vectors are those of a network that was never trained."""
    model = params.model_of(row)
    if files.read_json(paths.costs("embed", model)).get("random"):
        raise random_weights.refusal(row, model)


def _fingerprint(row: str, folder: Path, params: Params) -> str:
    """Of the row's vectors; those of a refinement follow from its settings and what it learned, too."""
    made = {
        "vectors": embeddings.origin(folder).fingerprint or "",
        "shorter_side_px": params.preprocess.shorter_side_px,
    }
    if row not in params.refinements:
        return fingerprint(made)
    learned = [
        path
        for path in sorted(paths.refinement(row).iterdir())
        if path.name not in (refinements.INDEX_FILE, files.NOTHING_FILE)
    ]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in learned]
    settings = params.refinements[row].model_dump(mode="json", by_alias=True)
    return fingerprint({**made, "learned": digests, "settings": settings})


def _collection_name(row: str, name: str | None) -> str:
    chosen = row if name is None else name
    if not _NAME.fullmatch(chosen):
        raise UserError(
            f"--collection: {errors.printable(chosen)!r} is not a name that every database accepts; use at "
            "most 63 of the characters a-z, A-Z, 0-9 and _, and begin with a letter"
        )
    return chosen


def _settings(option: str, words: Sequence[str], known: Sequence[str]) -> Settings:
    """Settings of a database from NAME=VALUE. UserError if one is unknown, or no whole number."""
    settings = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise UserError(f"{option}: {name!r} is unknown{suggest(name, known)}")
        if not value.isdecimal():
            raise UserError(f"{option}: {name} is {value!r}; write {name}=NUMBER, with a whole number")
        settings[name] = int(value)
    return settings


@contextmanager
def _explained(name: str, kind: Kind, secrets: Sequence[str]) -> Iterator[None]:
    """Turns the database's errors into a UserError, and leaves out of any sentence what is secret."""
    try:
        try:
            yield
        except kind.FAULTS as error:
            with errors.explained(
                f"--into {name}: the database failed", "what it has stored stays; mend it, and run again"
            ):
                raise error
    except UserError as error:
        sentence = str(error)
        for secret in secrets:
            sentence = sentence.replace(secret, "***")
        raise UserError(sentence) from None


def _check_filled(to: Collection, kind: str, name: str, loaded: LoadedRow) -> None:
    """UserError unless the collection holds the row's gallery."""
    if not to.exists():
        raise UserError(f"--check-only: {kind} has no collection {name!r}; run it without --check-only")
    _check_provenance(to, kind, name, loaded.provenance)
    differs = synchronisation.difference(to, synchronisation.gallery_photos(loaded.manifest))
    if differs.missing or differs.surplus:
        raise UserError(
            f"--check-only: collection {name!r} lacks {len(differs.missing):,} photos of the gallery, or has "
            f"other labels or paths for them, and holds {differs.left:,} others; run it without --check-only"
        )


def _fill(to: Collection, kind: str, name: str, loaded: LoadedRow, index: Settings, force: bool) -> None:
    """Brings the collection and its index up to date with the gallery."""
    if to.exists():
        if force:
            to.check(loaded.provenance)
            to.drop()
        else:
            _check_provenance(to, kind, name, loaded.provenance)
    if not to.exists():
        to.create(loaded.provenance)
    photos = synchronisation.gallery_photos(loaded.manifest)
    differs = synchronisation.difference(to, photos)
    synchronisation.synchronise(to, loaded.gallery, photos, differs)
    log.info(
        "%s photos loaded, %s there already, %s removed that left the gallery",
        *(f"{count:,}" for count in (len(differs.missing), differs.present, differs.left)),
    )
    to.build_index(index, changed=bool(differs.missing or differs.surplus))


def _check_provenance(to: Collection, kind: str, name: str, wanted: Provenance) -> None:
    """UserError if the collection holds anything but this row's present vectors."""
    stored = to.provenance()
    if stored == wanted:
        return
    if stored is None:
        holds = "was not created by Lineup"
    elif stored.row != wanted.row:
        holds = f"holds vectors of row {errors.printable(stored.row)}, not of {wanted.row}"
    elif (stored.metric, stored.dim) != (wanted.metric, wanted.dim):
        holds = f"holds vectors of {stored.dim:,} dimensions compared by {stored.metric}"
    else:
        holds = f"holds vectors that {wanted.row} had before it was trained or computed anew"
    raise UserError(
        f"--into {kind}: collection {name!r} {holds}; use --collection for another name, or --force to "
        "replace it"
    )


def _compare(to: Collection, kind: Kind, answering: Answering, loaded: LoadedRow, params: Params) -> None:
    """Asks the database and exact search, and prints what both answer."""
    embedded = embeddings.read_embeddings(loaded.folder, "query")
    queries = prepare_vectors(loaded.provenance.metric, embedded.ids, embedded.vectors, str(loaded.folder))
    given = side_by_side.questions(queries, loaded.gallery.flat_index(), loaded.relevance, params)
    by_exact = side_by_side.exact_figures(given, params)
    by_it = side_by_side.figures(to, given, answering.settings, params)
    poor = by_it.recall < side_by_side.RECALL_TARGET
    trials = side_by_side.remedies(to, given) if poor else []
    photos = loaded.gallery.size
    query_paths = loaded.manifest.filter(pc.field("split") == "query").column("paths")
    worst = int(given.asked[by_it.recalls.argmin()])
    notes = database_table.notes(
        answering,
        by_it,
        trials,
        worst_query=query_paths[worst].as_py()[0],
        asked=len(given.asked),
        queries=len(queries),
        depth=min(given.depth, by_exact.fewest),
        search_code=kind.search_code,
        denser_index=kind.DENSER_INDEX,
    )
    print(database_table.heading(loaded.provenance, answering, photos), end="\n\n")
    metrics = (MAIN_METRIC, *map(top_k_name, sorted({*params.score.cutoffs})))
    print(database_table.table(loaded.provenance, answering, photos, by_exact, by_it, metrics))
    for note in notes:
        print(f"\n{note}")
