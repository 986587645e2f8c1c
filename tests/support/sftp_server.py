"""An SSH server on loopback that serves files, and a home from which a user may log in."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh


class SftpServer:
    """Runs in a thread of its own while the block lasts."""

    def __init__(self, folder: Path) -> None:
        self.client_home = folder / "home"
        self.port = 0
        self._files = folder / "files"
        self._keys = folder / "keys"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        for path in (self._files, self._keys, self.client_home / ".ssh"):
            path.mkdir(parents=True)
        own, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        client.write_private_key(str(self.client_home / ".ssh" / "id_ed25519"))
        (self.client_home / ".ssh" / "id_ed25519").chmod(0o600)
        client.write_public_key(str(self._keys / "authorized"))
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(own), self._loop).result()
        self.port = self._server.get_port()
        public = own.export_public_key().decode().strip()
        known = f"[127.0.0.1]:{self.port} {public}\n"
        (self.client_home / ".ssh" / "known_hosts").write_text(known)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        async def close() -> None:
            self._server.close()
            await self._server.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, key: asyncssh.SSHKey) -> asyncssh.SSHAcceptor:
        files = str(self._files)

        class Rooted(asyncssh.SFTPServer):
            def __init__(self, channel: asyncssh.SSHServerChannel) -> None:
                super().__init__(channel, chroot=files)

        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[key],
            authorized_client_keys=str(self._keys / "authorized"),
            sftp_factory=Rooted,
        )
