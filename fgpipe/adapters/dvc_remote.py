"""Where DVC keeps versions for a team: a folder, an SSH server, an S3 bucket.

The URL is in ``.dvc/config``, which git shares; credentials are not: they come from the
environment (``AWS_ACCESS_KEY_ID``, an SSH agent) or from what the user's tools keep.
"""

import os
import re
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from fgpipe.adapters.dvc_runner import DvcRunner
from fgpipe.errors import FgpipeError, InputError, NotReadyError, PipelineError, UnavailableError

NAME = "shared"
"""What DVC calls the remote."""

EXTRAS = ("s3", "ssh")
"""Kinds of URL that come with an extra of fgpipe."""
PLUGINS = ("azure", "gdrive", "gs", "hdfs", "oss", "webdav", "webdavs")
"""Kinds of URL that come with a plugin of DVC's."""

NO_REMOTE = "no remote is set; `fgpipe data remote URL` sets one"

_N_SHOWN = 5
"""Most names in a message."""

_CREDENTIALS = re.compile(
    r"locate credentials|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|AccessDenied"
    r"|Access Denied|Forbidden|Permission denied|not authori[sz]ed|InvalidClientTokenId"
    r"|Host key is not (?:trusted|verifiable)|PermissionError",
    flags=re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"connect to the endpoint|Connect call failed|Connection (?:refused|reset|lost|closed)"
    r"|timed? ?out|name resolution|Name or service not known|nodename nor servname"
    r"|No route to host|Network is unreachable|Multiple exceptions",
    flags=re.IGNORECASE,
)
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist", flags=re.IGNORECASE)
_NO_PLUGIN = re.compile(r"requires '([\w-]+)' to be installed")
_UNSAVED = re.compile(r"without (?:a )?confirmation")
_NOT_BROUGHT = re.compile(r"Checkout failed for following targets:\n((?:\S.*\n)*?)Is your cache")
_NEVER_MADE = re.compile(r"No file hash info found for '(.*)'\.")
_NOWHERE = re.compile(r"neither locally nor on remote\. Missing cache files:\n((?:md5: .*\n?)+)")


class DvcRemote:
    """The default remote of the DVC repository at a project's root."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._runner = DvcRunner(self._root)

    def set(self, url: str, *, endpoint_url: str | None = None) -> None:
        """Make ``url`` the remote, in place of any other.

        Nothing is connected to. A relative path is made absolute, for ``.dvc/config`` goes to
        clones elsewhere.

        Args:
            url: A folder outside the project, ``ssh://[user@]host[:port]/path`` or ``s3://bucket/path``.
            endpoint_url: The S3 server, if it is not Amazon's.

        Raises:
            InputError: If it is no such URL, or has a password in it.
            UnavailableError: If what speaks its protocol is not installed.
        """
        scheme = _checked(url)
        if not scheme:
            url = self._folder(url)
        if endpoint_url is not None:
            if scheme != "s3":
                raise InputError(f"an endpoint URL goes with s3://..., not with {url}")
            if urlsplit(endpoint_url).scheme not in {"http", "https"}:
                raise InputError(f"endpoint URL {endpoint_url!r} must begin with http(s)://")
        self._run("remote", "add", "--default", "--force", NAME, url)
        if endpoint_url is not None:
            self._run("remote", "modify", NAME, "endpointurl", endpoint_url)
        if scheme == "s3":  # a minute, five times, is long to wait for a server that is not there
            self._run("remote", "modify", NAME, "connect_timeout", "10")

    def describe(self) -> str:
        """The remote as a line for a person."""
        url, endpoint_url = self._default()
        if url is None:
            return NO_REMOTE
        return f"the remote is {url}" + (f" at {endpoint_url}" if endpoint_url else "")

    def push(self) -> str:
        """Copy every version in use to the remote; a line that says how much that was.

        Raises:
            NotReadyError: If there is no remote, or something in use is neither here nor there.
            UnavailableError: If it cannot be reached or refuses.
        """
        return self._transfer("push")

    def pull(self) -> str:
        """Bring every version in use from the remote; a line that says how much that was.

        What no stage has made yet is not missed.

        Raises:
            NotReadyError: If there is no remote, it lacks something, or what is here has
                changes that are no version.
            UnavailableError: If it cannot be reached or refuses.
        """
        return self._transfer("pull")

    def _transfer(self, command: str) -> str:
        url, _ = self._default()
        if url is None:
            raise NotReadyError(NO_REMOTE)
        code, log = self._runner.answer(command)
        not_brought = _NOT_BROUGHT.search(log)
        if not_brought:
            never_made = {os.path.relpath(path, self._root) for path in _NEVER_MADE.findall(log)}
            _refuse_lacking(set(not_brought[1].splitlines()) - never_made, remote=url)
        elif code:
            raise self._error(code, log, command, remote=url)
        if nowhere := _NOWHERE.search(log):
            _refuse_unknown(nowhere[1].replace("md5: ", "").split(), remote=url)
        done = [line for line in log.splitlines() if re.match(r"\d+ files? |Everything", line)]
        return f"{url}: {done[-1] if done else command + ' done'}"

    def _folder(self, path: str) -> str:
        """An absolute path that may be a remote."""
        folder = Path(os.path.normpath(self._root / path))
        if folder.is_file():
            raise InputError(f"{path} is no folder; name one, or a URL")
        if folder.is_relative_to(self._root):
            raise InputError(f"{path} is in the project; share the data in a folder outside it")
        return str(folder)

    def _default(self) -> tuple[str | None, str | None]:
        """URL and endpoint URL of the default remote, if there is one."""
        lines = self._run("config", "--list").splitlines()
        config = dict(line.split("=", maxsplit=1) for line in lines if "=" in line)
        remote = f"remote.{config.get('core.remote')}"
        return config.get(f"{remote}.url"), config.get(f"{remote}.endpointurl")

    def _run(self, *arguments: str) -> str:
        code, log = self._runner.answer(*arguments)
        if code:
            raise self._error(code, log, *arguments)
        return log

    def _error(self, code: int, log: str, *arguments: str, remote: str = "") -> FgpipeError:
        command = "dvc " + " ".join(arguments)
        explained = _explain(log, remote=remote)
        return explained or self._runner.explained(code, log, command=command)


def _checked(url: str) -> str:
    """The kind of URL, which is empty for a path.

    Raises:
        InputError: If it cannot be a remote's.
        UnavailableError: If what speaks its protocol is not installed.
    """
    if "://" not in url:
        if not url.strip():
            raise InputError(f"{url!r} is no folder; name one, or a URL")
        return ""
    parts = urlsplit(url)
    if parts.scheme not in EXTRAS + PLUGINS:
        raise InputError(
            f"{url} is no remote that is known; give a folder's path, ssh://... or s3://..."
        )
    if parts.password is not None or (parts.scheme == "s3" and "@" in parts.netloc):
        raise InputError(
            f"{parts.scheme}://...@{parts.hostname or ''} has a password in it, which .dvc/config "
            "would share; leave it out: credentials are taken from the environment"
        )
    if not parts.hostname:
        raise InputError(f"{url} names no {'bucket' if parts.scheme == 's3' else 'host'}")
    plugin = "webdav" if parts.scheme == "webdavs" else parts.scheme
    if find_spec(f"dvc_{plugin}") is None:
        raise _not_installed(f"dvc-{plugin}")
    return parts.scheme


def _refuse_lacking(paths: Collection[str], *, remote: str) -> None:
    if paths:
        raise NotReadyError(
            f"{remote} lacks {_some(sorted(paths))}; `fgpipe data push` where they were made "
            "puts them there"
        )


def _refuse_unknown(hashes: Sequence[str], *, remote: str) -> None:
    raise NotReadyError(
        f"{len(hashes)} of what data/raw.dvc and dvc.lock name are neither here nor at {remote}: "
        f"{_some(hashes)}; all else is there. `dvc repro` makes what stages make; push data "
        "where they were added"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _N_SHOWN} more" if len(names) > _N_SHOWN else ""
    return ", ".join(names[:_N_SHOWN]) + more


def _explain(log: str, *, remote: str) -> FgpipeError | None:
    """What is wrong with the remote, if it is the remote that something is wrong with."""
    errors = re.findall(r"^ERROR: (?:unexpected error - )?(.*)", log, flags=re.MULTILINE)
    said = errors[-1] if errors else ""
    if plugin := _NO_PLUGIN.search(log):
        return _not_installed(plugin[1])
    if _UNSAVED.search(said):
        return NotReadyError(
            "data here have changes that are no version and would be lost; "
            "`dvc add data/raw` makes those of data/raw one, `dvc checkout` undoes them"
        )
    if _NO_BUCKET.search(log):
        return UnavailableError(f"the bucket of {remote} does not exist; make it first")
    if _CREDENTIALS.search(log):
        said = _first(errors, _CREDENTIALS)
        return UnavailableError(
            f"{remote} asks for credentials that are missing or not accepted; set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) for S3, have an SSH "
            f"key and the host's key for ssh:// ({said})"
        )
    if _UNREACHABLE.search(log):
        said = _first(errors, _UNREACHABLE)
        return UnavailableError(
            f"{remote} cannot be reached; is the server up, and its address right? ({said})"
        )
    return PipelineError(f"{remote}: {said}") if remote and said else None


def _first(errors: Sequence[str], pattern: "re.Pattern[str]") -> str:
    """The error that says it, which a more general one may follow."""
    return next((error for error in errors if pattern.search(error)), errors[-1] if errors else "")


def _not_installed(package: str) -> UnavailableError:
    extra = package.removeprefix("dvc-")
    what = f"'fgpipe[{extra}]'" if extra in EXTRAS else package
    return UnavailableError(f"{package} is not installed; `pip install {what}` brings it")
