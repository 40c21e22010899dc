"""What is to be screened: a folder tree, a manifest of paths or URIs, or an object store.

Every source is read piece by piece: the list of ten million films is never in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from hipedge.csv_input import Columns, read_rows
from hipedge.errors import Code, InputError, Refused
from hipedge.pipeline.discover import LeftAside, begins_like_dicom, explore, has_sidecar_name
from hipedge.store.rows import path_from_text, path_to_text
from hipedge.types import Refusal

MANIFEST_SUFFIXES = (".csv", ".parquet")
PATH_COLUMNS = ("path", "uri")
_URI = re.compile(r"([a-z][a-z0-9+.-]+)://.+", re.DOTALL)
_CHUNK_BYTES = 1 << 20

Found = Path | Refusal | LeftAside


def list_source(source: str) -> Iterator[Found]:
    """Yield the films of a source in a stable order, and what is refused or left aside.

    A source is a folder or a film, the URI of a folder of objects, or a manifest: a CSV or Parquet
    file with a column `path` or `uri`. Relative paths in a manifest start at its folder. Raises
    `InputError` for a source that cannot be read.
    """
    if is_uri(source):
        return _list_objects(source)
    path = Path(source)
    if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        return _read_manifest(path)
    return explore(path)


def is_uri(text: str) -> bool:
    """Return whether a text names an object: `s3://bucket/key`."""
    return _URI.fullmatch(text) is not None


def is_object(path: Path) -> bool:
    """Return whether a path is that of an object in no file system of this machine."""
    return not path.is_absolute() and is_uri(path_to_text(path))


def download(path: Path, target: Path, max_bytes: int) -> None:
    """Copy an object to a file. Raises `Refused` where it cannot be read or is too large."""
    filesystem, key = _open(path_to_text(path))
    try:
        with filesystem.open_input_stream(key) as stream, target.open("wb") as file:
            size = 0
            while chunk := stream.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > max_bytes:
                    raise Refused(Code.TOO_LARGE, f"more than {max_bytes} bytes")
                file.write(chunk)
    except (OSError, pa.ArrowException) as error:
        raise Refused(Code.UNREADABLE, type(error).__name__) from error


def _read_manifest(path: Path) -> Iterator[Path | Refusal]:
    read = _parquet_cells if path.suffix.lower() == ".parquet" else _csv_cells
    for text in read(path):
        yield _entry(text, path.parent)


def _csv_cells(path: Path) -> Iterator[str]:
    for line, cells in read_rows(path, Columns(required=(), any_of=PATH_COLUMNS)):
        filled = [cells[name] for name in PATH_COLUMNS if cells.get(name)]
        if len(filled) != 1:
            raise InputError(f"{path}, line {line}: must name one film by path or uri")
        yield filled[0]


def _parquet_cells(path: Path) -> Iterator[str]:
    try:
        file = pq.ParquetFile(path)
        columns = [name for name in PATH_COLUMNS if name in file.schema_arrow.names]
        if len(columns) != 1:
            raise InputError(f"{path} must have one column path or uri")
        for batch in file.iter_batches(columns=columns):
            for text in batch.column(0).to_pylist():
                if not isinstance(text, str) or not text:
                    raise InputError(f"{path}: {columns[0]} must be a text in every row")
                yield text
    except pa.ArrowException as error:
        raise InputError(f"{path} is no Parquet file that can be read: {error}") from error


def _entry(text: str, folder: Path) -> Path | Refusal:
    """Return the path of a manifest's entry; an object's key must be usable as one."""
    if not is_uri(text):
        return Path(folder, text).absolute()
    path = path_from_text(text)
    if path_to_text(path) != text and not path.is_absolute():
        return Refusal(path, Code.UNREADABLE, "a key with empty parts or dots")
    return path


def _list_objects(uri: str) -> Iterator[Found]:
    """Yield the objects below a URI, folder after folder, each in name order."""
    filesystem, top = _open(uri)
    scheme = _URI.fullmatch(uri)
    assert scheme is not None
    try:
        if filesystem.get_file_info(top).type == fs.FileType.NotFound:
            raise InputError(f"no such object or folder: {uri}")
        yield from _walk_objects(filesystem, top, scheme[1])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{uri} cannot be listed: {error}") from error


def _walk_objects(filesystem: Any, top: str, scheme: str) -> Iterator[Found]:
    folders = [top]
    while folders:
        folder = folders.pop()
        entries = sorted(
            filesystem.get_file_info(fs.FileSelector(folder)), key=lambda entry: entry.path
        )
        inner = list[str]()
        for entry in entries:
            name = PurePosixPath(entry.path)
            key = entry.path if scheme == "file" else entry.path.lstrip("/")
            found = _entry(f"{scheme}://{key}", Path("/"))
            if entry.type == fs.FileType.Directory:
                if name.name.startswith("."):
                    yield LeftAside(Path(entry.path), is_folder=True)
                else:
                    inner.append(entry.path)
            elif has_sidecar_name(name) and not _is_dicom(filesystem, entry.path):
                yield LeftAside(Path(entry.path), is_folder=False)
            else:
                yield found
        folders += reversed(inner)


def _is_dicom(filesystem: Any, key: str) -> bool:
    with filesystem.open_input_stream(key) as stream:
        return begins_like_dicom(stream.read(132))


def _open(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI and the path in it: pyarrow's own, or else fsspec's.

    Credentials come from the environment, as the store's own tools take them, and so does the
    endpoint of an S3 store that is not Amazon's.
    """
    scheme, _, key = uri.partition("://")
    return _filesystem(scheme, key.partition("/")[0]), key


@lru_cache
def _filesystem(scheme: str, host: str) -> Any:
    # pyarrow takes credentials and region from there, but not the endpoint (apache/arrow#49643).
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme == "s3" and endpoint:
        return fs.S3FileSystem(endpoint_override=endpoint)
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{host}")[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass  # not one of pyarrow's own
    import fsspec

    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ImportError, ValueError) as error:
        raise InputError(f"{scheme}:// cannot be read here: {error}") from error
