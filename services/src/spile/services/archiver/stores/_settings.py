"""Settings of the archive."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from spile.adapters.kafka import register_settings
from spile.services.archiver.objects import CuttingRule


class ArchiveSettings(BaseSettings):
    """
    What the archiver, and commands on an archive, read from `SPILE_` and the name in capitals.

    Credentials are none of them: boto3 finds them where it always does (environment, files, roles).

    Attributes:
        archive: A folder, or `s3://<bucket>[/<prefix>]`.
        archive_endpoint: URL of an S3-compatible server; Amazon's own by default.
        archive_region: Region of the bucket; by default what boto3 finds, else us-east-1.
        archive_addressing: Whether the bucket stands in the `path` or in the host name (`virtual`);
            `auto` leaves it to boto3.
        archive_ca: File of certificate authorities that vouch for the endpoint.
        archive_encryption: What to ask the server to encrypt with; `none` leaves it to the bucket.
        archive_timeout_s: Longest silence of the server, 30 s by default.
        archive_records: Records of an object, 50,000 by default.
        archive_bytes: Uncompressed bytes of an object's records, 32 MiB by default; at most
            512 MiB, since readers take objects up to 1 GiB.
        archive_window_s: Seconds of record time that an object spans, 600 by default.
        archive_buffer_bytes: Bytes in memory above which partitions are paused, 128 MiB by default.
        archive_uploads: Uploads at once, 4 by default.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPILE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    archive: str = Field(default=".spile/archive", min_length=1)
    archive_endpoint: str | None = None
    archive_region: str | None = None
    archive_addressing: Literal["auto", "path", "virtual"] = "auto"
    archive_ca: str | None = None
    archive_encryption: Literal["none", "AES256", "aws:kms"] = "none"
    archive_timeout_s: float = Field(default=30.0, gt=0)
    archive_records: int = Field(default=50_000, ge=1)
    archive_bytes: int = Field(default=32 << 20, ge=1, le=512 << 20)
    archive_window_s: float = Field(default=600.0, ge=0.001)
    archive_buffer_bytes: int = Field(default=128 << 20, ge=1)
    archive_uploads: int = Field(default=4, ge=1, le=64)

    @property
    def rule(self) -> CuttingRule:
        """Where objects are cut."""
        return CuttingRule(
            records=self.archive_records,
            size_bytes=self.archive_bytes,
            window=timedelta(seconds=self.archive_window_s),
        )


register_settings(ArchiveSettings)
