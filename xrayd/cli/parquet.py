"""Segments as rows of a Parquet file; pyarrow is loaded only for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from xrayd.dev.documents import load_document
from xrayd.errors import ConfigError

MAGIC = b"PAR1"
_ROWS = 5000  # to a row group: some MiB


def _load_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - 100 MB that only Parquet needs
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed; get it with"
            " pip install 'xrayd[parquet]', or export JSON lines (--format jsonl)"
        ) from error
    return pa, parquet


class ParquetWriter:
    """Writes one row a segment: what it is searched by in columns, and its whole document.

    Raises:
        ConfigError: pyarrow is not installed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._pyarrow, parquet = _load_pyarrow()
        pa = self._pyarrow
        moment = pa.timestamp("us", tz="UTC")
        self._schema = pa.schema(
            [
                ("trace_id", pa.string()),
                ("id", pa.string()),
                ("parent_id", pa.string()),
                ("name", pa.string()),
                ("origin", pa.string()),
                ("start_time", moment),
                ("end_time", moment),
                ("duration_s", pa.float64()),
                ("in_progress", pa.bool_()),
                ("inferred", pa.bool_()),
                ("fault", pa.bool_()),
                ("error", pa.bool_()),
                ("throttle", pa.bool_()),
                ("http_method", pa.string()),
                ("http_url", pa.string()),
                ("http_status", pa.int64()),
                ("user", pa.string()),
                ("document", pa.string()),
            ]
        )
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, trace: dict[str, Any]) -> None:
        """Take a trace of BatchGetTraces."""
        self._rows += [_row(segment["Document"]) for segment in trace["Segments"]]
        if len(self._rows) >= _ROWS:
            self._flush()

    def close(self) -> None:
        """Write the rest."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []


def _row(text: str) -> dict[str, Any]:
    document = load_document(text)
    request = document.http.request if document.http else None
    response = document.http.response if document.http else None
    end = document.end_time
    return {
        "trace_id": document.trace_id,
        "id": document.id,
        "parent_id": document.parent_id or None,
        "name": document.name,
        "origin": document.origin,
        "start_time": round(document.start_time * 1e6),
        "end_time": None if end is None else round(end * 1e6),
        "duration_s": None if end is None else max(0.0, end - document.start_time),
        "in_progress": document.is_in_progress,
        "inferred": document.inferred is True,
        "fault": document.fault is True,
        "error": document.error is True,
        "throttle": document.throttle is True,
        "http_method": request.method if request else None,
        "http_url": request.url if request else None,
        "http_status": response.status if response else None,
        "user": document.user,
        "document": text,
    }


def read_parquet(path: Path) -> Iterator[str]:
    """The documents in a file of `ParquetWriter`.

    Raises:
        ConfigError: pyarrow is not installed, or it is no such file.
    """
    pa, parquet = _load_pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=["document"]):
                for value in batch.column(0):
                    yield str(value.as_py())
    except (pa.ArrowException, OSError, IndexError) as error:
        raise ConfigError(f"{path}: no Parquet file with a column `document`: {error}") from error
