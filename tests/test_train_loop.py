"""The training loop on a toy network: closed forms, and runs that were stopped."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from guided_diffusion.resample import create_sampler
from tests import defaults
from tests.defaults import train_options
from training.curves import read_log
from training.train_loop import (
    Hooks,
    NonFiniteLoss,
    TrainLoop,
    learning_rate,
    progress_line,
    update_ema,
)
from utils.checkpoint import load_state_dict, load_training_state, save_atomic, save_safetensors
from utils.files import state_files
from utils.seeding import dropout_seed, step_generator

T = 3  # steps of the chain: the loss-aware sampler is soon warmed up


class Toy(nn.Module):
    """Two convolutions with a step and a class embedding, and dropout between."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.times, self.classes, self.dropout = nn.Embedding(T, 8), nn.Embedding(4, 8), nn.Dropout(dropout)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        emb = (self.times(t) + self.classes(y))[:, :, None, None]
        return self.last(self.dropout(torch.relu(self.first(x) + emb)))


def data(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of 12 that depend on the step alone."""
    while True:
        generator = torch.Generator().manual_seed(first_step)
        yield torch.rand((12, 3, 6, 6), generator=generator) * 2 - 1, torch.arange(12) % 4
        first_step += 1


def loop(folder: Path, make: Callable[[], nn.Module] = Toy, sampler: str = "uniform", source=data, **options):
    """A loop on the toy, with the real files; `messages` on it are what it said."""
    torch.manual_seed(1)
    messages: list[str] = []
    values = {"lr": 1e-2, "ema_rate": (0.9, 0.5), "save_interval": 3} | options
    run = TrainLoop(
        model=make(),
        diffusion=defaults.diffusion(diffusion_steps=T, noise_schedule="cosine"),
        time_sampler=create_sampler(sampler, T),
        data=source,
        folder=folder,
        options=train_options(**values),
        hooks=Hooks(
            *(save_atomic, load_training_state, save_safetensors),
            message=messages.append,
            warning=messages.append,
        ),
        class_cond=True,
        device=torch.device("cpu"),
    )
    run.messages = messages
    return run


def same(a, b) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


# Closed forms


def test_learning_rate_in_closed_form():
    constant = train_options(lr=2.0)
    assert [learning_rate(s, constant) for s in (0, 10**6)] == [2, 2]
    warm = train_options(lr=2.0, warmup_steps=4)
    assert [learning_rate(s, warm) for s in range(6)] == [0.5, 1, 1.5, 2, 2, 2]
    falling = train_options(lr=2.0, lr_anneal_steps=4)
    assert [learning_rate(s, falling) for s in range(6)] == [2, 1.5, 1, 0.5, 0, 0]
    both = train_options(lr=2.0, warmup_steps=2, lr_anneal_steps=4)
    assert [learning_rate(s, both) for s in range(4)] == [1, 1.5, 1, 0.5]


def test_average_in_closed_form():
    model = nn.Linear(2, 1)
    averages = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
    for _ in range(5):
        update_ema(averages, model, 0.75)
    for name, value in model.state_dict().items():
        assert torch.allclose(averages[name], (1 - 0.75**5) * value)


def test_averages_follow_the_steps(tmp_path):
    run = loop(tmp_path)
    expected = {k: v.clone() for k, v in run.model.state_dict().items()}
    for _, (x, y) in zip(range(3), data(0), strict=False):
        run.train_step(x, y)
        expected = {k: 0.9 * v + 0.1 * run.model.state_dict()[k] for k, v in expected.items()}
    for name, value in expected.items():
        assert torch.allclose(run.ema[0.9][name], value, atol=1e-6)
    assert not same(run.ema[0.9], run.ema[0.5])


def test_first_step_is_adam_s(tmp_path):
    # The first step of Adam moves every weight by lr, against its gradient's sign.
    run = loop(tmp_path, lr=1e-3, grad_clip=0.0)
    before = {k: v.clone() for k, v in run.model.named_parameters()}
    x, y = next(data(0))
    record = run.train_step(x, y)
    gradients = {k: p.grad for k, p in run.model.named_parameters()}
    norm = sum(g.double().square().sum().item() for g in gradients.values()) ** 0.5
    assert record["grad_norm"] == pytest.approx(norm, rel=1e-5)
    for name, p in run.model.named_parameters():
        moved = gradients[name].abs() > 1e-4
        step = (p.detach() - before[name])[moved]
        assert torch.allclose(step, -1e-3 * gradients[name][moved].sign(), atol=2e-6)


def test_gradient_is_clipped(tmp_path):
    run = loop(tmp_path, grad_clip=0.01)
    record = run.train_step(*next(data(0)))
    norm = sum(p.grad.square().sum().item() for p in run.model.parameters()) ** 0.5
    assert record["grad_norm"] > 0.1  # before clipping
    assert norm == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("microbatch", [1, 5, 12, 50])
def test_microbatches_add_up_to_the_batch(tmp_path, microbatch):
    whole, parts = loop(tmp_path, grad_clip=0.0), loop(tmp_path, microbatch=microbatch, grad_clip=0.0)
    x, y = next(data(0))
    records = [run.train_step(x, y) for run in (whole, parts)]
    assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=1e-6)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)
        assert torch.allclose(a, b, atol=1e-6)


def test_training_learns(tmp_path):
    run = loop(tmp_path, total_steps=60, log_interval=20, save_interval=1000)
    run.run()
    lines = (tmp_path / "train_log.csv").read_text().splitlines()
    assert lines[0].startswith("step,images_per_s,loss,") and len(lines) == 4
    losses = [float(line.split(",")[2]) for line in lines[1:]]
    assert losses[2] < 0.9 * losses[0]


def test_progress_in_words(tmp_path):
    assert (
        progress_line(50, 800, 0.12344, 25.0, 32) == "step 50 of 800: loss 0.1234, 25.0 images/s, 16 min left"
    )
    assert progress_line(0, 9000, 1.0, 8.0, 32).endswith("8.0 images/s, 10.0 h left")
    assert progress_line(7, float("inf"), 1.0, 2.0, 4) == "step 7: loss 1.0000, 2.0 images/s"
    run = loop(tmp_path, total_steps=4, log_interval=2)  # tests have no terminal
    run.run()
    assert [text.partition(":")[0] for text in run.messages] == ["step 2 of 4", "step 4 of 4"]


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_layout(tmp_path, channels_last):
    run = loop(tmp_path, channels_last=channels_last)
    seen = []
    run.model.first.register_forward_hook(lambda module, args, out: seen.extend([args[0], out]))
    run.train_step(*next(data(0)))
    for x in (*seen, run.model.first.weight, run.model.first.weight.grad):
        assert x.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_dropout_seeds(tmp_path):
    alone = [int(torch.randint(2**62, (1,), generator=step_generator(7, step, 1))) for step in range(5)]
    assert [dropout_seed(7, step, 0) for step in range(5)] == alone  # as ever
    assert len({dropout_seed(7, step, rank) for step in range(50) for rank in range(8)}) == 400


@pytest.mark.parametrize("interval, previews", [(0, [3, 5]), (2, [2, 4])])
def test_when_previews_and_reports_are_made(tmp_path, interval, previews):
    run, seen, reported = loop(tmp_path, total_steps=5, sample_interval=interval), [], []
    run.hooks.preview = lambda model, step: seen.append(step)
    run.hooks.report = reported.append
    run.run()
    assert seen == previews and reported == [3, 5]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on the CPU")
def test_a_compiled_network_trains_alike(tmp_path):
    plain, compiled = loop(tmp_path), loop(tmp_path, compile=True)
    assert compiled.network is not compiled.model and plain.network is plain.model
    for step in range(2):
        records = [run.train_step(*next(data(step))) for run in (plain, compiled)]
        assert records[0] == pytest.approx(records[1], rel=1e-4)
    assert compiled.state()["model"].keys() == plain.state()["model"].keys()


# Stopped runs


@pytest.mark.parametrize("sampler, dropout", [("uniform", 0.0), ("loss-second-moment", 0.5)])
def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path, sampler, dropout):
    whole = loop(tmp_path / "whole", lambda: Toy(dropout), sampler, total_steps=8, save_interval=100)
    whole.run()
    first = loop(tmp_path / "parts", lambda: Toy(dropout), sampler, total_steps=5)
    first.run()
    torch.manual_seed(99)
    second = loop(tmp_path / "parts", lambda: Toy(dropout), sampler, total_steps=8)
    second.resume()
    assert second.step == 5 and "step 5" in second.messages[0]
    second.run()
    if sampler != "uniform":
        assert (whole.time_sampler.counts >= 10).all()  # the draws do follow the losses by now
    assert same(whole.state(), second.state())
    for file in sorted((tmp_path / "whole").glob("ema_*_0000008.safetensors")):
        assert same(load_state_dict(file)[0], load_state_dict(tmp_path / "parts" / file.name)[0])


def test_dropout_differs_between_steps(tmp_path):
    run = loop(tmp_path, lambda: Toy(0.5), lr=1e-12, seed=4)
    x, y = next(data(0))
    draws = []
    run.model.dropout.register_forward_hook(lambda module, args, out: draws.append(out == 0))
    run.train_step(x, y)
    run.train_step(x, y)
    assert not torch.equal(draws[0], draws[1])


def test_a_preview_leaves_training_alone(tmp_path):
    seen = []

    def preview(model: nn.Module, step: int) -> None:
        assert not model.training and not torch.is_grad_enabled()
        seen.append((step, {k: v.clone() for k, v in model.state_dict().items()}))
        torch.rand(7)  # draws of its own

    runs = [loop(tmp_path / name, lambda: Toy(0.5), total_steps=4, save_interval=2) for name in "ab"]
    runs[0].hooks.preview = preview
    for run in runs:
        run.run()
    assert [step for step, _ in seen] == [2, 4]
    assert same(seen[-1][1], runs[0].ema[0.9])
    assert runs[0].model.training
    assert same(runs[0].state(), runs[1].state())


def test_a_new_average_starts_from_the_resumed_weights(tmp_path):
    run = loop(tmp_path, total_steps=3)
    run.run()
    later = loop(tmp_path, ema_rate=(0.9, 0.99))
    later.resume()
    assert same(later.ema[0.9], run.ema[0.9])
    assert same(later.ema[0.99], run.model.state_dict())
    later.train_step(*next(data(3)))
    assert not same(later.ema[0.99], later.model.state_dict())  # a copy, not a view


def test_another_weight_decay_counts_after_a_resume(tmp_path):
    # Decoupled decay takes lr * decay * w from every weight w, whatever Adam does (Loshchilov & Hutter 2019).
    loop(tmp_path, total_steps=3).run()
    plain, decayed = loop(tmp_path), loop(tmp_path, weight_decay=0.5)
    for run in (plain, decayed):
        run.resume()
    before = {k: v.detach().clone() for k, v in plain.model.named_parameters()}
    for run in (plain, decayed):
        run.train_step(*next(data(3)))
    for (name, a), b in zip(plain.model.named_parameters(), decayed.model.parameters(), strict=True):
        assert torch.allclose(a - b, 1e-2 * 0.5 * before[name], atol=1e-6)
    assert before["first.weight"].abs().max() > 0.1


def test_the_loss_scale_is_resumed(tmp_path):
    run = loop(tmp_path, precision="fp16", total_steps=3)
    run.run()
    again = loop(tmp_path, precision="fp16")
    again.resume()
    state = again.state()["scaler"]
    assert state["_growth_tracker"] == 3 and state["scale"] == 65536
    assert same(again.state(), run.state())


def test_a_run_goes_on_in_another_precision(tmp_path):
    loop(tmp_path, total_steps=3).run()
    again = loop(tmp_path, precision="fp16")
    again.resume()
    assert again.step == 3 and again.scaler.is_enabled()
    assert again.train_step(*next(data(3)))["step"] == 4


def test_a_line_of_the_log_that_was_cut_short(tmp_path):
    loop(tmp_path, total_steps=3, log_interval=1).run()
    path = tmp_path / "train_log.csv"
    path.write_bytes(path.read_bytes()[:-30])
    again = loop(tmp_path, total_steps=5, log_interval=1)
    again.resume()
    again.run()
    assert read_log(path)["step"].tolist() == [1, 2, 4, 5]


def test_a_state_that_cannot_be_read_is_skipped(tmp_path):
    run = loop(tmp_path, total_steps=6)
    run.run()
    newest = tmp_path / "state_0000006.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    again = loop(tmp_path)
    again.resume()
    assert again.step == 3
    assert again.messages[0].startswith("skipping state_0000006.pt, which cannot be read")
    assert again.messages[1].endswith("state_0000003.pt at step 3")
    with pytest.raises(ValueError, match="state_0000006"):
        loop(tmp_path).resume(newest)  # asked for by name: not skipped
    (tmp_path / "state_0000003.pt").write_bytes(b"nothing")
    fresh = loop(tmp_path)
    fresh.resume()
    assert fresh.step == 0 and "none of the 2 training states" in fresh.messages[-1]


def test_an_empty_folder_is_a_fresh_start(tmp_path):
    run = loop(tmp_path / "none")
    run.resume()
    assert run.step == 0 and run.messages == []


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    loop(tmp_path, total_steps=5, save_interval=1, keep_checkpoints=2).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"ema_{rate}_000000{step}.safetensors" for rate in ("0.5", "0.9") for step in (4, 5)),
        "last.safetensors",
        "state_0000004.pt",
        "state_0000005.pt",
    ]


def test_a_later_state_never_pushes_out_the_one_just_written(tmp_path):
    loop(tmp_path, total_steps=6).run()
    (tmp_path / "state_0000006.pt").write_bytes(b"cut short")
    again = loop(tmp_path, total_steps=4, keep_checkpoints=1)
    again.resume()
    again.run()
    assert [path.name for path in state_files(tmp_path)] == ["state_0000004.pt", "state_0000006.pt"]
    last = loop(tmp_path)
    last.resume()
    assert last.step == 4


def test_states_are_ordered_by_number(tmp_path):
    for name in ("state_10000000.pt", "state_9999999.pt", "state_best.pt"):
        (tmp_path / name).touch()
    assert [path.name for path in state_files(tmp_path)] == ["state_9999999.pt", "state_10000000.pt"]


# The end of a run


def test_total_steps_and_anneal_steps_stop_a_run(tmp_path):
    run = loop(tmp_path, total_steps=4)
    run.run()
    assert run.step == 4
    assert [path.name for path in state_files(tmp_path)] == ["state_0000003.pt", "state_0000004.pt"]
    run.run()
    assert run.step == 4  # nothing left to do
    other = loop(tmp_path / "other", lr_anneal_steps=2)
    other.run()
    assert other.step == 2


def test_a_time_limit_stops_and_saves(tmp_path):
    run = loop(tmp_path, max_minutes=1e-9, save_interval=1000)
    run.run()
    assert run.step == 1 and len(state_files(tmp_path)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_step_and_saves(tmp_path, number):
    # The signal comes in the middle of step 1, between the network and the optimizer.
    run, whole = loop(tmp_path, total_steps=9), loop(tmp_path / "whole", total_steps=2)
    usual = signal.getsignal(number)
    calls = []

    def interrupt(*args) -> None:
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), number)

    run.model.register_forward_hook(interrupt)
    run.run()
    whole.run()
    assert [path.name for path in state_files(tmp_path)] == ["state_0000002.pt"]
    assert (
        run.interrupted == number and "interrupted after step 2; the same command goes on" in run.messages[0]
    )
    assert same(run.state(), whole.state())
    assert signal.getsignal(number) is usual and not whole.interrupted


@pytest.fixture
def usual_interrupts():
    """Ctrl-C as in a terminal; a shell's background jobs ignore it."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("wait", [0.0, 1.1])
def test_an_interrupt_is_passed_on_by_torchrun_and_repeated_by_impatient_people(
    tmp_path, wait, usual_interrupts
):
    run = loop(tmp_path, total_steps=9)

    def interrupt(*args) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(wait)
        os.kill(os.getpid(), signal.SIGINT)

    run.model.register_forward_hook(interrupt)
    if wait:
        with pytest.raises(KeyboardInterrupt):
            run.run()
        assert state_files(tmp_path) == []
    else:
        run.run()
        assert [path.name for path in state_files(tmp_path)] == ["state_0000001.pt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    def broken(step: int):
        for k, (x, y) in enumerate(data(step)):
            yield (x * torch.nan if k == 4 else x), y

    run = loop(tmp_path, source=broken, total_steps=10)
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 4"):
        run.run()
    assert [path.name for path in state_files(tmp_path)] == ["state_0000003.pt"]
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


class Cliff(Toy):
    """A finite value with an infinite slope."""

    def __init__(self):
        super().__init__()
        self.edge = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return super().forward(x, t, y) + self.edge.sqrt()


def test_a_gradient_that_is_no_number_never_reaches_the_weights(tmp_path):
    run = loop(tmp_path, Cliff, total_steps=2)
    with pytest.raises(NonFiniteLoss, match="norm is (inf|nan) at step 0"):
        run.run()
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert state_files(tmp_path) == []


# A network that sees its surroundings


class SevenChannels(nn.Module):
    """Keeps what it is shown, and answers 0, times a weight that can be trained."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return self.weight * x[:, :3]


def test_the_surroundings_are_shown_and_the_loss_counts_inside_the_box(tmp_path):
    box = torch.zeros(4, 1, 6, 6)
    box[:, :, 1:3, 2:5] = 1
    run = loop(tmp_path, SevenChannels, outside_weight=0.0, microbatch=2)
    x, y = torch.rand((4, 3, 6, 6), generator=torch.Generator().manual_seed(3)), torch.arange(4)
    record = run.train_step(x, y, box)
    seen = torch.cat(run.model.seen)
    assert torch.equal(seen[:, 3:6], x * (1 - box)) and torch.equal(seen[:, 6:], box)
    # A network that answers 0 is wrong by the noise: its mean square inside the box
    generator = step_generator(run.options.seed, 0)
    run.time_sampler.sample(4, generator)
    noise = torch.randn((4, 3, 6, 6), generator=generator)
    expected = (noise**2 * box).sum() / (3 * box.sum())
    assert record["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_min_snr_scales_the_loss_of_each_step(tmp_path):
    x, y = torch.zeros(12, 3, 6, 6), torch.arange(12) % 4
    plain, weighted = loop(tmp_path / "a"), loop(tmp_path / "b", min_snr_gamma=2.0)
    diffusion = plain.diffusion
    snr = diffusion.abar / (1 - diffusion.abar)
    for t in range(T):
        steps, noise = torch.full((12,), t), torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
        torch.manual_seed(0)
        before = plain._losses((x, y, steps, noise), None)
        torch.manual_seed(0)
        after = weighted._losses((x, y, steps, noise), None)
        assert torch.allclose(after, before * min(snr[t], 2.0) / snr[t], rtol=1e-5)
