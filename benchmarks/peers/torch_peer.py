"""PyTorch: eager, through `torch.compile`, or with CUDA graphs of many steps captured by hand.

The data set is one tensor on the device; a batch is an `index_select` of a permutation made once
per epoch; losses add up on the device and are read once per epoch.
"""

from __future__ import annotations

import itertools
from typing import Any

BATCH = 1024  # rows per call of predict
GRAPH_STEPS = 32  # of a captured graph


class Peer:
    """See the package's docstring."""

    def __init__(
        self,
        images: Any,
        labels: Any,
        weights: list[Any],
        threads: int,
        device: str,
        way: str = "",
    ) -> None:
        import torch

        self.torch, self.way = torch, way
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise RuntimeError("this PyTorch finds no GPU")
        if way == "graphs" and not device.startswith("cuda"):
            raise RuntimeError("CUDA graphs need a GPU")
        torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.images = torch.from_numpy(images).to(self.device)
        self.labels = torch.from_numpy(labels).to(self.device)
        self.weights = [torch.from_numpy(w) for w in weights]
        self.versions = {"torch": str(torch.__version__)}

    def setup(
        self, batch_size: int, optimizer: str, rate: float, dropout: float, precision: str
    ) -> None:
        """Make net, optimizer and training step."""
        torch = self.torch
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        dtype = torch.float64 if precision == "float64" else torch.float32
        self.images = self.images.to(dtype)
        sizes = [self.weights[0].shape[0], *(b.shape[0] for b in self.weights[1::2])]
        layers: list[Any] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            layer = torch.nn.Linear(inputs, outputs, dtype=dtype)
            with torch.no_grad():
                layer.weight.copy_(self.weights[2 * i].T)
                layer.bias.copy_(self.weights[2 * i + 1])
            layers.append(layer)
            if i < len(sizes) - 2:
                layers.append(torch.nn.ReLU())
                layers += [torch.nn.Dropout(dropout)] if dropout else []
        net = torch.nn.Sequential(*layers).to(self.device)
        make = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        options: dict[str, Any] = {"momentum": 0.9} if optimizer == "momentum" else {}
        if optimizer == "adam":
            options = {"eps": 1e-7, "capturable": self.way == "graphs"}
        # One kernel for all parameters: the fastest of PyTorch's three ways.
        optimizer_ = make(net.parameters(), lr=rate, fused=True, **options)
        cross_entropy = torch.nn.functional.cross_entropy
        half = precision == "bfloat16"

        def forward(x: Any) -> Any:
            if not half:
                return net(x)
            # Without the cache of weights in bfloat16, which must not outlive a captured step.
            keep = self.way != "graphs"
            with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=keep):
                return net(x)

        def loss_of(x: Any, y: Any) -> Any:
            return cross_entropy(forward(x), y)

        # Compiled are the passes forward and backward; the optimizer has kernels of its own.
        compiling: dict[str, Any] = {"mode": "max-autotune"} if self.way == "autotune" else {}
        compiled = self.way in ("compile", "autotune")
        if compiled:  # after a few nets it would compile no more, and run this one eagerly
            torch._dynamo.reset()
        self.loss_of = torch.compile(loss_of, **compiling) if compiled else loss_of
        self.forward = torch.compile(forward, **compiling) if compiled else forward
        self.net, self.optimizer = net, optimizer_
        self.batch_size = batch_size
        self.graphs: dict[int, Any] = {}
        self.order: Any = None

    def epoch(self, steps: int, shuffle: bool) -> float:
        """Train `steps` steps; return the mean loss."""
        torch, size = self.torch, self.batch_size
        rows = steps * size
        order = (torch.randperm if shuffle else torch.arange)(rows, device=self.device)
        self.net.train()
        if self.way == "graphs":
            return self._graphed(order, steps)
        total = torch.zeros((), dtype=self.images.dtype, device=self.device)
        for start in range(0, rows, size):
            batch = order[start : start + size]
            x = self.images.index_select(0, batch)
            y = self.labels.index_select(0, batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss_of(x, y)
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return float(total) / steps

    def _graphed(self, order: Any, steps: int) -> float:
        """Train by replaying graphs of `GRAPH_STEPS` steps and, for the rest, of one."""
        torch = self.torch
        if not self.graphs or self.order.shape != order.shape:
            self.graphs.clear()
            self.order = order.clone()  # the graphs read these, wherever they are replayed
            self.offset = torch.zeros((), dtype=torch.int64, device=self.device)
            self.within = torch.arange(self.batch_size, device=self.device)
            self.total = torch.zeros((), dtype=self.images.dtype, device=self.device)
            self._capture(min(GRAPH_STEPS, steps))
        self.order.copy_(order)
        self.offset.zero_()
        self.total.zero_()
        while steps:
            size = max(n for n in self.graphs if n <= steps)
            self.graphs[size].replay()
            steps -= size
        return float(self.total) * self.batch_size / len(order)

    def _capture(self, most: int) -> None:
        """Capture graphs of `most` steps and of one; weights are afterwards what they were."""
        torch = self.torch
        before = [p.detach().clone() for p in self.net.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries take their workspace, the optimizer makes its state
                self.offset.zero_()
                self._graph_step()
        torch.cuda.current_stream().wait_stream(side)
        for size in {1, most}:
            self.offset.zero_()
            self.optimizer.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(size):
                    self._graph_step()
            self.graphs[size] = graph
        with torch.no_grad():
            for parameter, values in zip(self.net.parameters(), before, strict=True):
                parameter.copy_(values)
            for state in self.optimizer.state.values():
                for value in state.values():
                    if torch.is_tensor(value):
                        value.zero_()

    def _graph_step(self) -> None:
        batch = self.order.index_select(0, self.offset + self.within)
        x, y = self.images.index_select(0, batch), self.labels.index_select(0, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(x, y)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()
        self.offset += self.batch_size

    def predict(self, rows: int, start: int = 0) -> Any:
        """Return probabilities."""
        torch, parts, end = self.torch, [], start + rows
        self.net.eval()
        with torch.inference_mode():
            for at in range(start, end, BATCH):
                logits = self.forward(self.images[at : min(at + BATCH, end)])
                parts.append(torch.softmax(logits, 1, dtype=self.images.dtype).cpu())
        return torch.cat(parts).numpy()
