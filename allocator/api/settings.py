"""Settings of the API, from variables that begin with `ALLOCATOR_` or from the caller."""

import ipaddress
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from sqlalchemy import make_url

from allocator.ingest import MIN_AGE_S
from allocator.persistence import default_url
from allocator.settings import Settings


def default_data() -> Path:
    """The user's own folder for files, beside their own database."""
    return Path(make_url(default_url()).database or "").parent / "files"


class ApiSettings(Settings):
    """Where files, records and jobs are, and what a client may ask for."""

    data: Path = Field(default_factory=default_data, description="Folder of object store, library and rules.toml.")
    host: str = Field("127.0.0.1", description="Address to listen on; elsewhere than on loopback, keys are asked for.")
    require_key: bool = Field(False, description="Ask for an API key on loopback too.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    processes: int = Field(2, ge=0, le=256, description="Worker processes; 0: others work on the queue.")
    grace_s: float = Field(30.0, ge=0, description="For what still runs when the server stops.")
    max_body_bytes: int = Field(16 * 1024**3, ge=1, description="Most bytes of one request.")
    max_file_bytes: int = Field(8 * 1024**3, ge=1, description="Most bytes of one file.")
    max_field_bytes: int = Field(16 * 1024**2, ge=1, description="Most bytes of a field that is no file: payload.")
    max_files: int = Field(1000, ge=1, description="Most files and documents of one request.")
    max_name_chars: int = Field(255, ge=1, le=1000, description="Longest name of a file, or of a folder before it.")
    max_uploads: int = Field(16, ge=1, le=32, description="Most uploads at a time; each may take a thread.")
    head_s: float = Field(10.0, gt=0, description="How long a client may take to send the headers of a request.")
    stall_s: float = Field(30.0, gt=0, description="How long a client may send nothing in the middle of an upload.")
    min_bytes_per_s: float = Field(1000.0, gt=0, description="Least pace of an upload, after its first stall_s.")
    max_upload_s: float = Field(6 * 3600.0, gt=0, description="Longest time that an upload may take, all in all.")
    sweep_s: float = Field(3600.0, ge=0, description="How often what nothing refers to is deleted; 0: never.")
    sweep_age_s: float = Field(86400.0, ge=0, description="How old it must be; never less than an upload may take.")

    @property
    def spared_s(self) -> float:
        """How young an object must be for a sweep to spare it: the record of a slow upload may be on its way."""
        return max(self.sweep_age_s, self.max_upload_s + MIN_AGE_S)

    @property
    def asks_for_key(self) -> bool:
        """Whether a request must show an API key: always where other machines may connect."""
        return self.require_key or not is_loopback(self.host)


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    """Whether this name or address leads to this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
