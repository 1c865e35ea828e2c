"""Runs both mailbox programs against one server and prints what each took, as `time` does."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from downloads_compare import run

HERE = Path(__file__).parent


def main(messages: int) -> None:
    command = [sys.executable, str(HERE / "imap_server.py"), str(messages), "0"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(command, **pipes) as server,  # type: ignore[call-overload]
    ):
        port = server.stdout.readline().strip()
        print(f"{messages} messages           elapsed      user    system    memory")
        for script in ("classic/fetch_mail.py", "fetch_mail.py"):
            target = Path(folder) / script.replace("/", "-")
            found = run([sys.executable, str(HERE / script), port, str(target)])
            elapsed, user, system, peak = found
            seconds = "".join(f"{each:8.2f} s" for each in (elapsed, user, system))
            print(f"{script:<22}{seconds}{peak / 1e6:7.0f} MB", flush=True)
        server.stdin.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
