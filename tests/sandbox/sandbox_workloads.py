"""What honest student code does with PyTorch, one small program each. Every one must run in a sealed worker."""
from __future__ import annotations

WORKLOADS = {
    "matmul": "import torch; result = torch.randn(64, 64) @ torch.randn(64, 64)",
    "attention": """
import torch, torch.nn.functional as F
q, k, v = (torch.randn(2, 4, 16, 8, requires_grad=True) for _ in range(3))
F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
((q @ k.mT / 8**0.5).softmax(-1) @ v).square().mean().backward()
""",
    "attention module": """
import torch
layer = torch.nn.TransformerEncoderLayer(16, 4, batch_first=True)
layer(torch.randn(2, 5, 16)).sum().backward()
layer.eval()
with torch.no_grad(): layer(torch.randn(2, 5, 16))
""",
    "convolution": """
import torch
from torch import nn
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 3, 2))
net(torch.randn(4, 3, 32, 32, requires_grad=True)).sum().backward()
torch.nn.functional.unfold(torch.randn(1, 3, 8, 8), 3)
""",
    "convolution float64": """
import torch
x = torch.randn(2, 3, 9, 9, dtype=torch.float64, requires_grad=True)
torch.nn.functional.conv2d(x, torch.randn(4, 3, 3, 3, dtype=torch.float64), stride=2, groups=1).sum().backward()
""",
    "recurrence": """
import torch
for kind in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM):
    out, _ = kind(8, 16, num_layers=2, bidirectional=True)(torch.randn(7, 3, 8, requires_grad=True))
    out.sum().backward()
""",
    "linear algebra": """
import torch
a = torch.randn(12, 12, dtype=torch.float64, requires_grad=True)
u, s, v = torch.linalg.svd(a); s.sum().backward()
torch.linalg.qr(a); torch.linalg.eigh(a @ a.T); torch.linalg.eig(a); torch.linalg.solve(a, a); torch.linalg.inv(a)
torch.linalg.cholesky(a @ a.T + 20 * torch.eye(12)); torch.linalg.matrix_exp(a); torch.linalg.slogdet(a)
""",
    "fourier": """
import torch
torch.fft.irfft(torch.fft.rfft(torch.randn(33, requires_grad=True)), n=33).sum().backward()
torch.fft.fft2(torch.randn(17, 12)); torch.stft(torch.randn(400), 64, return_complex=True, window=torch.hann_window(64))
""",
    "explicit cotangent": """
import torch
x = torch.randn(4, requires_grad=True)
torch.autograd.grad(x.sin(), x, torch.randn(4), create_graph=True)[0].sum().backward()
""",
    "vmap": """
import torch
result = torch.func.vmap(lambda x: x @ x)(torch.randn(5, 4))
torch.vmap(lambda x: x + torch.rand(2), randomness="different")(torch.randn(5, 2))
""",
    "gradcheck": """
import torch
x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
assert torch.autograd.gradcheck(torch.tanh, (x,)) and torch.autograd.gradgradcheck(torch.tanh, (x,))
""",
    "custom function": """
import torch
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g
x = torch.randn(4, dtype=torch.float64, requires_grad=True)
assert torch.autograd.gradcheck(Square.apply, (x,))
""",
    "jacobian": """
import torch
x = torch.randn(3, dtype=torch.float64)
torch.autograd.functional.jacobian(torch.sin, x); torch.autograd.functional.hessian(lambda x: x.sin().sum(), x)
""",
    "autocast": """
import torch
with torch.autocast("cpu", dtype=torch.bfloat16):
    out = torch.nn.Linear(16, 16)(torch.randn(4, 16))
    attended = torch.nn.functional.scaled_dot_product_attention(*(torch.randn(1, 2, 8, 8),) * 3)
out.float().sum().backward()
assert out.dtype is torch.bfloat16
""",
    "half precision": """
import torch
for dtype in (torch.float16, torch.bfloat16):
    w = torch.randn(64, 64).to(dtype).requires_grad_()
    torch.softmax(w @ w, -1).sum().backward()
torch.nn.functional.conv2d(torch.randn(1, 3, 8, 8).bfloat16(), torch.randn(4, 3, 3, 3).bfloat16())
""",
    "integers and sparse": """
import torch
torch.ones(3, 3).to_sparse() @ torch.ones(3, 3)
torch.zeros(5).index_add_(0, torch.tensor([1, 1]), torch.ones(2)); torch.arange(9).unique()
torch.randint(9, (4,)).bincount(); torch.randn(20_000).sort(); torch.randn(50, 50).topk(5); torch.randperm(100)
torch.cdist(torch.randn(9, 3), torch.randn(9, 3))
torch.einsum("bij,bjk->bik", torch.randn(2, 3, 4), torch.randn(2, 4, 5)); torch.multinomial(torch.ones(5), 3)
import torch.nn.functional as F
F.embedding_bag(torch.tensor([[0, 1]]), torch.randn(3, 4))
F.grid_sample(torch.randn(1, 1, 4, 4), torch.rand(1, 2, 2, 2), align_corners=False)
F.interpolate(torch.randn(1, 1, 4, 4), scale_factor=2, mode="bilinear")
F.ctc_loss(torch.randn(6, 1, 4).log_softmax(-1), torch.tensor([[1, 2]]), torch.tensor([6]), torch.tensor([2]))
""",
    "distributions": """
import torch
from torch import distributions as d
d.Normal(0.0, 1.0).rsample((3,)); d.Categorical(torch.ones(4)).log_prob(torch.tensor(1))
d.kl_divergence(d.Normal(0.0, 1.0), d.Normal(1.0, 1.0))
""",
    "modules": """
import copy, io, torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.register_buffer("count", torch.zeros(()))
    def forward(self, x):
        return self.layer(x)
net = Net(); clone = copy.deepcopy(nn.Linear(3, 3)); repr(net), str(torch.randn(300))
net.load_state_dict(net.state_dict()); nn.utils.clip_grad_norm_(net.parameters(), 1.0)
nn.utils.rnn.pad_sequence([torch.ones(2), torch.ones(3)]); nn.init.orthogonal_(torch.empty(4, 4))
net.train()(torch.randn(2, 4)).sum().backward(); net.eval().double()
nn.CrossEntropyLoss()(torch.randn(3, 4), torch.tensor([0, 1, 2])); nn.Dropout(0.5)(torch.ones(9))
""",
    "save to memory": """
import io, torch
buffer = io.BytesIO(); torch.save({"w": torch.ones(3)}, buffer); buffer.seek(0)
result = torch.load(buffer)["w"]
""",
    "data loader": """
import torch
from torch.utils.data import DataLoader, TensorDataset
result = sum(len(x) for (x,) in DataLoader(TensorDataset(torch.randn(10, 2)), batch_size=3, shuffle=True))
""",
    "numpy": """
import numpy as np, torch
rng = np.random.default_rng(0)
a = rng.normal(size=(9, 9)); np.linalg.svd(a); np.linalg.solve(a, a); np.fft.fft(a)
np.random.seed(0); np.random.randn(3); np.sort(rng.random(10_000)); rng.permutation(5)
np.einsum("ij,jk", a, a)
torch.from_numpy(a).numpy(); repr(a); np.polynomial.Polynomial([1, 2])(3); np.ma.array([1])
""",
    "einops": """
import torch, numpy as np
from einops import rearrange, reduce, repeat, einsum, pack
from einops.layers.torch import Rearrange
for x in (torch.randn(2, 6, 4), np.ones((2, 6, 4))):
    rearrange(x, "b (h d) n -> b h n d", h=2); reduce(x, "b c n -> b c", "mean"); repeat(x, "b c n -> b c n k", k=2)
    einsum(x, x, "b c n, b d n -> b c d"); pack([x, x], "* c n")
Rearrange("b c n -> b n c")(torch.randn(2, 6, 4))
""",
    "deep recursion": """
import sys
sys.setrecursionlimit(20_000)
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
result = depth(15_000)
try:
    sys.setrecursionlimit(1000); depth(5000)
except RecursionError: pass
else: raise AssertionError
""",
    "long graph": """
import torch
x = y = torch.ones(1, requires_grad=True)
for _ in range(20_000): y = y + 1
y.backward(); del y
""",
    "big allocations": """
import gc, torch
for _ in range(3):
    x = torch.ones(64 << 20); x.add_(1); del x
grown = bytearray()
for _ in range(40): grown += bytes(1 << 20)
data = [object() for _ in range(1_000_000)]; del data, grown; gc.collect()
""",
    "memory error": """
import torch
try: torch.ones(1 << 40)
except RuntimeError as error: result = str(error)
try: bytearray(1 << 40)
except MemoryError: pass
""",
    "time and randomness": """
import time, random, os, secrets, uuid, torch, datetime
time.time(); time.perf_counter(); time.monotonic(); time.process_time(); time.thread_time(); time.sleep(0.001)
time.strftime("%Y"); time.localtime(); datetime.datetime.now(); random.random(); random.seed(); os.urandom(8)
random.SystemRandom().random()
torch.seed(); torch.manual_seed(3); torch.random.fork_rng().__enter__(); hash("x")
""",
    "errors and warnings": r"""
import warnings, traceback, sys, logging
warnings.warn("careful"); print("hello"); print("oops", file=sys.stderr); "\N{GREEK SMALL LETTER ALPHA}"
try: 1 / 0
except ZeroDivisionError: traceback.format_exc(); traceback.print_exc()
try: import torch; torch.ones(2) @ torch.ones(3)
except RuntimeError as error: result = str(error)
logging.warning("x")
import inspect; inspect.signature(print)
try: input()
except EOFError: pass
""",
    "standard library": """
import abc, bisect, cmath, collections, contextlib, copy, dataclasses, decimal, enum, fractions, functools, heapq
import itertools, json, math, numbers, operator, re, statistics, string, textwrap, types, typing
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: "float" = 2.0
dataclasses.replace(Point(1), x=3); typing.get_type_hints(Point); collections.namedtuple("P", "x y")(1, 2)
re.compile(r"(?i)a+\\w").match("aab"); decimal.Decimal("1.1") / 3; json.loads(json.dumps({"a": 1}))
statistics.NormalDist().cdf(1); statistics.mean([1, 2]); fractions.Fraction(1, 3)
functools.lru_cache(None)(len)("a"); "x".encode("utf-16"), "é".encode("latin-1")
""",
    "threads asked for": """
import torch, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    torch.set_num_threads(4)
assert seen and torch.get_num_threads() == 1
torch.randn(512, 512) @ torch.randn(512, 512)
""",
}

WITH_COMPILER = {
    "optimizers": """
import torch
w = torch.nn.Parameter(torch.ones(3))
for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad):
    o = kind([w], lr=0.1); o.zero_grad(); w.square().sum().backward(); o.step()
    s = torch.optim.lr_scheduler.CosineAnnealingLR(o, 10); s.step(); o.load_state_dict(o.state_dict())
class Mine(torch.optim.Optimizer):
    def __init__(self, params): super().__init__(params, {})
    def step(self):
        with torch.no_grad():
            for g in self.param_groups:
                for p in g["params"]: p.sub_(p.grad)
Mine([w]).step()
torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 2)).update_parameters(torch.nn.Linear(2, 2))
o = torch.optim.LBFGS([w]); o.step(lambda: w.square().sum())
""",
    "function transforms": """
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
x = torch.randn(3, dtype=torch.float64)
f = lambda x: (x.sin() * x).sum()
grad(f)(x); vmap(grad(f))(torch.randn(4, 3)); jacrev(torch.sin)(x); jacfwd(torch.sin)(x); hessian(f)(x)
jvp(f, (x,), (x,)); vjp(f, x)[1](torch.tensor(1.0, dtype=torch.float64))
net = torch.nn.Linear(3, 2).double()
functional_call(net, dict(net.named_parameters()), (x,))
""",
    "checkpointing": """
import torch
from torch.utils.checkpoint import checkpoint
x = torch.randn(4, requires_grad=True)
for reentrant in (False, True): checkpoint(torch.sin, x, use_reentrant=reentrant).sum().backward()
""",
}
