"""Drawings (svg) to png by resvg, in a process of its own: a few hundred bytes can ask for hours, all memory or the stack.

Nested <use>, masks, markers and filters multiply what is drawn, and none of that shows in a size that could be checked. So
the kernel counts: a drawing gets so many seconds of CPU and so much memory, and one that wants more ends the process that
draws it, not the run. A process draws one after another, and is started when it is first needed.
"""

import contextlib
import importlib.util
import os
import queue
import signal
import struct
import subprocess
import sys

from mmjax.core.errors import UserError
from mmjax.data.limits import LIMITS

MEMORY = 2 << 30  # bytes of address space, of which Python and resvg take some 50 MB
ASKED, ANSWERED = struct.Struct("<IIf"), struct.Struct("<?I")  # bytes of svg, side, seconds; whether drawn, bytes that follow


def png(svg: str, side: int, seconds: float = LIMITS.draw_seconds) -> bytes:
    """The drawing on white as png, `side` pixels on its longer side; where that rounds up it may come out a pixel longer.

    Text is drawn only where it is outlines: without the machine's fonts a drawing comes out the same everywhere.

    Args:
      seconds: of CPU.

    Raises:
      UserError: resvg-py is missing.
      ValueError: resvg cannot read the drawing, or it wants more time or memory than it gets.
    """
    process = _taken()
    try:
        drawn, content = _ask(process, svg.encode(), side, seconds)
    except (EOFError, OSError):
        raise ValueError(f"the svg {_death(process, seconds)}") from None
    except BaseException:  # what is left in the pipe is another drawing's answer
        process.kill()
        process.wait()
        raise
    _IDLE.put((os.getpid(), process))
    if not drawn:
        raise ValueError(content.decode())
    return content


_START = "import sys; sys.path[:0] = sys.argv[1:]; from mmjax.data import svg; svg.serve()"
_IDLE: "queue.SimpleQueue[tuple[int, subprocess.Popen]]" = queue.SimpleQueue()


def _taken() -> subprocess.Popen:
    """A process that nobody uses."""
    with contextlib.suppress(queue.Empty):
        while True:
            parent, process = _IDLE.get_nowait()
            if parent == os.getpid() and process.poll() is None:  # a fork has its parent's, and may not speak to them
                return process
    if importlib.util.find_spec("resvg_py") is None:
        raise UserError("svg needs resvg: run `pip install resvg-py==0.5.0`")
    command = [sys.executable, "-P", "-c", _START, *sys.path]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _ask(process: subprocess.Popen, svg: bytes, side: int, seconds: float) -> tuple[bool, bytes]:
    process.stdin.write(ASKED.pack(len(svg), side, seconds) + svg)
    process.stdin.flush()
    drawn, size = ANSWERED.unpack(_read(process.stdout, ANSWERED.size))
    return drawn, _read(process.stdout, size)


def _read(pipe, size: int) -> bytes:
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _death(process: subprocess.Popen, seconds: float) -> str:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what it did not read
            pipe.close()
    code = -process.wait()
    if code == signal.SIGPROF:
        return f"takes more than {seconds:g} s of CPU"
    how = signal.Signals(code).name if code > 0 else f"exit code {-code}"
    return f"ended the process that drew it ({how}): nested too deeply, or over {MEMORY >> 30} GiB?"


def serve() -> None:
    """Reads drawings from standard input, writes pictures to standard output, until the input ends."""
    import resource

    import resvg_py

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the parent's end of the pipe says when to end
        signal.signal(number, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Rust's last words; the parent says what there is to say
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            size, side, seconds = ASKED.unpack(_read(asked, ASKED.size))
            svg = _read(asked, size).decode()
            signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends the process, wherever it is
            try:
                # Without dpi a drawing whose size is in inches, points or millimetres has none.
                options = {"background": "white", "skip_system_fonts": True, "dpi": 96.0}
                drawn, content = True, bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, **options))
            except ValueError as error:
                drawn, content = False, str(error).encode()
            signal.setitimer(signal.ITIMER_PROF, 0)
            answers.write(ANSWERED.pack(drawn, len(content)) + content)
            answers.flush()
