"""Eight fake CPU devices for everything parallel, set before JAX starts; what tests of several rooms write."""

import hashlib
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Programs run in the tests would write to the user's own compilation cache.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first: with several workers, none of them begins one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.path.name == "test_battery.py"}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def write_safetensors():
    """Writes a file of published weights, which readers tell by its content."""

    def write(path: Path, state: dict[str, np.ndarray]) -> str:
        """A safetensors file of float32 arrays; its sha256."""
        header, data = {}, b""
        for name, array in state.items():
            start, data = len(data), data + array.tobytes()
            header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [start, len(data)]}
        text = json.dumps(header).encode()
        content = struct.pack("<Q", len(text)) + text + data
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    return write
