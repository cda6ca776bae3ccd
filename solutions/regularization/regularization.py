# %% [markdown]
# # Regularization
#
# A network with more parameters than examples can learn its training set by heart. Training then goes on
# improving a number that nobody cares about, while the error on new data, the one that counts, turns and rises.
# What is missing is a reason to prefer one of the many functions that fit: a *bias* towards the simple, the
# smooth, the insensitive. Whatever supplies one is called regularization.
#
# The methods have little in common but their purpose. **Noise in the network** (dropout, stochastic depth) keeps
# units from relying on each other. **Weight decay** pulls every weight towards zero, so that only those stay large
# that the data keep pushing. **Augmentation** says what must not matter: a cat, mirrored, is a cat. **Softer
# labels** forbid boundless confidence, and **early stopping** ends the training at the moment when it begins to
# harm. Most are a few lines of code, and most of these lines are easy to get wrong in a way that no training
# curve betrays: the network learns, only not as well as it could.
#
# You will build seven of them, each independent of the others. The cell below an exercise checks your code and
# shows the smallest example on which it fails; the pictures after it are drawn by your own code. In a cell of your
# own, `hint("inverted_dropout")` gives a hint, then one more each time, and `progress()` shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `inverted_dropout` | ★ | 20 | noise on single units; training and evaluation differ |
# | `drop_path` | ★ | 15 | noise on whole residual branches |
# | `adamw_step` | ★★ | 60 | weight decay that the adaptive step does not distort |
# | `mixup_cutmix` | ★★ | 40 | new examples between old ones, labels included |
# | `paired_augment` | ★★★ | 75 | one geometry for image, mask and boxes |
# | `early_stopping` | ★★ | 50 | a decision, and a copy that is a copy |
# | `label_smoothing_ce` | ★★ | 45 | targets that are not quite certain |
#
# ### Notation, and rules for every exercise
#
# $B$ examples, $C$ channels, $H \times W$ pixels, $K$ classes. Shapes are written `(B, C, H, W)`; `(B, *)` stands
# for any number of further axes, also none. Every size is at least 1, unless the contract says otherwise.
#
# - `float` means float32 or float64, all tensors of a call alike. Compute in that dtype and return it.
# - `bool` masks are **True = keep**.
# - Randomness is an argument: you are given uniform numbers, masks or permutations and never draw any. Only the
#   layer `Dropout` draws, from its own generator.
# - Inputs may be views of other tensors with any strides. Never change them, and remember nothing between calls.
# - Gradients must reach every float argument, unless the contract calls it a constant.
# - Where a contract says `ValueError`, raise it. Inputs that it does not speak of are not tested.
# - `F.dropout`, `torch.optim.AdamW` and `F.cross_entropy` are what you are about to build: keep them to compare
#   your results with.

# %% role="setup"
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etude import check, hint, progress


class Zoo(nn.Module):
    """A model with parameters of every kind, to sort in exercise 3. It computes nothing."""

    def __init__(self, width: int, blocks: int = 2, tied: bool = False, frozen: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(5, width)
        self.conv = nn.Conv1d(width, width, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(blocks))
        self.gain = nn.Parameter(torch.ones(width))
        self.temperature = nn.Parameter(torch.ones(()))
        self.position_bias = nn.Parameter(torch.zeros(3, width))
        self.head = nn.Linear(width, 5, bias=False)
        if tied:  # one parameter under two names
            self.head.weight = self.embedding.weight
        if frozen:
            self.conv.requires_grad_(False)


def rehearse(stopper, metrics: list[float]) -> dict:
    """A training run without the training, to try an early-stopping object of exercise 6.

    Before step i every number in the state of a small model is overwritten with i + 1, as an optimizer overwrites
    weights; then `stopper.step(metrics[i], model)` is asked. Training goes on in the same way, whatever it answers.
    In the end `restore` is called, the weights are spoilt once more, and `restore` is called again.
    """
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    before = list(model.parameters())

    def overwrite(value: int) -> None:
        with torch.no_grad():
            for entry in model.state_dict().values():
                entry.fill_(value)

    answers, touched = [], False
    for i, metric in enumerate(metrics):
        overwrite(i + 1)
        answers.append(stopper.step(metric, model))
        touched |= any(bool((entry != i + 1).any()) for entry in model.state_dict().values())
    overwrite(-1)
    first = stopper.restore(model)
    restored = {name: entry.detach().clone() for name, entry in model.state_dict().items()}
    overwrite(-2)
    second = stopper.restore(model)
    if type(first) is not int or type(second) is not int:
        raise TypeError(f"restore returned {first!r}; it is to return the number of a step")
    same = all(one is other for one, other in zip(before, model.parameters(), strict=True))
    return {"answers": torch.tensor([bool(answer) for answer in answers]),
            "restore returned": torch.tensor([first, second]),
            "restored": restored, "restored again": model.state_dict(),
            "step changed the model": torch.tensor(touched), "parameters are the same objects": torch.tensor(same)}

# %% [markdown]
# The picture shows one step of training, and where each method acts. Numbers are those of the exercises.

# %%
import matplotlib.pyplot as plt

from etude.plots import BLUE, GREY, INK, ORANGE, draw_graph, light, show_maps

light()
torch.set_num_threads(1)  # the tensors are small: several threads would wait for each other
PURPLE, TEAL, GOLD = "#440154", "#21918c", "#d9a400"
fig, ax = plt.subplots(figsize=(11.5, 3.4), layout="constrained")
draw_graph(ax, "one step of training", {
    "data": (0, 1.6, "examples $x, y$", BLUE), "augment": (3, 1.6, "4 mix · 5 augment", ORANGE),
    "net": (6, 1.6, "network", GREY), "logits": (9, 1.6, "logits $z$", BLUE),
    "loss": (12, 1.6, "7 smooth loss", ORANGE),
    "noise": (6, 3.0, "1 units · 2 paths", ORANGE), "weights": (6, 0.1, "weights $p$", BLUE),
    "step": (9, 0.1, "3 AdamW step", ORANGE), "gradient": (12, 0.1, "gradient $g$", BLUE),
    "held": (0, 0.1, "held-out data", BLUE), "stop": (3, 0.1, "6 stop? copy", ORANGE),
}, {"data": ["augment"], "augment": ["net"], "noise": ["net"], "net": ["logits"], "logits": ["loss"],
    "loss": ["gradient"], "gradient": ["step"], "step": ["weights"], "weights": ["net", "stop"], "held": ["stop"]},
    width=2.3)
plt.show()

# %% [markdown]
# ## 1. Inverted dropout  ★ · 20 minutes
#
# In training, dropout sets every activation to zero with probability $p$, independently of all others (Srivastava
# et al. 2014, §4). A unit that may vanish at any moment cannot be relied upon; the network has to spread what it
# knows. One may also see it as training $2^n$ networks that share their weights, and averaging them at the end.
#
# In the paper, $p$ is the probability to *keep* a unit, and the weights are multiplied by it at test time, so that
# the next layer receives the input that it has seen on average in training. Today the correction is made in
# training instead, and evaluation is left alone: *inverted* dropout. With $p$ the probability to **drop**, as in all
# libraries, and with uniform numbers $u_i \in [0, 1)$,
#
# $$ y_i = \begin{cases} x_i / (1 - p) & \text{if } u_i \ge p \\ 0 & \text{otherwise} \end{cases}
#    \quad\text{in training}, \qquad y = x \quad\text{in evaluation.} \tag{1} $$
#
# $P(u_i \ge p) = 1 - p$, so $\mathbb{E}[y_i] = x_i$; the variance of $y_i$ is $x_i^2\, p / (1 - p)$.
#
# As the numbers $u$ are given, the function is deterministic and can be tested to the last digit. The layer around
# it draws fresh numbers for every call, from its own generator: two runs with equal seeds give equal networks,
# whatever other code draws in between.
#
# *Watch for* $p = 1$, where (1) reads "$0$ everywhere" and a careless program reads $0 \cdot \infty$, if not in the
# values then in the gradient; for the side on which $u_i = p$ falls; and for the mode of the layer.

# %% [markdown] hints="inverted_dropout"
# 1. A comparison gives a bool tensor. Multiplying by it sets to zero what was dropped, in the values and in the
#    gradient.
# 2. The survivors are divided by the probability of surviving. For p = 1 there are none, and nothing may be divided.
# 3. In the layer, `self.training` is True after `train()` and False after `eval()`; `torch.rand` takes
#    `generator=` and `dtype=`, and gives numbers in [0, 1).

# %% exercise="inverted_dropout"
def dropout(x: Tensor, p: float, training: bool, u: Tensor) -> Tensor:
    """Inverted dropout with given randomness: Srivastava et al. (2014), §4, rescaled in training; our Eq. (1).

    x         (*) float, finite, any number of axes
    p         float in [0, 1]: the probability to DROP an element
    training  bool; False returns x as it is (the same object is allowed)
    u         (*) float like x, in [0, 1), a constant: x[i] is kept where u[i] >= p, also at equality

    Returns (*) float. For p = 1 the output is 0 and so is its gradient; for p = 0 the output is x.
    Raises ValueError if p is not in [0, 1], in both modes.
    """
    ### BEGIN SOLUTION
    if not 0 <= p <= 1:
        raise ValueError(f"a probability of {p}")
    if not training:
        return x
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * (u >= p) * scale
    ### END SOLUTION


class Dropout(nn.Module):
    """Eq. (1) as a layer that draws its own numbers.

    p          float in [0, 1], else ValueError when the layer is made
    generator  torch.Generator: the only source of randomness. Two layers whose generators have the same seed give
               the same outputs; the global random state is not used.

    state_dict: empty.
    """

    def __init__(self, p: float, generator: torch.Generator):
        ### BEGIN SOLUTION
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"a probability of {p}")
        self.p, self.generator = p, generator
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (*) float -> (*) float. In training mode each call drops other elements; in evaluation mode it is x."""
        ### BEGIN SOLUTION
        u = torch.rand(x.shape, generator=self.generator, dtype=x.dtype)
        return dropout(x, self.p, self.training, u)
        ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left a layer of 16 × 16 ones at three rates: the more is dropped, the stronger the
# rest. On the right the mean of the first $n$ outputs for $x = 1$. It settles at 1, within the band
# $1 \pm 2\sqrt{p / ((1-p)\,n)}$ that the variance promises.

# %%
rates = (0.2, 0.5, 0.8)
ones = torch.ones(16, 16)
show_maps([Dropout(p, torch.Generator().manual_seed(0))(ones) for p in rates],
          [f"p = {p}: 0 or {1 / (1 - p):g}" for p in rates], low=0, high=5)

n = torch.arange(1, 2001)
fig, ax = plt.subplots(figsize=(7.5, 3), layout="constrained")
for p, colour, style in zip(rates, (PURPLE, TEAL, GOLD), ("-", "--", ":"), strict=True):
    layer = Dropout(p, torch.Generator().manual_seed(1))
    ax.plot(n, layer(torch.ones(2000)).cumsum(0) / n, style, color=colour, label=f"p = {p}")
    half = 2 * (p / (1 - p) / n) ** 0.5
    ax.fill_between(n, 1 - half, 1 + half, color=colour, alpha=0.12)
ax.set(title="mean of the first n outputs for x = 1", xlabel="n", xscale="log", ylim=(0, 2.5))
ax.legend()
plt.show()

# %% [markdown]
# ## 2. Stochastic depth  ★ · 15 minutes
#
# A residual network adds to its signal what a branch $f_\ell$ computes. Huang et al. (2016, Eq. 2) drop whole
# branches in training, for each **example** anew, so that the network that is trained is shorter than the one that
# is used. With $b \in \{0, 1\}$ for each example, rescaled like (1),
#
# $$ h_{\ell} = h_{\ell - 1} + \mathrm{DropPath}\bigl(f_\ell(h_{\ell-1})\bigr), \qquad
#    \mathrm{DropPath}(x)_i = \frac{b_i}{1 - p}\, x_i \tag{2} $$
#
# where $i$ numbers the examples, and an example is kept or dropped with all its channels and positions. (The paper
# rescales at test time, as it did for dropout.)
#
# Early layers extract features that all later ones need; they should be dropped rarely. The paper's *linear decay
# rule* (Eq. 4), written for the probability to drop, has the rate grow from almost nothing to $p_L$ at the last of
# $L$ branches:
#
# $$ p_\ell = \frac{\ell}{L}\, p_L, \qquad \ell = 1, \dots, L \tag{3} $$
#
# Libraries disagree: some let the rates begin at exactly 0, dividing by $L - 1$. We follow the paper.
#
# *Watch for* the axes that the mask lacks, and again for $p = 1$.

# %% [markdown] hints="drop_path"
# 1. The mask has one axis, x has one or more. A view of shape (B, 1, ..., 1) meets all of x's axes, however many
#    there are.
# 2. In the list of rates, the first is not 0 and the last is p_last itself.

# %% exercise="drop_path"
def drop_path(x: Tensor, p: float, keep: Tensor, training: bool) -> Tensor:
    """Drops the residual branch of whole examples: Huang et al. (2016), Eq. 2, rescaled in training; our Eq. (2).

    x         (B, *) float, finite: what the branch computed
    p         float in [0, 1]: the probability with which `keep` was drawn False
    keep      (B,) bool, True = the example keeps its branch
    training  bool; False returns x as it is (the same object is allowed)

    Returns (B, *) float. For p = 1 the output is 0, with gradient 0, whatever `keep` says.
    Raises ValueError if p is not in [0, 1], in both modes.
    """
    ### BEGIN SOLUTION
    if not 0 <= p <= 1:
        raise ValueError(f"a probability of {p}")
    if not training:
        return x
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * keep.reshape([-1] + [1] * (x.dim() - 1)) * scale
    ### END SOLUTION


def drop_rates(depth: int, p_last: float) -> list[float]:
    """The linear decay rule: Huang et al. (2016), Eq. 4, as probabilities to drop; our Eq. (3).

    depth   int >= 1: the number L of branches
    p_last  float in [0, 1]: the rate of the last branch

    Returns the L rates as a list of floats, that of the first branch (l = 1) first.
    """
    ### BEGIN SOLUTION
    return [p_last * level / depth for level in range(1, depth + 1)]
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Which of 24 branches did each of 60 examples keep, with $p_L = 0.5$? The map thins out towards
# the right. The histogram shows how deep the networks were that got trained; their mean depth is
# $L - p_L (L + 1) / 2 = 17.75$, about three quarters of the cost.

# %%
depth, p_last, examples = 24, 0.5, 2000
generator = torch.Generator().manual_seed(2)
paths = []
for p in drop_rates(depth, p_last):
    keep = torch.rand(examples, generator=generator) >= p
    paths.append(drop_path(torch.ones(examples), p, keep, True))
kept = torch.stack(paths, dim=1) > 0
fig, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", width_ratios=[1.4, 1])
axes[0].imshow(kept[:60], cmap="cividis", aspect="auto", interpolation="nearest",
               extent=(0.5, depth + 0.5, 60, 0))
axes[0].set(title="kept (bright) and dropped (dark)", xlabel="branch", ylabel="example")
axes[1].hist(kept.sum(1), bins=torch.arange(8, 26) - 0.5, color=TEAL, edgecolor="white")
axes[1].axvline(depth - p_last * (depth + 1) / 2, color=INK, linestyle="--")
axes[1].set(title=f"branches kept; mean {kept.sum(1).float().mean():.2f}", xlabel="depth of the network")
plt.show()
strength = torch.stack(paths, dim=1).mean(0)
print(f"mean output of a branch of ones: between {strength.min():.2f} and {strength.max():.2f}")

# %% [markdown]
# ## 3. Weight decay, decoupled  ★★ · 60 minutes
#
# The oldest regularizer adds $\frac{w}{2} \lVert p \rVert^2$ to the loss. Its gradient is $w\,p$, so a step of
# plain gradient descent multiplies every weight by $1 - \eta w$: it *decays*. For an adaptive method the two are
# not the same. Adam divides each coordinate of the gradient by its typical size; a penalty that is part of the
# gradient is divided, too, and the weights with the **largest** gradients are then regularized the **least**.
# Loshchilov & Hutter (2019, Alg. 2) take the decay out of the gradient and apply it to the weights themselves.
#
# With the gradient $g$ of step $t = 1, 2, \dots$, the running means
#
# $$ m' = \beta_1 m + (1 - \beta_1)\, g, \qquad v' = \beta_2 v + (1 - \beta_2)\, g^2 \tag{4} $$
#
# begin at 0 and are too small at first, by the factors $1 - \beta^t$. Dividing by these gives $\hat m$ and
# $\hat v$, and with the learning rate $\eta$ and the decay $w$ the step is
#
# $$ \hat m = \frac{m'}{1 - \beta_1^t}, \qquad \hat v = \frac{v'}{1 - \beta_2^t}, \qquad
#    p' = p - \eta\, w\, p - \eta\, \frac{\hat m}{\sqrt{\hat v} + \varepsilon} \tag{5} $$
#
# *Conventions.* $\varepsilon$ is added to the root of the *corrected* $\hat v$. The paper multiplies its decay
# $\lambda$ by the schedule alone; we multiply it by the learning rate, as PyTorch does, so $\eta w$ is the paper's
# $\eta_t \lambda$. Both terms of the step use the old $p$.
#
# *What not to decay.* Decay is meant for matrices, which multiply the signal. Pulling a bias or the weight of a
# normalization towards 0 has no such meaning. A common rule goes by the number of axes: **parameters with two or
# more axes decay, the others do not.** (Others go by the kind of layer and exempt embeddings, too.)
#
# *Watch for* the place of $\varepsilon$ when gradients are tiny, $10^{-9}$ say, for $t$, and for results that
# carry the graph of the whole past with them.

# %% [markdown] hints="adamw_step"
# 1. Write down Eqs. (4) and (5) line by line, with new tensors on the left. The caller keeps p, m and v.
# 2. The corrections use t as it is given: at the first step t = 1, and they undo the factors 1 - β exactly.
# 3. p may be a parameter that requires a gradient. An optimizer's step is not part of the loss: where is the
#    right place to switch gradients off?
# 4. `model.named_parameters()` lists each parameter once, under its first name. What else does the contract ask for?

# %% exercise="adamw_step"
def adamw_step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, betas: tuple[float, float],
               eps: float, wd: float) -> tuple[Tensor, Tensor, Tensor]:
    """One step of AdamW: Loshchilov & Hutter (2019), Alg. 2, with decay lr * wd as in PyTorch; our Eqs. (4)-(5).

    p, g    (*) float: parameter and gradient; p may require a gradient
    m, v    (*) float: the running means before this step, v >= 0
    t       int >= 1: the number of this step, 1 for the first one
    lr, wd  float >= 0: learning rate and weight decay
    betas   (beta_1, beta_2), floats in [0, 1)
    eps     float > 0

    Returns (p', m', v'), new tensors (*) float, none of which requires a gradient. Nothing is changed in place.
    """
    ### BEGIN SOLUTION
    beta1, beta2 = betas
    with torch.no_grad():
        new_m = beta1 * m + (1 - beta1) * g
        new_v = beta2 * v + (1 - beta2) * g.square()
        m_hat = new_m / (1 - beta1 ** t)
        v_hat = new_v / (1 - beta2 ** t)
        new_p = p - lr * wd * p - lr * m_hat / (v_hat.sqrt() + eps)
    return new_p, new_m, new_v
    ### END SOLUTION


def decay_param_groups(model: nn.Module) -> tuple[list[str], list[str]]:
    """The names of the parameters that decay, and of those that do not.

    model  nn.Module, of any depth; a parameter may be shared (one tensor under several names) or frozen
           (requires_grad is False)

    Returns (decay, no_decay), two lists of names as `model.named_parameters()` has them, in its order. Every
    parameter that requires a gradient is in exactly one list, once; a shared one under its first name. It is in
    `decay` if it has two or more axes. Frozen parameters are in neither list.
    """
    ### BEGIN SOLUTION
    trained = [(name, value.dim()) for name, value in model.named_parameters() if value.requires_grad]
    return [name for name, axes in trained if axes >= 2], [name for name, axes in trained if axes < 2]
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Three weights start at 1 and see nothing but noise: gradients of mean 0 whose sizes are
# 0.01, 1 and 100. Nothing in the data asks for these weights, so they should vanish. On the left the decay is
# decoupled: all three follow $(1 - \eta w)^t$ (dotted). On the right the same decay is added to the gradient, and
# Adam divides it by the gradient's size: the weight with the large gradients hardly decays at all, and the one with
# the small gradients, where the penalty *is* most of the gradient, marches to zero at the full length of a step.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", sharey=True)
scales, lr, wd, steps = torch.tensor([0.01, 1.0, 100.0]), 0.002, 1.0, 1500
for ax, title, decoupled in ((axes[0], "decoupled (AdamW)", True),
                             (axes[1], "part of the gradient (Adam with L2)", False)):
    generator = torch.Generator().manual_seed(3)
    p, m, v = torch.ones(200, 3), torch.zeros(200, 3), torch.zeros(200, 3)
    path = []
    for t in range(1, steps + 1):
        g = scales * torch.randn(200, 3, generator=generator)
        if decoupled:
            p, m, v = adamw_step(p, g, m, v, t, lr, (0.9, 0.999), 1e-8, wd)
        else:
            p, m, v = adamw_step(p, g + wd * p, m, v, t, lr, (0.9, 0.999), 1e-8, 0.0)
        path.append(p.mean(0))
    for i, (colour, style) in enumerate(((PURPLE, "-"), (TEAL, "--"), (GOLD, "-."))):
        ax.plot(torch.stack(path)[:, i], style, color=colour, linewidth=2, label=f"gradients of size {scales[i]:g}")
    ax.plot((1 - lr * wd) ** torch.arange(steps), ":", color=INK, linewidth=3)
    ax.set(title=title, xlabel="step")
axes[0].set_ylabel("weight, mean of 200 runs")
axes[0].legend()
plt.show()
print("decay:   ", *decay_param_groups(Zoo(4, blocks=1))[0])
print("no decay:", *decay_param_groups(Zoo(4, blocks=1))[1])

# %% [markdown]
# ## 4. Mixup and CutMix  ★★ · 40 minutes
#
# Between two training examples the network may do as it likes. Zhang et al. (2018, §2) ask it to be linear there.
# Two examples, and their one-hot labels, are mixed with the same weight; in a batch the partner of example $i$ is
# number $\pi(i)$ of a permutation $\pi$:
#
# $$ \tilde x_i = \lambda\, x_i + (1 - \lambda)\, x_{\pi(i)}, \qquad
#    \tilde y_i = \lambda\, y_i + (1 - \lambda)\, y_{\pi(i)} \tag{6} $$
#
# Mixed photographs look like double exposures. CutMix (Yun et al. 2019, Eq. 1) pastes a rectangle of the partner
# instead, so every pixel is natural. With $M = 0$ inside the rectangle and 1 outside,
#
# $$ \tilde x_i = M \odot x_i + (1 - M) \odot x_{\pi(i)}, \qquad
#    \tilde y_i = \lambda\, y_i + (1 - \lambda)\, y_{\pi(i)}, \qquad \lambda = \frac{1}{HW} \sum_{hw} M_{hw} \tag{7} $$
#
# The rectangle is drawn around a random centre and often reaches beyond the image. What is outside is not pasted,
# so it must not count in the labels either: $\lambda$ is the share of the pixels that are **really** the example's
# own.
#
# *Watch for* a batch that is overwritten while it is still needed as the source; for the order of rows and
# columns; and for Python's slices, in which negative numbers count from the end.

# %% [markdown] hints="mixup_cutmix"
# 1. `x[perm]` is a new tensor with the partners in their places; labels go with `y[perm]`.
# 2. Clip the four numbers of the box to the image before anything else. How can the box lie wholly outside?
# 3. Build M as a bool tensor (H, W): then the pixels are one `torch.where`, and λ is a count.

# %% exercise="mixup_cutmix"
def mixup(x: Tensor, y: Tensor, lam: float, perm: Tensor) -> tuple[Tensor, Tensor]:
    """Mixes each example with a partner: Zhang et al. (2018), §2; our Eq. (6).

    x     (B, *) float
    y     (B, K) float: one-hot or soft labels, rows sum to 1
    lam   float in [0, 1]: the weight of the example itself
    perm  (B,) long, a permutation of 0..B-1: the partner of example i is example perm[i]

    Returns the mixed x (B, *) float and y (B, K) float. Raises ValueError if lam is not in [0, 1].
    """
    ### BEGIN SOLUTION
    if not 0 <= lam <= 1:
        raise ValueError(f"a weight of {lam}")
    return lam * x + (1 - lam) * x[perm], lam * y + (1 - lam) * y[perm]
    ### END SOLUTION


def cutmix(x: Tensor, y: Tensor, box: tuple[int, int, int, int], perm: Tensor) -> tuple[Tensor, Tensor]:
    """Pastes a rectangle of the partner into each example: Yun et al. (2019), Eq. 1; our Eq. (7).

    x     (B, C, H, W) float
    y     (B, K) float: one-hot or soft labels, rows sum to 1
    box   (top, left, bottom, right), ints with top <= bottom and left <= right: the rows top..bottom-1 and the
          columns left..right-1. It may reach beyond the image, or lie wholly outside: only the part inside counts
    perm  (B,) long, a permutation of 0..B-1: the partner of example i is example perm[i]

    Returns the new x (B, C, H, W) float and y (B, K) float. The weight of the example's own label is the share of
    the pixels that are its own; if nothing is pasted, both results equal the inputs.
    """
    ### BEGIN SOLUTION
    height, width = x.shape[-2:]
    top, bottom = (min(max(edge, 0), height) for edge in (box[0], box[2]))
    left, right = (min(max(edge, 0), width) for edge in (box[1], box[3]))
    own = torch.ones(height, width, dtype=torch.bool)
    own[top:bottom, left:right] = False
    lam = own.sum().item() / (height * width)
    return torch.where(own, x, x[perm]), lam * y + (1 - lam) * y[perm]
    ### END SOLUTION

# %% [markdown]
# **What to look at.** A ring meets a chequerboard. In each pair the titles give the labels that your function
# returned. The last box sticks out of the image: of its 24 × 24 pixels 14 × 19 were pasted, and the label says so.

# %%
grid = torch.linspace(-1, 1, 32)
yy, xx = torch.meshgrid(grid, grid, indexing="ij")
radius = (xx ** 2 + yy ** 2).sqrt()
ring = ((radius > 0.45) & (radius < 0.8)).float()
board = ((yy * 2.999).floor() + (xx * 2.999).floor()) % 2 * 0.7
pictures, names = torch.stack([ring, board])[:, None], torch.eye(2)
swap = torch.tensor([1, 0])
mixtures = [("mixup", mixup(pictures, names, 0.7, swap)), ("CutMix", cutmix(pictures, names, (4, 8, 20, 28), swap)),
            ("clipped", cutmix(pictures, names, (18, -5, 42, 19), swap))]
fig, axes = plt.subplots(1, 6, figsize=(13, 2.6), layout="constrained")
for i, (name, (mixed, labels)) in enumerate(mixtures):
    for j in range(2):
        ax = axes[2 * i + j]
        ax.imshow(mixed[j, 0], cmap="cividis", vmin=0, vmax=1)
        ax.set_title(f"{name}\n{labels[j, 0]:.2f} ring + {labels[j, 1]:.2f} board", fontsize=9)
        ax.axis("off")
plt.show()

# %% [markdown]
# ## 5. One geometry for image, mask and boxes  ★★★ · 75 minutes
#
# To classify, one may crop and mirror images at will. To detect or to segment, the annotation has to move along:
# to the pixel, and by the same random numbers. Here is the standard recipe of a random flip and a random resized
# crop, with the numbers given. The steps come **in this order**: mirror the whole image (perhaps), cut out the
# window of $h \times w$ pixels whose upper left corner is $(y, x)$, resize it to $h' \times w'$.
#
# *Coordinates.* A box $(x_0, y_0, x_1, y_1)$ lives on the continuous plane $[0, W] \times [0, H]$, in which pixel
# $(r, c)$ covers the square $[c, c+1] \times [r, r+1]$. So mirroring maps $x$ to $W - x$, not to $W - 1 - x$, which
# is the rule for the *number* of a pixel; the left edge becomes the right one. In all,
#
# $$ (x_0, x_1) \to (W - x_1,\, W - x_0) \;\text{ if mirrored}, \qquad
#    x_k \to \frac{w'}{w}\, \min\bigl(\max(x_k - x,\, 0),\, w\bigr), \qquad
#    y_k \to \frac{h'}{h}\, \min\bigl(\max(y_k - y,\, 0),\, h\bigr) \tag{8} $$
#
# A box of which nothing is left, with width or height 0, is dropped; whoever holds the boxes' labels needs to know
# which.
#
# *Resizing.* The centre of the new pixel $r'$ lies at $(r' + \frac12)\, h / h'$ on the window's plane. An image is
# interpolated there. Labels are names, not quantities: the mean of class 1 and class 3 is not class 2. So the mask
# takes the one pixel that covers this point, and likewise for columns:
#
# $$ \mathrm{mask}'_{r' c'} = \mathrm{mask}_{y + i,\; x + j}, \qquad
#    i = \Bigl\lfloor \bigl(r' + \tfrac12\bigr) \frac{h}{h'} \Bigr\rfloor, \qquad
#    j = \Bigl\lfloor \bigl(c' + \tfrac12\bigr) \frac{w}{w'} \Bigr\rfloor \tag{9} $$
#
# *Watch for* the order of the steps, rows against columns (the crop is $(y, x, h, w)$, boxes are $(x, y, x, y)$),
# and integer arithmetic: (9) can be computed without any rounding. `F.interpolate` may do the image;
# its `nearest` mode does not sample at centres.

# %% [markdown] hints="paired_augment"
# 1. Do the three steps one after the other, and each of them for image, mask and boxes before you go on.
# 2. Mirroring a box swaps its edges: the new left edge is made of the old right one.
# 3. `F.interpolate(..., mode="bilinear", align_corners=False)` samples at centres; it wants a batch axis.
# 4. With integers, floor((2r' + 1) h / (2h')) is exact. Two index vectors, one as a column, pick all pixels.
# 5. Clip, then scale, then see which boxes have an area: `boxes[kept]` with a bool tensor keeps the order.

# %% exercise="paired_augment"
def paired_augment(img: Tensor, mask: Tensor, boxes: Tensor, flip: bool, crop: tuple[int, int, int, int],
                   size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mirrors, then crops, then resizes an image together with its annotation; our Eqs. (8)-(9).

    img    (C, H, W) float
    mask   (H, W) long: the class of each pixel
    boxes  (N, 4) float, N >= 0: (x0, y0, x1, y1) with 0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H, in the continuous
           coordinates in which pixel (r, c) covers [c, c+1] x [r, r+1]
    flip   bool: mirror left and right, before the crop
    crop   (y, x, h, w), ints: rows y..y+h-1 and columns x..x+w-1 of the (mirrored) image
    size   (h', w'), ints >= 1: the crop is resized to it

    Returns
    img'   (C, h', w') float: bilinear at the pixels' centres (half-pixel convention, edge pixels repeated, no
           antialiasing), as F.interpolate(..., mode="bilinear", align_corners=False) does
    mask'  (h', w') long, Eq. (9)
    boxes' (M, 4) float, Eq. (8), without the boxes whose width or height is 0 after clipping; order kept
    kept   (N,) bool: which boxes are still there

    Raises ValueError if the crop is empty or not wholly inside the image.
    """
    ### BEGIN SOLUTION
    y, x, h, w = crop
    height, width = mask.shape
    if h < 1 or w < 1 or y < 0 or x < 0 or y + h > height or x + w > width:
        raise ValueError(f"the crop {crop} does not fit into {height} x {width} pixels")
    if flip:
        img, mask = img.flip(-1), mask.flip(-1)
        x0, y0, x1, y1 = boxes.unbind(-1)
        boxes = torch.stack([width - x1, y0, width - x0, y1], dim=-1)

    img = F.interpolate(img[None, :, y:y + h, x:x + w], size=size, mode="bilinear", align_corners=False)[0]
    rows, columns = ((2 * torch.arange(new) + 1) * old // (2 * new) for old, new in zip((h, w), size, strict=True))
    mask = mask[y + rows[:, None], x + columns]

    xs = (boxes[:, 0::2] - x).clamp(0, w) * (size[1] / w)
    ys = (boxes[:, 1::2] - y).clamp(0, h) * (size[0] / h)
    kept = (xs[:, 1] > xs[:, 0]) & (ys[:, 1] > ys[:, 0])
    boxes = torch.stack([xs[:, 0], ys[:, 0], xs[:, 1], ys[:, 1]], dim=-1)
    return img, mask, boxes[kept], kept
    ### END SOLUTION

# %% [markdown]
# **What to look at.** A scene with three objects, and three random views of it. The contour is drawn from the mask
# and the rectangle from the boxes: both stay on their object. In the last view one object has been left out, and
# its box is gone.

# %%
def draw_scene(ax, img, mask, boxes, title):
    """Image, contour of the mask, and boxes in continuous coordinates."""
    height, width = mask.shape
    ax.imshow(img.permute(1, 2, 0).clamp(0, 1), extent=(0, width, height, 0), interpolation="nearest")
    centres = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    ax.contour(*centres, (mask > 0).float(), levels=[0.5], colors="white", linewidths=2)
    for x0, y0, x1, y1 in boxes.tolist():
        ax.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=GOLD, linestyle="--", linewidth=2))
    ax.set_title(title, fontsize=9)
    ax.axis("off")


height, width = 48, 64
rr, cc = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
shapes = [(rr - 16) ** 2 + (cc - 14) ** 2 < 81, ((rr - 34).abs() < 8) & ((cc - 30).abs() < 6),
          (rr - 14 > 0) & (rr - 40 < 0) & ((cc - 51).abs() < (rr - 14) * 0.4)]
scene_mask, scene = torch.zeros(height, width, dtype=torch.long), torch.full((3, height, width), 0.2)
scene += 0.15 * (rr / height)
found = []
for number, (shape, rgb) in enumerate(zip(shapes, ((0.2, 0.5, 0.8), (0.8, 0.4, 0.3), (0.4, 0.7, 0.3)), strict=True), 1):
    scene_mask[shape] = number
    scene[:, shape] = torch.tensor(rgb)[:, None]
    rows, columns = shape.nonzero().T
    found.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
scene_boxes = torch.tensor(found, dtype=torch.float32)
views = [("mirrored", True, (0, 0, 48, 64), (48, 64)), ("crop, resized", False, (6, 4, 36, 44), (54, 66)),
         ("mirrored, crop, resized", True, (10, 4, 34, 36), (60, 60))]
fig, axes = plt.subplots(1, 4, figsize=(13, 3), layout="constrained")
draw_scene(axes[0], scene, scene_mask, scene_boxes, "the scene")
for ax, (name, flip, crop, size) in zip(axes[1:], views, strict=True):
    img, mask, boxes, kept = paired_augment(scene, scene_mask, scene_boxes, flip, crop, size)
    draw_scene(ax, img, mask, boxes, f"{name}: {int(kept.sum())} of 3 boxes")
plt.show()

# %% [markdown]
# ## 6. Early stopping  ★★ · 50 minutes
#
# Watch the error on held-out data; when it has not improved for a while, stop, and go back to the best weights seen
# (Prechelt 1998). How far a network gets from its small initial weights depends on how long it is trained, so a
# short training is a constraint on the weights: for linear models close to weight decay.
#
# Let $E_1, E_2, \dots$ be the metric after each epoch. With $E_*$ the best one so far, epoch $t$ is an
# **improvement** if
#
# $$ E_t < E_* - \delta \quad(\texttt{mode="min"}), \qquad\qquad
#    E_t > E_* + \delta \quad(\texttt{mode="max"}) \tag{10} $$
#
# (strictly, so standing still is none), and training stops when `patience` epochs *in a row* have not been
# improvements. A NaN never improves anything; it counts as one more epoch without progress. The first metric that is
# a number is always an improvement. Note that $E_*$ is the metric of the last *improvement*: an epoch that is
# better by less than $\delta$ changes nothing, neither the mark to beat nor the weights that are kept.
#
# The weights to go back to are a **copy**. `model.state_dict()` is a dict of references: the next optimizer step
# writes into the very tensors that it holds. And the state is more than parameters: the running statistics of a
# batch normalization belong to the weights that they were measured with.
#
# `rehearse(stopper, metrics)`, in the first cell of code, plays a training run to your object: read it.
#
# *Watch for* the copy; and for restoring twice: when training goes on after a restore, the memory must not move
# with it.

# %% [markdown] hints="early_stopping"
# 1. Keep four things: the best metric, the number of its step, how many steps have passed since, and the state.
# 2. Comparisons with NaN are False. Write the condition such that False means "no improvement", and treat the very
#    first number separately.
# 3. `detach().clone()` for every entry of the state_dict gives a copy. Does loading it copy, or alias?

# %% exercise="early_stopping"
class EarlyStopping:
    """Stops when a metric no longer improves, and keeps the best weights: Prechelt (1998); our Eq. (10).

    patience   int >= 1: `step` returns True once this many steps in a row were no improvements
    min_delta  float >= 0: delta in Eq. (10)
    mode       "min" if small metrics are good, "max" if large ones are

    Raises ValueError for a patience below 1, a negative min_delta and any other mode.
    """

    def __init__(self, patience: int, min_delta: float = 0.0, mode: str = "min"):
        ### BEGIN SOLUTION
        if patience < 1 or min_delta < 0 or mode not in ("min", "max"):
            raise ValueError(f"patience {patience}, min_delta {min_delta}, mode {mode!r}")
        self.patience, self.min_delta = patience, min_delta
        self.sign = 1 if mode == "max" else -1
        self.best_score = self.best_step = self.best_state = None
        self.steps = self.waited = 0
        ### END SOLUTION

    def step(self, metric: float, model: nn.Module) -> bool:
        """Takes note of one epoch; True if training should stop.

        metric  float, may be NaN (never an improvement) or infinite; the first that is not NaN is an improvement
        model   nn.Module; its parameters and buffers are copied after an improvement, and never changed

        May be called again after it has returned True: it goes on counting, and an improvement starts anew.
        """
        ### BEGIN SOLUTION
        score = self.sign * metric
        first = self.best_score is None and score == score
        if first or (self.best_score is not None and score > self.best_score + self.min_delta):
            self.best_score, self.best_step, self.waited = score, self.steps, 0
            self.best_state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            self.waited += 1
        self.steps += 1
        return self.waited >= self.patience
        ### END SOLUTION

    def restore(self, model: nn.Module) -> int:
        """Puts the state of the last improvement back into the model's own parameters and buffers.

        Returns the number of that step, 0 for the first call of `step`. Can be called any number of times. What is
        done to the model afterwards does not change what is kept.
        Raises ValueError if there was no improvement yet.
        """
        ### BEGIN SOLUTION
        if self.best_state is None:
            raise ValueError("there was no improvement yet")
        model.load_state_dict(self.best_state)
        return self.best_step
        ### END SOLUTION

# %% [markdown]
# **What to look at.** A network of 2700 parameters learns a sine from 24 noisy points. Its training error falls and
# falls; on held-out points it turns early. The dot marks the best step, the line the one at which training would
# stop. We let it run on, to see what is saved, and then restore: the right picture shows the fit of both, and the
# printed line compares what was restored with what was best.

# %%
def sine_data(n, generator):
    x = 6 * torch.rand(n, 1, generator=generator) - 3
    return x, torch.sin(1.5 * x) + 0.35 * torch.randn(n, 1, generator=generator)


def linear(fan_in, fan_out, generator):
    """nn.Linear with weights that come from this generator."""
    layer = nn.Linear(fan_in, fan_out)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) / fan_in ** 0.5)
    return layer


generator = torch.Generator().manual_seed(4)
x_train, y_train = sine_data(24, generator)
x_held, y_held = sine_data(200, generator)
model = nn.Sequential(linear(1, 50, generator), nn.Tanh(), linear(50, 50, generator), nn.Tanh(),
                      linear(50, 1, generator))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
stopper, stopped, curves = EarlyStopping(patience=40, min_delta=1e-4), None, []
for step in range(800):
    loss = F.mse_loss(model(x_train), y_train)
    with torch.no_grad():
        held = F.mse_loss(model(x_held), y_held).item()
    if stopper.step(held, model) and stopped is None:
        stopped = step
    curves.append((loss.item(), held))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

line = torch.linspace(-3, 3, 200)[:, None]
with torch.no_grad():
    fit_last = model(line)
    best = stopper.restore(model)
    restored, fit_best = F.mse_loss(model(x_held), y_held).item(), model(line)
train_curve, held_curve = zip(*curves, strict=True)
fig, axes = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
axes[0].semilogy(train_curve, "--", color=GOLD, label="training")
axes[0].semilogy(held_curve, color=PURPLE, label="held out")
axes[0].plot(best, held_curve[best], "o", color=PURPLE, markersize=9)
if stopped is not None:
    axes[0].axvline(stopped, color=INK, linestyle=":", label="patience is over")
axes[0].set(title="mean squared error", xlabel="step")
axes[0].legend()
axes[1].plot(line, torch.sin(1.5 * line), color="#999999", linewidth=5, alpha=0.5, label="truth")
axes[1].plot(line, fit_last, "--", color=GOLD, label="after 800 steps")
axes[1].plot(line, fit_best, color=PURPLE, label=f"restored, step {best}")
axes[1].plot(x_train, y_train, "o", color=INK, markersize=4)
axes[1].set(title="24 points and two fits", ylim=(-2.2, 2.2))
axes[1].legend(fontsize=8, loc="upper left")
plt.show()
print(f"held-out error: best {min(held_curve):.4f}, restored {restored:.4f}, after 800 steps {held_curve[-1]:.4f}")

# %% [markdown]
# ## 7. Label smoothing  ★★ · 45 minutes
#
# A cross-entropy with one-hot targets is never satisfied: the loss falls as long as the right logit grows, so the
# weights grow without bound and the network becomes certain of everything, mislabelled examples included. Szegedy
# et al. (2016, §7) mix the target with the uniform distribution over **all** $K$ classes, the right one included:
#
# $$ q_k = (1 - \varepsilon)\, [k = y] + \frac{\varepsilon}{K} \tag{11} $$
#
# With logits $z$, log-probabilities $\log p = z - \log \sum_k e^{z_k}$, a weight $w_k$ for each class (rare classes
# may count more) and a target that means "no label here", PyTorch's convention for the mean is
#
# $$ L = \frac{\sum_{i \in I} \sum_k -\,w_k\, q_{ik} \log p_{ik}}{\sum_{i \in I} w_{y_i}}, \qquad
#    I = \{ i : y_i \ne \texttt{ignore\_index} \} \tag{12} $$
#
# The weight of class $k$ belongs to its *term*, not to the whole row, and the denominator has the weights of the
# right classes only. If everything is ignored, (12) reads $0/0$, and PyTorch returns NaN; **we define $L = 0$**, with
# gradient 0, so that one batch without labels does not destroy the training.
#
# Now there is a best value for the logits. For $w = 1$ the gradient is $p - q$ (over the number of rows), and it
# vanishes at $p = q$: the right logit exceeds the others by
#
# $$ \log \frac{q_y}{q_k} = \log \Bigl( \frac{(1 - \varepsilon) K}{\varepsilon} + 1 \Bigr) \tag{13} $$
#
# *Watch for* logits of size $10^3$; for `ignore_index`, which is an invalid index ($-100$) or a valid class, as the
# caller likes; and for $K$ or $K - 1$ in (11), where papers and libraries differ.

# %% [markdown] hints="label_smoothing_ce"
# 1. `torch.log_softmax` or `torch.logsumexp` give log-probabilities that do not overflow. The logarithm of a softmax
#    does.
# 2. Replace ignored targets by some valid class before you index with them, in a new tensor, and take their rows out
#    of both sums.
# 3. Where the denominator is 0, so is the numerator. Divide by something else there, and nothing becomes NaN.

# %% exercise="label_smoothing_ce"
def ls_ce(logits: Tensor, y: Tensor, eps: float, ignore_index: int, weight: Tensor) -> Tensor:
    """Cross-entropy with label smoothing: Szegedy et al. (2016), §7; our Eqs. (11)-(12).

    logits        (N, K) float
    y             (N,) long: a class in [0, K), or ignore_index
    eps           float in [0, 1]: the share of the uniform distribution over all K classes
    ignore_index  int, any: rows with this target do not count, even if it is a class
    weight        (K,) float > 0: the weights of the classes

    Returns L, () float: 0, with gradients 0, if every row is ignored.
    """
    ### BEGIN SOLUTION
    counts = y != ignore_index
    target = torch.where(counts, y, 0)
    log_p = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
    classes = logits.shape[-1]
    q = eps / classes + (1 - eps) * F.one_hot(target, classes).to(logits.dtype)
    rows = -(weight * q * log_p).sum(dim=-1)
    total = (weight[target] * counts).sum()
    return (rows * counts).sum() / torch.where(total > 0, total, 1)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left the loss of one example with $K = 10$ as its right logit rises above the others.
# Without smoothing the curve falls for ever; with it there is a minimum, and the dots, placed by (13), sit in it. On
# the right three free logits are trained by gradient descent on ten equal examples, seven of which are labelled 0,
# two 1 and one 2. Without smoothing they learn these shares; the more smoothing, the closer they end to the centre
# $\frac13$: smoothing is a prior, and it costs accuracy of the *probabilities* where labels are honest.

# %%
gap = torch.linspace(-1, 10, 200)
logits = torch.zeros(200, 10)
logits[:, 0] = gap
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for eps, colour, style in ((0.0, PURPLE, "-"), (0.1, TEAL, "--"), (0.3, GOLD, "-.")):
    losses = torch.stack([ls_ce(row[None], torch.tensor([0]), eps, -100, torch.ones(10)) for row in logits])
    axes[0].plot(gap, losses, style, color=colour, label=f"$\\varepsilon$ = {eps}")
    if eps:
        best = torch.log(torch.tensor((1 - eps) * 10 / eps + 1))
        at_best = torch.zeros(1, 10)
        at_best[0, 0] = best
        axes[0].plot(best, ls_ce(at_best, torch.tensor([0]), eps, -100, torch.ones(10)), "o", color=colour)
axes[0].set(title="loss of one example, ten classes", xlabel="right logit minus the others")
axes[0].legend()
labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 2])
for i, eps in enumerate((0.0, 0.1, 0.3)):
    z = torch.zeros(1, 3, requires_grad=True)
    for _ in range(300):
        (gradient,) = torch.autograd.grad(ls_ce(z.expand(10, 3), labels, eps, -100, torch.ones(3)), z)
        z = (z - gradient).detach().requires_grad_()
    bars = torch.softmax(z.detach(), dim=-1)[0]
    axes[1].bar(torch.arange(3) + 0.27 * (i - 1), bars, width=0.25, color=(PURPLE, TEAL, GOLD)[i],
                edgecolor=INK, hatch=("", "//", "..")[i], label=f"$\\varepsilon$ = {eps}")
axes[1].axhline(1 / 3, color=INK, linestyle=":")
axes[1].set(title="probabilities that labels 7 : 2 : 1 lead to", xticks=range(3), xlabel="class")
axes[1].legend()
plt.show()

# %% [markdown]
# ## Finale: sixty points, some of them wrong
#
# Two moons of thirty points each, and every fifth label is wrong. A network with 4500 weights can learn all of it,
# the errors included. We train it in six ways with your functions, on four such data sets, and test on a thousand
# clean points.
#
# **What to look at.** The contour lines are those of the network's probability, the thick one is at $\frac12$. The
# plain network bends its boundary around wrong labels, and it is *sure*: there is nothing between blue and yellow.
# Compare the accuracies, and then the last column: the negative log-likelihood on the test set, which punishes
# sureness where it is not justified. Every method makes it several times smaller, but not all in the same way:
# smoothing alone leaves the boundary as crooked as it was and only takes away the sureness.

# %%
def moons(n, wrong, generator):
    """(2n, 2) points on two interleaved half circles, (2n,) labels, of which the share `wrong` is wrong."""
    angle = torch.pi * torch.rand(n, 2, generator=generator)
    upper = torch.stack([angle[:, 0].cos(), angle[:, 0].sin()], dim=-1)
    lower = torch.stack([1 - angle[:, 1].cos(), 0.5 - angle[:, 1].sin()], dim=-1)
    points = torch.cat([upper, lower]) + 0.12 * torch.randn(2 * n, 2, generator=generator)
    labels = torch.arange(2).repeat_interleave(n)
    swapped = torch.randperm(2 * n, generator=generator)[:int(wrong * 2 * n)]
    labels[swapped] = 1 - labels[swapped]
    return points, labels


class Classifier(nn.Module):
    def __init__(self, p, generator):
        super().__init__()
        self.layers = nn.Sequential(
            linear(2, 64, generator), nn.ReLU(), Dropout(p, torch.Generator().manual_seed(8)),
            linear(64, 64, generator), nn.ReLU(), Dropout(p, torch.Generator().manual_seed(9)),
            linear(64, 2, generator))

    def forward(self, x):
        return self.layers(x)


def train(seed, p=0.0, wd=0.0, mix=False, eps=0.0, patience=None, steps=250):
    """A classifier trained with the functions of this unit, and the data that it has seen."""
    generator = torch.Generator().manual_seed(seed)
    (x, labels), (x_held, held_labels) = moons(30, 0.2, generator), moons(30, 0.2, generator)
    y, model = torch.eye(2)[labels], Classifier(p, generator)
    parameters = dict(model.named_parameters())
    decays = set(decay_param_groups(model)[0])
    moments = {name: (torch.zeros_like(one), torch.zeros_like(one)) for name, one in parameters.items()}
    stopper = EarlyStopping(patience or steps)
    for t in range(1, steps + 1):
        if patience:
            with torch.no_grad():
                held_loss = F.cross_entropy(model.eval()(x_held), held_labels).item()
            if stopper.step(held_loss, model.train()):
                break
        if mix:
            lam = torch.rand((), generator=generator).item()
            mixed, soft = mixup(x, y, lam, torch.randperm(len(x), generator=generator))
            loss = -(soft * torch.log_softmax(model(mixed), dim=-1)).sum(-1).mean()
        else:
            loss = ls_ce(model(x), labels, eps, -100, torch.ones(2))
        found = torch.autograd.grad(loss, parameters.values())
        for (name, parameter), g in zip(parameters.items(), found, strict=True):
            new, *moments[name] = adamw_step(parameter, g, *moments[name], t, 0.01, (0.9, 0.999), 1e-8,
                                             wd if name in decays else 0.0)
            parameter.data.copy_(new)
    if patience:
        stopper.restore(model)
    return model.eval(), x, labels


METHODS = {"none": {}, "dropout 0.5": {"p": 0.5}, "weight decay 2": {"wd": 2.0}, "mixup": {"mix": True},
           "label smoothing 0.2": {"eps": 0.2}, "early stopping": {"patience": 20}}
x_test, test_labels = moons(500, 0.0, torch.Generator().manual_seed(99))
grid = torch.stack(torch.meshgrid(torch.linspace(-1.6, 2.6, 60), torch.linspace(-1.2, 1.7, 45), indexing="xy"), dim=-1)
fig, axes = plt.subplots(2, 3, figsize=(12, 5.6), layout="constrained")
for ax, (name, settings) in zip(axes.flat, METHODS.items(), strict=True):
    accuracies, losses = [], []
    for seed in range(4):
        model, x, labels = train(seed, **settings)
        with torch.no_grad():
            logits = model(x_test)
            accuracies.append((logits.argmax(-1) == test_labels).float().mean().item())
            losses.append(F.cross_entropy(logits, test_labels).item())
            if seed == 0:
                share = torch.softmax(model(grid), dim=-1)[..., 1]
                ax.contourf(grid[..., 0], grid[..., 1], share, levels=10, cmap="cividis", vmin=0, vmax=1, alpha=0.75)
                ax.contour(grid[..., 0], grid[..., 1], share, levels=[0.5], colors="white", linewidths=2.5)
                for label, marker in ((0, "o"), (1, "^")):
                    chosen = x[labels == label]
                    ax.plot(chosen[:, 0], chosen[:, 1], marker, color="white" if label == 0 else "black",
                            markeredgecolor="black" if label == 0 else "white", markersize=5)
    accuracy, loss = sum(accuracies) / 4, sum(losses) / 4
    ax.set_title(f"{name}: accuracy {accuracy:.2f}", fontsize=10)
    ax.axis("off")
    print(f"{name:20} accuracy {accuracy:.3f}   negative log-likelihood {loss:.2f}")
plt.show()

# %% [markdown]
# ## Going further
#
# - **Uncertainty from dropout.** Leave the layers in training mode and predict a hundred times: the spread of the
#   answers estimates how much the network knows (Gal & Ghahramani 2016). Draw it for the sine of exercise 6. Where is
#   it wide, and does it depend on $p$ more than on the data?
# - **What dropout minimises.** For linear regression, the expected loss under dropout of the inputs is a sum of
#   squares plus a penalty. Derive it from the variance below (1): which weights are penalised, and how does the
#   penalty scale with the inputs?
# - **The right decay for a schedule.** With $\eta w$ constant, the weights are roughly a moving average of the last
#   $1 / (\eta w)$ updates (Wang & Aitchison 2024). How should $w$ change when the number of steps doubles? Test it with
#   the noise experiment of exercise 3.
# - **How much augmentation?** Flips and crops are certain to keep a label, colour and rotation less so. RandAugment
#   (Cubuk et al. 2020) leaves two numbers to tune. Add a rotation to `paired_augment`: what is the smallest
#   axis-parallel box around a rotated one, and why is it too large?
# - **When smoothing hurts.** A teacher that was trained with smoothed labels is accurate, but teaches a student worse
#   (Müller et al. 2019): the clusters of its logits have become so tight that they no longer tell *how* similar two
#   classes are. Look at the logits of the finale's network with and without smoothing.
# - **Twice the descent.** Train the sine network for much longer, or make it much wider. The classical curve rises and
#   may then fall again (Nakkiran et al. 2020). What would a patience of 40 have missed?
#
# ## References
#
# - E. Cubuk et al. *RandAugment: Practical Automated Data Augmentation with a Reduced Search Space.* CVPR Workshops
#   2020.
# - Y. Gal, Z. Ghahramani. *Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning.* ICML
#   2016.
# - G. Huang et al. *Deep Networks with Stochastic Depth.* ECCV 2016.
# - D. Kingma, J. Ba. *Adam: A Method for Stochastic Optimization.* ICLR 2015.
# - I. Loshchilov, F. Hutter. *Decoupled Weight Decay Regularization.* ICLR 2019.
# - R. Müller, S. Kornblith, G. Hinton. *When Does Label Smoothing Help?* NeurIPS 2019.
# - P. Nakkiran et al. *Deep Double Descent: Where Bigger Models and More Data Hurt.* ICLR 2020.
# - L. Prechelt. *Early Stopping - But When?* In: Neural Networks: Tricks of the Trade, 1998.
# - N. Srivastava et al. *Dropout: A Simple Way to Prevent Neural Networks from Overfitting.* JMLR 2014.
# - C. Szegedy et al. *Rethinking the Inception Architecture for Computer Vision.* CVPR 2016.
# - X. Wang, L. Aitchison. *How to set AdamW's weight decay as you scale model and dataset size.* 2024.
# - S. Yun et al. *CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features.* ICCV 2019.
# - H. Zhang et al. *mixup: Beyond Empirical Risk Minimization.* ICLR 2018.
