"""``diglot doctor``: what is installed, what each framework sees, and what is missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from diglot.errors import EXIT_BAD_INPUT, EXIT_PROVEN

PROBE_SECONDS = 120
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Each framework is asked in a process of its own: together they can crash each other.
_PROBES = {
    "torch": """
import torch
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
mps = getattr(torch.backends, "mps", None)
if mps is not None and mps.is_available():
    devices.append("Apple GPU (MPS)")
answer = {"version": torch.__version__, "devices": devices, "threads": torch.get_num_threads()}
""",
    "tensorflow": """
import tensorflow as tf
devices = []
for gpu in tf.config.list_physical_devices("GPU"):
    details = tf.config.experimental.get_device_details(gpu)
    devices.append(details.get("device_name", gpu.name))
answer = {"version": tf.__version__, "devices": devices}
""",
    "keras": """
import keras
answer = {"version": keras.__version__, "devices": [], "backend": keras.backend.backend()}
""",
    "torchvision": """
import torchvision
answer = {"version": torchvision.__version__, "devices": []}
""",
    "jax": """
import jax
devices = [str(d) for d in jax.devices() if d.platform != "cpu"]
answer = {"version": jax.__version__, "devices": devices}
""",
}

#: Package -> (extra, what it is for), for what not every user needs.
_OPTIONAL = {
    "transformers": ("hf", "hf: sources"),
    "tokenizers": ("hf", "hf: sources"),
    "timm": ("timm", "timm: sources"),
    "torchvision": ("timm", "timm: sources"),
    "jax": ("jax", "proofs on JAX"),
}


def examine() -> dict[str, Any]:
    """Everything that ``doctor`` shows: {"exit_code", "checks", "frameworks", "summary"}.

    A check is {"name", "state": "ok"|"missing"|"bad", "found", "command"}. Whatever is needed and
    missing gives exit code 2; what is optional does not.
    """
    wanted = ["torch", "tensorflow", "keras"]
    wanted += [name for name in ("torchvision", "jax") if installed(name)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        frameworks = dict(zip(wanted, pool.map(probe, wanted), strict=True))
    checks = [_python_check()]
    checks += [_framework_check(name, answer) for name, answer in frameworks.items()]
    checks += [_optional_check(name) for name in _OPTIONAL if name not in frameworks]
    checks.append(_ruff_check())
    checks.append(_browser_check())
    bad = [check for check in checks if check["state"] == "bad"]
    if bad:
        summary = "Not ready: " + ", ".join(check["name"] for check in bad) + "."
    else:
        summary = "Ready to translate and prove."
    return {
        "exit_code": EXIT_BAD_INPUT if bad else EXIT_PROVEN,
        "checks": checks,
        "frameworks": frameworks,
        "summary": summary,
    }


def installed(package: str) -> str | None:
    """The version of an installed package, or None; imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def probe(framework: str) -> dict[str, Any]:
    """Ask a framework in a fresh process: {"version", "devices", …} or {"error": sentence}."""
    code = f"{_PROBES[framework]}\nimport json\nprint('answer:' + json.dumps(answer))"
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_MODULE_LOADING": "LAZY"}
    if framework == "keras":
        environment["KERAS_BACKEND"] = "tensorflow"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"gave no answer within {PROBE_SECONDS} seconds"}
    for line in done.stdout.splitlines():
        if line.startswith("answer:"):
            return json.loads(line.removeprefix("answer:"))
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return {"error": lines[-1] if lines else f"its process ended with {done.returncode}"}


def _check(name: str, state: str, found: str, command: str | None = None) -> dict[str, Any]:
    return {"name": name, "state": state, "found": found, "command": command}


def _python_check() -> dict[str, Any]:
    fits = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    found += f", {os.cpu_count()} cores"
    command = None if fits else "install Python 3.11 to 3.13"
    return _check("python", "ok" if fits else "bad", found, command)


def _framework_check(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer and name == "torchvision":
        # Its compiled part is made for one build of PyTorch.
        command = "pip install -U torchvision, from the index that torch came from"
        return _check(name, "missing", "does not fit this PyTorch; only for timm: sources", command)
    if "error" in answer:
        optional = name in _OPTIONAL
        # tensorflow-cpu and tensorflow both provide the module tensorflow
        package = "tensorflow-cpu" if name == "tensorflow" else name
        state = "missing" if optional else "bad"
        return _check(name, state, answer["error"][:100], f"pip install -U {package}")
    devices = answer.get("devices") or []
    found = answer["version"]
    if name == "keras":
        found += f", on {answer['backend']}"
    elif name != "torchvision":
        found += ", " + (", ".join(devices) if devices else "CPU only")
    return _check(name, "ok", found)


def _optional_check(name: str) -> dict[str, Any]:
    extra, purpose = _OPTIONAL[name]
    version = installed(name)
    if version:
        return _check(name, "ok", version)
    return _check(name, "missing", f"only for {purpose}", f'pip install "diglot[{extra}]"')


def _ruff_check() -> dict[str, Any]:
    version = installed("ruff")
    if version:
        return _check("ruff", "ok", version)
    return _check("ruff", "bad", "formats the translation", "pip install ruff")


def _browser_check() -> dict[str, Any]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path:
        return _check("browser", "ok", path)
    return _check(
        "browser",
        "missing",
        "only to check the facing pages in the tests",
        "apt-get install chromium" if sys.platform == "linux" else "install Chromium",
    )
