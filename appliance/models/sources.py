"""Bytes from outside: the package registry, web servers, archives, folders.

A staged file is always a prefix of the wanted one, whichever source wrote it, so any source can
go on where another broke off; the sha256 at the end decides.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, PyPISimple
from pypi_simple.errors import NoSuchProjectError, UnsupportedContentTypeError
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from appliance.models.errors import SourceError
from appliance.models.manifest import PackagePart

Progress = Callable[[int], None]
"""Called with the number of bytes gained (negative: given up)."""

_CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 1 << 14  # what a broken connection costs at most; a broken-off piece is lost
_TIMEOUT_S = (10.0, 30.0)  # to connect, between two pieces
_STALLS = 3  # connections in a row that break without having brought a byte
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
_CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "PIP_CERT", "SSL_CERT_FILE")


def index_url() -> str:
    """The Python package registry that uv or pip is told to use, else the public one."""
    urls = (os.environ.get(name) for name in _INDEX_VARIABLES)
    return next((url for url in urls if url), PYPI_SIMPLE_ENDPOINT)


def new_session(retries: int = 3, backoff_s: float = 1.0) -> requests.Session:
    """A session that retries what is worth it and trusts the certificates pip is told to trust."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # ranges count bytes of the file itself
    bundles = (os.environ.get(name) for name in _CERTIFICATE_VARIABLES)
    session.verify = next((bundle for bundle in bundles if bundle), True)
    policy = Retry(
        total=retries, backoff_factor=backoff_s, status_forcelist=(408, 429, 500, 502, 503, 504)
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=policy))
    return session


@dataclass
class Network:
    """Downloads over HTTP that resume after every break, until nothing more comes."""

    session: requests.Session = field(default_factory=new_session)
    index: str = field(default_factory=index_url)

    def wheel_url(self, part: PackagePart) -> str:
        """Where the registry keeps the wheel of `part`; raises `SourceError`."""
        label = f"{part.project} {part.version}"
        try:
            client = PyPISimple(self.index, session=self.session)
            page = client.get_project_page(part.project, timeout=_TIMEOUT_S)
        except NoSuchProjectError as error:
            raise SourceError(f"the package registry has no {part.project}") from error
        except (requests.RequestException, UnsupportedContentTypeError) as error:
            raise SourceError(f"the package registry for {label}: {_describe(error)}") from error
        wheels = [
            package
            for package in page.packages
            if package.version == part.version and package.package_type == "wheel"
        ]
        for wheel in wheels:
            if wheel.digests.get("sha256", part.archive_sha256) == part.archive_sha256:
                return wheel.url
        found = "another file for" if wheels else "no wheel of"
        raise SourceError(f"the package registry has {found} {label}")

    def download(self, url: str, staged: Path, size_bytes: int, progress: Progress) -> None:
        """Append to `staged` until it has `size_bytes`.

        What arrived stays when it fails with `SourceError`, and the next call goes on from there.
        """
        stalls = 0
        while (have := size_of(staged)) < size_bytes:
            problem = "the server closed the connection early"
            try:
                self._receive(url, staged, have, size_bytes, progress)
            except requests.RequestException as error:
                problem = _describe(error)
            stalls = 0 if size_of(staged) > have else stalls + 1
            if stalls == _STALLS:
                raise SourceError(f"{_host(url)}: {problem}")

    def _receive(
        self, url: str, staged: Path, have: int, size_bytes: int, progress: Progress
    ) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self.session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
            if not response.ok:
                raise SourceError(f"{_host(url)}: {_status(response)}")
            resumed = response.status_code == requests.codes.partial_content
            offered_bytes = _offered_bytes(response)
            if offered_bytes not in (None, size_bytes):
                raise SourceError(
                    f"{_host(url)}: {offered_bytes} bytes are offered instead of {size_bytes}"
                )
            if have and not resumed:
                progress(-have)  # a server that cannot resume sends it all again
            with staged.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_content(_PIECE_BYTES):
                    file.write(chunk)
                    progress(len(chunk))


def _offered_bytes(response: requests.Response) -> int | None:
    """Size of the whole file as the server tells it."""
    content_range = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
    length = content_range[1] if content_range else response.headers.get("Content-Length")
    return int(length) if length else None


def _describe(error: Exception) -> str:
    """A few words; the library's texts carry addresses and object names."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _status(error.response)
    for kind, words in _DESCRIPTIONS.items():
        if isinstance(error, kind):
            return words
    return f"no usable answer ({type(error).__name__})"


_DESCRIPTIONS: dict[type[Exception], str] = {  # the first that fits
    requests.Timeout: "no answer in time",
    requests.exceptions.SSLError: "its certificate is not trusted",
    requests.exceptions.ChunkedEncodingError: "the connection broke",
    requests.exceptions.RetryError: "the server keeps failing",
    requests.ConnectionError: "no connection",
}


def _status(response: requests.Response) -> str:
    return f"HTTP {response.status_code} {response.reason}"


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def extract_member(archive: Path, member: str, size_bytes: int, output: BinaryIO) -> None:
    """Append one member of a zip file to `output`; nothing is installed or imported.

    Raises `SourceError` when the archive is damaged or holds something else.
    """
    try:
        with zipfile.ZipFile(archive) as bundle, bundle.open(member) as content:
            written_bytes = 0
            while chunk := content.read(_CHUNK_BYTES):
                output.write(chunk)
                written_bytes += len(chunk)
    except KeyError as error:
        raise SourceError(f"{archive.name} does not hold {member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceError(f"{archive.name} is damaged: {error}") from error
    if written_bytes != size_bytes:
        raise SourceError(f"{member} has {written_bytes} bytes instead of {size_bytes}")


def copy_file(source: Path, staged: Path, progress: Progress) -> None:
    """Copy from a folder or USB stick; raises `SourceError` when the source cannot be read."""
    try:
        file = source.open("rb")
    except OSError as error:
        raise SourceError(f"{source}: {error.strerror}") from error
    with file, staged.open("wb") as output:
        while chunk := file.read(_CHUNK_BYTES):
            output.write(chunk)
            progress(len(chunk))


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of `names` (relative paths) that is a file in `folder`."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def find_wheel(folder: Path, part: PackagePart) -> Path | None:
    """A wheel of `part` in `folder`, as `pip download` leaves it."""
    distribution = re.sub(r"[-_.]+", "_", part.project)
    return next(iter(sorted(folder.glob(f"{distribution}-{part.version}-*.whl"))), None)


def size_of(path: Path) -> int:
    """0 for a file that does not exist."""
    return path.stat().st_size if path.exists() else 0
