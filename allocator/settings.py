"""Settings from the environment, read once at the edge: the command line, a notebook, an application's start."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Variables that begin with `ALLOCATOR_`, for instance `ALLOCATOR_QUEUE_URL`."""

    model_config = SettingsConfigDict(env_prefix="ALLOCATOR_", extra="ignore")

    queue_url: str = Field("redis://localhost:6379/0", description="Where the queue is; see `open_queue`.")
    queue_name: str = Field("default", description="Which queue there.")
    store_url: str | None = Field(None, description="Where the job store is; see `open_store`. None: no store.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console for a terminal, JSON lines otherwise."
    )
