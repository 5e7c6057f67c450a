"""What NVIDIA's GPUs of this machine are doing, read through NVML; absent where there is none, never zero."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from mistudio_explain.observability.metrics import GPU_MEMORY, GPU_POWER, GPU_UTILISATION

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
_MILLI = 1000


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment: memory in use in bytes, share of the time in which it worked, watts; None for what it does not tell."""

    device: str
    memory_bytes: int | None
    busy: float | None
    watts: float | None


class Gpus:
    """The GPUs behind NVML."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._samples = 0
        self._watts = 0.0

    @classmethod
    def found(cls) -> "Gpus | None":
        """Open NVML; None where there is no driver, or it does not answer."""
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            log.debug("gpu.none", why=str(error))
            return None
        return cls(pynvml)

    def read(self) -> list[GpuReading]:
        """Read all GPUs. One that fails gives a reading without figures."""
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            log.warning("gpu.unreadable", why=str(error))
            return []
        return [self._reading(str(number), handle) for number, handle in enumerate(handles)]

    def _reading(self, device: str, handle: object) -> GpuReading:
        nvml = self._nvml
        memory = self._told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
        percent = self._told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        milliwatts = self._told(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        busy, watts = None if percent is None else percent / 100, None if milliwatts is None else milliwatts / _MILLI
        return GpuReading(device=device, memory_bytes=memory, busy=busy, watts=watts)

    def sample(self, models: Sequence[str]) -> None:
        """Read all GPUs into the metrics. NVML does not know models: a GPU's memory is that of all models that are served here."""
        readings = self.read()
        for gauge in (GPU_MEMORY, GPU_UTILISATION, GPU_POWER):
            gauge.clear()  # a GPU that fell off the bus is absent, and not as it was
        for reading in readings:
            if reading.memory_bytes is not None:
                GPU_MEMORY.labels(gpu_device=reading.device, model_name=",".join(models)).set(reading.memory_bytes)
            if reading.busy is not None:
                GPU_UTILISATION.labels(gpu_device=reading.device).set(reading.busy)
            if reading.watts is not None:
                GPU_POWER.labels(gpu_device=reading.device).set(reading.watts)
        told = [reading.watts for reading in readings if reading.watts is not None]
        if told:
            self._samples += 1
            self._watts += sum(told)

    @property
    def mean_watts(self) -> float | None:
        """Mean power of all GPUs together over the samples so far; None before the first, or where no GPU tells its power."""
        return self._watts / self._samples if self._samples else None

    async def watch(self, models: Callable[[], Sequence[str]]) -> None:
        """Sample for ever."""
        while True:
            await asyncio.to_thread(self.sample, models())
            await asyncio.sleep(INTERVAL_S)

    def _told(self, read: Callable[[], int]) -> int | None:
        try:
            return read()
        except self._nvml.NVMLError:  # a card without a power sensor, for instance
            return None
