"""Services that are told to stop."""

import asyncio
import os
import signal

from mistudio_explain.cli.serve import _until_stopped


async def test_a_second_signal_does_not_cut_off_what_the_first_one_lets_end() -> None:
    """uvicorn raises a signal once more when it has ended, in the middle of what services do at their end."""
    left = []

    async def running() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            left.append("gracefully")

    async with asyncio.timeout(5):
        await _until_stopped(running())
    assert left == ["gracefully"]
