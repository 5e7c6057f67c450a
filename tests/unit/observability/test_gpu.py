"""The GPU sampler against a fake NVML: a shared library with the functions that the real binding calls."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from integration.components import require

SOURCE = r"""
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
static int one, two;
int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "not supported"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = index ? &two : &one; return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    memory->total = 24000000000ULL; memory->used = device == &one ? 9000000000ULL : 1000; memory->free = memory->total - memory->used; return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) { rates->gpu = device == &one ? 80 : 5; rates->memory = 1; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) { if (device == &two) return 3; *milliwatts = 250500; return 0; }
"""
PROGRAM = """
from prometheus_client import generate_latest
from mistudio_explain.observability.gpu import Gpus
gpus = Gpus.found()
print(None if gpus is None else gpus.read())
if gpus is not None:
    gpus.sample(["llama3.1:8b"])
    print(gpus.mean_watts)
print(*[line for line in generate_latest().decode().splitlines() if line.startswith("mistudio_explain_gpu")], sep="\\n")
"""


def sampled(library_path: str) -> list[str]:
    environment = {"LD_LIBRARY_PATH": library_path, "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def fake_nvml(tmp_path: Path) -> str:
    """A folder with the library."""
    if shutil.which("gcc") is None:
        require("gcc", "install a C compiler (Debian: apt-get install gcc)")
    (tmp_path / "nvml.c").write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libnvidia-ml.so.1"), str(tmp_path / "nvml.c")], check=True)
    return str(tmp_path)


def test_memory_utilisation_and_power_are_what_the_driver_says_and_a_card_without_a_power_sensor_has_no_power(fake_nvml: str) -> None:
    readings, watts, *metrics = sampled(fake_nvml)
    assert "GpuReading(device='0', memory_bytes=9000000000, busy=0.8, watts=250.5)" in readings
    assert "GpuReading(device='1', memory_bytes=1000, busy=0.05, watts=None)" in readings
    assert watts == "250.5"
    assert 'mistudio_explain_gpu_memory_bytes{gpu_device="0",model_name="llama3.1:8b"} 9e+09' in metrics
    assert 'mistudio_explain_gpu_power_watts{gpu_device="0"} 250.5' in metrics
    assert not [line for line in metrics if "power" in line and '"1"' in line]


def test_without_a_driver_there_is_no_figure_at_all(tmp_path: Path) -> None:
    assert sampled(str(tmp_path))[-2:] == ["None", ""]


def test_the_specifications_metrics_have_its_labels_and_buckets() -> None:
    from mistudio_explain.observability import metrics

    found = {each._name: (each._labelnames, getattr(each, "_upper_bounds", None)) for each in vars(metrics).values() if hasattr(each, "_labelnames")}
    assert found["mistudio_explain_model_requests"][0] == ("model_name",)
    assert found["mistudio_explain_gpu_memory_bytes"][0] == ("gpu_device", "model_name")
    labels, bounds = found["mistudio_explain_duration_seconds"]
    assert labels == ("model_name",)
    assert bounds[-2] == 300
    labels, bounds = found["mistudio_explain_quality_score"]
    assert labels == ("model_name",)
    assert bounds[:-1] == pytest.approx([number / 20 for number in range(1, 21)])
