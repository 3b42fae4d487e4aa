"""A published file: its name, where to download it and how to check it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFile:
    """One file for download.

    Args:
        name: file name, under which it is kept.
        mirrors: http(s) URLs of the file, tried in order.
        digest_algorithm: ``"md5"``, ``"sha1"`` or ``"sha256"``; None without a digest.
        digest: lower-case hexadecimal, at least the first eight digits; None where none is
            published. The file is then held to the digest that it had at its first use.
        size: in bytes, exact; None where unknown.
    """

    name: str
    mirrors: tuple[str, ...] = ()
    digest_algorithm: str | None = None
    digest: str | None = None
    size: int | None = None

    def describe_digest(self) -> str:
        """``"sha1 9116..."``, or that there is none; for messages."""
        return f"{self.digest_algorithm} {self.digest}" if self.digest else "no published digest"
