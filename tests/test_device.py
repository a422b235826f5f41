"""What `auto` means on a device."""

from pathlib import Path

import pytest
import torch

from utils import device
from utils.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_precision_that_is_given_is_kept(name: str):
    assert device.resolve_precision(name, CPU) == name


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(UserError, match="precision: got fp16 .*use auto, bf16 or fp32"):
        device.resolve_precision("fp16", CPU)
    assert device.resolve_precision("fp16", GPU) == "fp16"
    # The older key asks for it where it can be had
    assert device.resolve_precision("fp16", CPU, explicit=False) == "fp32"
    assert device.resolve_precision("fp16", GPU, explicit=False) == "fp16"


@pytest.mark.parametrize("fast, expected", [(torch.bfloat16, "bf16"), (torch.float32, "fp32")])
def test_auto_on_a_silent_cpu_takes_what_is_faster(
    monkeypatch: pytest.MonkeyPatch, fast: torch.dtype, expected: str
):
    monkeypatch.setattr(device, "processor_flags", lambda: frozenset())
    monkeypatch.setattr(device, "product_seconds", lambda dtype: [1.0 if dtype == fast else 2.0, 9.0])
    assert device.resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize(
    "line, expected",
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", "bf16"),
        ("Features\t: fp asimd bf16 i8mm", "bf16"),
        ("flags\t\t: fpu avx2 avx512f", "fp32"),
    ],
)
def test_auto_on_linux_goes_by_the_processor_s_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, expected: str
):
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\nmodel name\t: some bf16 chip\n{line}\nbugs\t\t: none\n"
    )
    flags = device.processor_flags(str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(device, "processor_flags", lambda: flags)
    assert device.resolve_precision("auto", CPU) == expected


def test_no_flags_where_there_is_no_such_file(tmp_path: Path):
    assert device.processor_flags(str(tmp_path / "cpuinfo")) == frozenset()


@pytest.mark.parametrize("capability, expected", [((8, 0), "bf16"), ((9, 0), "bf16"), ((7, 5), "fp32")])
def test_auto_on_a_gpu_goes_by_its_generation(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert device.resolve_precision("auto", GPU) == expected


def test_products_are_timed():
    seconds = device.product_seconds(torch.float32, size=8, repeats=3)
    assert len(seconds) == 3 and min(seconds) > 0


@pytest.mark.parametrize(
    "precision, channels, where, expected",
    [("fp32", 32, CPU, True), ("bf16", 32, CPU, False), ("bf16", 64, CPU, True), ("bf16", 32, GPU, True)],
)
def test_memory_layout(precision: str, channels: int, where: torch.device, expected: bool):
    assert device.prefers_channels_last(precision, channels, where) is expected
