"""An archive in a bucket of Amazon S3 or of a server that speaks its API."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, cast
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from spile.services.archiver.stores._values import (
    ArchiveRefusedError,
    ArchiveUnavailableError,
    ObjectMissingError,
    StoredObject,
)

if TYPE_CHECKING:  # the stubs are for the type checker alone
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import PutObjectRequestTypeDef

_TAKEN: Final = {"PreconditionFailed", "412"}
_MISSING: Final = {"NoSuchKey", "NotFound", "404"}
_TRY_AGAIN: Final = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
"""Codes that pass; among them damage on the way, which the server found by the checksum."""
_TRY_AGAIN_STATUSES: Final = {408, 409, 429}
_SERVER_ERROR: Final = 500
_NOT_IMPLEMENTED: Final = 501
_AMAZON: Final = (".amazonaws.com", ".amazonaws.com.cn")
_READ_BYTES: Final = 1 << 16


class S3Store:
    """
    Keeps objects in a bucket, by conditional puts with a checksum; satisfies `ArchiveStore`.

    It never asks another host than the endpoint's, whatever the answers say. boto3 does not retry
    here: the caller does, since it knows what else can go on meanwhile.

    Args:
        bucket: Must be there.
        prefix: What all keys begin with; no slash at its end.
        endpoint: URL of the server; Amazon's own without it.
        region: Of the bucket.
        addressing: Where the bucket's name stands in URLs.
        ca: File of certificate authorities.
        encryption: What to ask the server for.
        timeout_s: Longest silence.
        connections: Most connections at once.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str | None = None,
        region: str | None = None,
        addressing: Literal["auto", "path", "virtual"] = "auto",
        ca: str | None = None,
        encryption: Literal["none", "AES256", "aws:kms"] = "none",
        timeout_s: float = 30.0,
        connections: int = 8,
    ) -> None:
        self._bucket = bucket
        self._lead = f"{prefix}/" if prefix else ""
        self._encryption: Literal["none", "AES256", "aws:kms"] = encryption
        session = Session()
        config = Config(
            signature_version="s3v4",
            connect_timeout=min(timeout_s, 10.0),
            read_timeout=timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=connections,
            request_checksum_calculation="when_required",
            s3={"addressing_style": addressing},
        )
        with self._translated("open"):
            self._client: S3Client = cast("Any", session).client(
                "s3",
                region_name=region or session.region_name or "us-east-1",
                endpoint_url=endpoint,
                verify=ca,
                config=config,
            )
        self._host = urlsplit(endpoint or "").netloc
        events = self._client.meta.events
        events.register_last("before-parameter-build.s3", _stay)
        events.register_first("before-send.s3", self._check_host)

    @property
    def place(self) -> str:
        """The bucket and the prefix."""
        return f"s3://{self._bucket}/{self._lead}".rstrip("/")

    def put(self, key: str, data: bytes) -> bool:
        """
        Store bytes under a key that is free; see `ArchiveStore.put`.

        Asked for first: a server that knows no conditional puts would write over what is there.
        """
        if self.stat(key) is not None:
            return False
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._lead + key,
            "Body": data,
            "IfNoneMatch": "*",
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
            "ContentType": "application/json" if key.endswith(".json") else "application/avro",
        }
        if self._encryption != "none":
            request["ServerSideEncryption"] = self._encryption
        with self._translated(key):
            try:
                self._client.put_object(**request)
            except ClientError as exc:
                if _code(exc) in _TAKEN:
                    return False
                raise
        return True

    def stat(self, key: str) -> StoredObject | None:
        """Return size and checksum, as the server has them."""
        with self._translated(key):
            try:
                found = self._client.head_object(
                    Bucket=self._bucket, Key=self._lead + key, ChecksumMode="ENABLED"
                )
            except ClientError as exc:
                if _code(exc) in _MISSING:
                    return None
                raise
        checksum = found.get("ChecksumSHA256", "")
        return StoredObject(
            key=key,
            size_bytes=found["ContentLength"],
            # With a dash it is a checksum of the checksums of parts.
            sha256=base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None,
        )

    @contextlib.contextmanager
    def open(self, key: str) -> Generator[BinaryIO]:
        """Open an object; see `ArchiveStore.open`."""
        with self._translated(key):
            try:
                body = self._client.get_object(Bucket=self._bucket, Key=self._lead + key)["Body"]
            except ClientError as exc:
                if _code(exc) in _MISSING:
                    raise ObjectMissingError(f"{self.place} has no {key!r}", key=key) from exc
                raise
            with contextlib.closing(body):
                yield cast("BinaryIO", io.BufferedReader(_Body(body), _READ_BYTES))

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[StoredObject]:
        """Return the objects of the bucket below the prefix, page by page."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._lead + prefix,
            StartAfter=self._lead + after if after else "",
        )
        with self._translated(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found.get("Key", "").removeprefix(self._lead)
                    yield StoredObject(key=key, size_bytes=found.get("Size", 0))

    def _check_host(self, request: Any, **_: object) -> None:
        """Refuse a request that an answer has led to another host."""
        host = urlsplit(str(request.url)).netloc
        if self._host:
            allowed = host in {self._host, f"{self._bucket}.{self._host}"}
        else:
            allowed = host.endswith(_AMAZON)
        if not allowed:
            raise ArchiveRefusedError(f"{self.place}: an answer leads to another host, {host}")

    @contextlib.contextmanager
    def _translated(self, key: str) -> Generator[None]:
        """
        Raise errors of ours for those of boto3.

        Raises:
            ArchiveUnavailableError: It may work later.
            ArchiveRefusedError: It will not.
        """
        where = f"{self.place}: {key}"
        try:
            yield
        except ClientError as exc:
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            what = f"{where}: the server answers {status} {_code(exc)}"
            passes = _code(exc) in _TRY_AGAIN or status in _TRY_AGAIN_STATUSES
            if passes or (status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED):
                raise ArchiveUnavailableError(what) from exc
            raise ArchiveRefusedError(what) from exc
        except SSLError as exc:
            if "CERTIFICATE_VERIFY_FAILED" in str(exc):
                raise ArchiveRefusedError(f"{where}: the certificate is not trusted") from exc
            raise ArchiveUnavailableError(f"{where}: {type(exc).__name__}") from exc
        except (HTTPClientError, IncompleteReadError, NoConnectionError) as exc:
            raise ArchiveUnavailableError(f"{where}: {type(exc).__name__}") from exc
        except BotoCoreError as exc:
            raise ArchiveRefusedError(f"{where}: {exc}") from exc


class _Body(io.RawIOBase):
    """The body of an answer as a file."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _stay(context: dict[str, Any], **_: object) -> None:
    """
    Tell boto3 that it has followed a redirect already.

    Otherwise it asks another host, or the same one without end when that redirects all requests.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
