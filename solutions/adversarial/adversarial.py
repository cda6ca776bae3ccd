# %% [markdown]
# # Generative adversarial networks
#
# How good is a picture that never existed? There is no target to compare it with, and a distance to the nearest
# training picture rewards copies and averages. Goodfellow et al. (2014) let a second network be the judge. The
# *generator* $G$ turns noise $z$ into samples; the *discriminator* $D$ looks at samples and says which are real.
# Each is trained against the other: $D$ to tell them apart, $G$ to be mistaken for the data. The loss of $G$ is not
# written down by anybody; it is **learned**, and it improves together with what it judges.
#
# That is the strength of the family (sharp samples, in a single pass through $G$) and its weakness: two losses that
# pull against each other need not settle. They circle, or $D$ wins and its gradient fades, or $G$ finds one sample
# that always fools the judge and makes nothing else. Most of the later work, from Wasserstein critics to StyleGAN,
# is about this balance, and most bugs are, too: a gradient that goes into the wrong network raises no error, and the
# picture merely stays bad.
#
# You will build seven parts, each independent of the others. The cell below an exercise checks your code and shows
# the smallest example on which it fails; the pictures after it are drawn by your own code. In a cell of your own,
# `hint("gan_losses")` gives a hint, then one more each time, and `progress()` shows what is done.
#
# | exercise | | minutes | what it adds |
# |---|---|--:|---|
# | `gan_losses` | ★ | 25 | five losses for the same game |
# | `wgan_gp` | ★★ | 40 | a gradient inside the loss: critics with slope 1 |
# | `conditional_gan` | ★ | 30 | samples of a class of your choice |
# | `modulated_conv2d` | ★★ | 45 | a style for each example, in the weights |
# | `stylegan_mapping` | ★★ | 40 | normalised noise, a check for variety, AdaIN, truncation |
# | `cyclegan_losses` | ★★ | 60 | translation without pairs, and a pool of old images |
# | `gan_train_step` | ★★★ | 60 | one step of both networks, and nothing that leaks |
#
# ### Notation, and rules for every exercise
#
# $B$ or $N$ examples, $C$ channels, $H \times W$ pixels, $K$ classes. A *logit* is what $D$ returns before any
# sigmoid: positive means "real". Shapes are written `(B, C, H, W)`; `(B, *)` stands for any number of further axes.
# Every size is at least 1.
#
# - `float` means float32 or float64, all tensors of a call alike. Compute in that dtype and return it.
# - Randomness is an argument: you are given noise, coins and indices and never draw any.
# - Inputs may be views of other tensors with any strides. Never change them; remember nothing between calls, but for
#   the one object that is a memory.
# - Gradients must reach every float argument, unless the contract calls it a constant.
# - **All losses are to be minimised**, also where the paper maximises.
# - Where a contract names an error, raise it. Inputs that it does not speak of are not tested.

# %% role="setup"
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, embedding, softplus

from etude import check, hint, progress


def penalty_of_mlp(weights: dict[str, Tensor], real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
    """To try exercise 2: your `gradient_penalty` for the critic D(x) = a . tanh(W x + b) + c . x, x flattened.

    weights  W (H, n), b (H,), a (H,), c (n,), where n is the number of elements of one example
    """
    def critic(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return torch.tanh(flat @ weights["W"].T + weights["b"]) @ weights["a"] + flat @ weights["c"]
    return gradient_penalty(critic, real, fake, eps)


def cyclegan_of_mlps(weights: dict[str, Tensor], a: Tensor, b: Tensor, lam_cyc: float, lam_id: float) -> dict:
    """To try exercise 6: your `cyclegan_losses` for the networks x + tanh(x W) (G, F) and tanh(x W) . v (D_a, D_b).

    weights  G (d, d), F (d, d), Da (d, h), va (h,), Db (d, h), vb (h,)
    """
    return cyclegan_losses(lambda x: x + torch.tanh(x @ weights["G"]), lambda x: x + torch.tanh(x @ weights["F"]),
                           lambda x: torch.tanh(x @ weights["Da"]) @ weights["va"],
                           lambda x: torch.tanh(x @ weights["Db"]) @ weights["vb"], a, b, lam_cyc, lam_id)


def rehearse_pool(size: int, batches: Tensor, coins: Tensor, idx: Tensor) -> tuple[Tensor, bool]:
    """To try the pool of exercise 6: all answers to the queries in turn, and whether one carried a graph.

    batches  (T, N, d) float, coins (T, N) float, idx (T, N) long: the arguments of T queries

    After each query the batch is overwritten, as a generator with a fixed output buffer would do.
    """
    pool, answers, graph = ImagePool(size), [], False
    for images, coin, which in zip(batches, coins, idx, strict=True):
        batch = images.clone().requires_grad_()
        answer = pool.query(batch, coin, which)
        graph = graph or answer.requires_grad
        answers.append(answer.detach().clone())
        batch.detach().fill_(-77.0)
    return torch.stack(answers), graph


class Descent:
    """Plain gradient descent with the two methods that exercise 7 needs. It counts its steps.

    It also counts those steps at which the gradient of `other` is neither what it was at `remember` nor cleared.
    """

    def __init__(self, model: nn.Module, lr: float, other: nn.Module):
        self.model, self.lr, self.other, self.steps, self.leaks, self.before = model, lr, other, 0, 0, []

    def remember(self) -> None:
        self.before = [None if p.grad is None else p.grad.clone() for p in self.other.parameters()]

    def zero_grad(self) -> None:
        for parameter in self.model.parameters():
            parameter.grad = None

    def step(self) -> None:
        self.steps += 1
        found = zip((p.grad for p in self.other.parameters()), self.before, strict=True)
        self.leaks += any(g is not None and bool(g.any()) and (old is None or not torch.equal(g, old))
                          for g, old in found)
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter -= self.lr * parameter.grad


def rehearse_gan(weights: dict[str, Tensor], real: Tensor, z_d: Tensor, z_g: Tensor, lr: float) -> dict:
    """To try exercise 7: your `gan_train_step`, once for each batch, on two small networks.

    weights  w_g (d, Z), w_d (h, d), v_d (1, h)
    real     (T, B, d) float, z_d (T, B, Z) float, z_g (T, M, Z) float: the arguments of T steps

    G is a linear layer and a batch normalization; D is a linear layer, a batch normalization, tanh, a linear layer.
    All gradients are 1 before the first step. Returns what there is to see after the last one.
    """
    (d, noise), h = weights["w_g"].shape, len(weights["w_d"])
    G = nn.Sequential(nn.Linear(noise, d, bias=False), nn.BatchNorm1d(d)).to(real.dtype)
    D = nn.Sequential(nn.Linear(d, h, bias=False), nn.BatchNorm1d(h), nn.Tanh(), nn.Linear(h, 1, bias=False),
                      nn.Flatten(0)).to(real.dtype)
    with torch.no_grad():
        for target, name in ((G[0], "w_g"), (D[0], "w_d"), (D[3], "v_d")):
            target.weight.copy_(weights[name])
    for parameter in (*G.parameters(), *D.parameters()):
        parameter.grad = torch.ones_like(parameter)
    opt_g, opt_d, losses, graph = Descent(G, lr, D), Descent(D, lr, G), [], False
    for one in zip(real, z_d, z_g, strict=True):
        opt_d.remember()
        opt_g.remember()
        result = gan_train_step(G, D, opt_g, opt_d, *one)
        losses.append({name: value.detach().clone() for name, value in result.items()})
        graph = graph or any(value.requires_grad for value in result.values())
    return {"losses": losses, "losses carry a graph": graph, "steps of D": opt_d.steps, "steps of G": opt_g.steps,
            "steps of D that found a new gradient in G": opt_d.leaks, "still training": G.training and D.training,
            "G": {name: value.detach() for name, value in G.state_dict().items()},
            "D": {name: value.detach() for name, value in D.state_dict().items()}}

# %% [markdown]
# The picture shows the whole unit: the game in the middle, and where each exercise takes part in it.

# %%
import matplotlib.pyplot as plt

from etude.plots import BLUE, GREY, INK, ORANGE, draw_graph, light, show_maps

light()
torch.set_num_threads(1)  # the tensors are small: several threads would wait for each other
PURPLE, TEAL, GOLD = "#440154", "#21918c", "#d9a400"
fig, ax = plt.subplots(figsize=(11.5, 3.6), layout="constrained")
draw_graph(ax, "two networks, one game", {
    "z": (0, 2.4, "noise $z$", BLUE), "map": (3, 2.4, "5 mapping", ORANGE), "G": (6, 2.4, "generator $G$", GREY),
    "fake": (9, 2.4, "fake samples", BLUE), "D": (12, 1.2, "discriminator $D$", GREY),
    "logits": (15, 1.2, "logits", BLUE), "loss": (15, 2.4, "1 two losses", ORANGE),
    "real": (9, 0, "real samples", BLUE), "y": (0, 0, "class $y$", BLUE), "cond": (3, 0, "3 condition", ORANGE),
    "style": (6, 3.6, "4 modulated conv.", ORANGE), "cycle": (9, 3.6, "6 there and back", ORANGE),
    "gp": (15, 0, "2 slope of $D$", ORANGE), "step": (12, 3.6, "7 train step", ORANGE),
}, {"z": ["map"], "map": ["G"], "G": ["fake"], "fake": ["D"], "real": ["D"], "D": ["logits", "gp"],
    "logits": ["loss"], "y": ["cond"], "cond": ["G", "D"], "style": ["G"], "cycle": ["fake"], "loss": ["step"]},
    width=2.5)
plt.show()

# %% [markdown]
# ## 1. Five losses for one game  ★ · 25 minutes
#
# Goodfellow et al. (2014, Eq. 1) let $D$ return a probability and play
# $\min_G \max_D\; \mathbb{E} \log D(x) + \mathbb{E} \log (1 - D(G(z)))$. With logits, $D = \sigma(r)$ for real and
# $\sigma(f)$ for fake samples. Since $-\log \sigma(t) = \zeta(-t)$ and $-\log(1 - \sigma(t)) = \zeta(t)$, where
# $\zeta(t) = \log(1 + e^t)$ is the softplus, the discriminator minimises
#
# $$ L_D = \overline{\zeta(-r)} + \overline{\zeta(f)} \tag{1} $$
#
# The bar is the mean, over the real samples in the one term and over the fake ones in the other. What should $G$
# minimise? The game itself says `minimax`; the authors (§3) advise the *non-saturating* `ns` instead:
#
# $$ L_G^{\mathrm{minimax}} = -\,\overline{\zeta(f)}, \qquad L_G^{\mathrm{ns}} = \overline{\zeta(-f)} \tag{2} $$
#
# Both fall as $f$ rises. But when $D$ is sure of a fake ($f \to -\infty$), the slope of the first one vanishes,
# exactly where $G$ has most to learn; that of the second is $-1$. Three more have become standard: least squares
# (Mao et al. 2017, Eq. 2 with $a = 0$, $b = c = 1$), hinge (Miyato et al. 2018, Eqs. 16–17) and Wasserstein
# (Arjovsky et al. 2017), whose $D$ is called a *critic*:
#
# $$ L_D^{\mathrm{lsgan}} = \tfrac12 \overline{(r - 1)^2} + \tfrac12 \overline{f^2}, \qquad
#    L_G^{\mathrm{lsgan}} = \tfrac12 \overline{(f - 1)^2} \tag{3} $$
#
# $$ L_D^{\mathrm{hinge}} = \overline{\max(0, 1 - r)} + \overline{\max(0, 1 + f)}, \qquad
#    L_D^{\mathrm{wgan}} = \bar f - \bar r, \qquad
#    L_G^{\mathrm{hinge}} = L_G^{\mathrm{wgan}} = -\bar f \tag{4} $$
#
# *Conventions.* (1) is a sum of two means; some libraries halve it. `minimax` and `ns` share $L_D$. Nothing is detached
# here: to keep $L_D$ away from $G$ is the caller's business (exercise 7).
#
# *Watch for* logits of size $10^3$, where $\log \sigma$ is $-\infty$ for a careless program, and for batches of
# different sizes.

# %% [markdown] hints="gan_losses"
# 1. Write the losses of single samples first; take the mean of each batch by itself, then add.
# 2. Never form the probability: softplus of plus or minus the logit is all that (1) and (2) need.
# 3. Check signs with one sample: `g_loss` must fall when the fake logit rises, whatever the kind (for least squares:
#    as long as the logit is below 1).

# %% exercise="gan_losses"
def gan_losses(real: Tensor, fake: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The losses of discriminator and generator, both to be minimised, from logits; our Eqs. (1)-(4).

    Goodfellow et al. (2014), Eq. 1 and Sec. 3; Mao et al. (2017), Eq. 2; Miyato et al. (2018), Eqs. 16-17.

    real  (N,) float: what D says of real samples, positive = real
    fake  (M,) float: what D says of generated ones; M may differ from N
    kind  'ns', 'minimax', 'lsgan', 'hinge' or 'wgan'

    Returns (d_loss, g_loss), each () float. Finite, with finite gradients, for logits up to 1e3 in magnitude.
    At the two margins of the hinge loss, r = 1 and f = -1, any subgradient is right.
    Raises ValueError for another kind.
    """
    ### BEGIN SOLUTION
    if kind in ("ns", "minimax"):
        d_loss = softplus(-real).mean() + softplus(fake).mean()
        return d_loss, softplus(-fake).mean() if kind == "ns" else -softplus(fake).mean()
    if kind == "lsgan":
        return (real - 1).square().mean() / 2 + fake.square().mean() / 2, (fake - 1).square().mean() / 2
    if kind == "hinge":
        return (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean(), -fake.mean()
    if kind == "wgan":
        return fake.mean() - real.mean(), -fake.mean()
    raise ValueError(f"no GAN loss is called {kind!r}")
    ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left the generator's loss of one fake sample, on the right the size of its slope: what
# $G$ learns from that sample. `minimax` has no slope on the left, where $D$ recognises the fake; `ns` has none on the
# right, where $G$ has won. Least squares pushes back beyond 1, and hinge and Wasserstein push all samples alike.

# %%
logit = torch.linspace(-5, 5, 201, requires_grad=True)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for kind, colour, style in (("minimax", GOLD, "--"), ("ns", PURPLE, "-"), ("lsgan", TEAL, "-."), ("wgan", INK, ":")):
    losses = torch.stack([gan_losses(torch.zeros(1), one[None], kind)[1] for one in logit])
    (slope,) = torch.autograd.grad(losses.sum(), logit)
    label = "hinge, wgan" if kind == "wgan" else kind
    axes[0].plot(logit.detach(), losses.detach(), style, color=colour, label=label, linewidth=2)
    axes[1].plot(logit.detach(), slope.abs(), style, color=colour, linewidth=2)
axes[0].set(title="generator's loss of one sample", xlabel="logit of the fake sample", ylim=(-5.5, 6))
axes[1].set(title="size of its slope", xlabel="logit of the fake sample", ylim=(-0.05, 3))
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 2. A critic with slope 1  ★★ · 40 minutes
#
# Where real and fake samples do not overlap, a good $D$ is flat on both sides and teaches nothing. The Wasserstein
# distance has no such problem: it is the largest difference $\mathbb{E} D(x) - \mathbb{E} D(\tilde x)$ among all
# critics whose slope is nowhere above 1. An optimal critic has slope *exactly* 1 almost everywhere on the straight
# lines between the samples that an optimal plan pairs. Gulrajani et al. (2017, Eq. 3) ask for this directly. With a
# random point on a line for each example,
#
# $$ \hat x_i = \epsilon_i\, x_i + (1 - \epsilon_i)\, \tilde x_i, \qquad
#    P = \frac{1}{B} \sum_i \bigl( \lVert \nabla_{\hat x} D(\hat x_i) \rVert_2 - 1 \bigr)^2 \tag{5} $$
#
# where $x$ is real and $\tilde x$ fake. The critic minimises $L_D^{\mathrm{wgan}} + \lambda P$, usually with
# $\lambda = 10$. The penalty is two-sided: slopes below 1 cost as well. The norm is that of *one example*, over all
# its axes.
#
# $P$ contains a gradient, and it is to be minimised: so the gradient must itself be differentiable, with respect to
# the critic's weights. A penalty that is only right in its value trains nothing, and no error tells.
#
# *Watch for* the axes that $\epsilon$ lacks; for gradients that are divided by $B$ because a mean was
# differentiated; and for a critic that is flat, where the root in the norm has an infinite slope.

# %% [markdown] hints="wgan_gp"
# 1. The points between need a gradient themselves. They are a new tensor; make it a leaf.
# 2. The critic treats examples independently, so the gradient of the *sum* of its outputs holds the gradient of each
#    output in the corresponding row.
# 3. `torch.autograd.grad` forgets how it computed its result unless it is told to make a graph.
# 4. At 0, `(g * g).sum().sqrt()` has gradient NaN; the norms of `torch.linalg` and `Tensor.norm` have gradient 0.

# %% exercise="wgan_gp"
def gradient_penalty(critic, real: Tensor, fake: Tensor, eps: Tensor) -> Tensor:
    """Two-sided gradient penalty, without its factor lambda: Gulrajani et al. (2017), Eq. 3; our Eq. (5).

    critic  a function of (B, *) float that returns (B,) float, each example by itself; differentiable twice
    real    (B, *) float, at least one axis besides B; a constant
    fake    (B, *) float, as real; a constant: no gradient need reach the generator
    eps     (B,) float in [0, 1]: the share of the real sample, one for each example; a constant

    Returns P, () float, differentiable with respect to whatever tensors the critic is made of.
    Where the critic is flat the norm is 0, and its gradient counts as 0.
    """
    ### BEGIN SOLUTION
    share = eps.reshape(-1, *[1] * (real.dim() - 1))
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Real samples lie around 2, fake ones around $-2$, and a small critic is trained on them alone,
# with the Wasserstein loss. Without a penalty it grows steeper as long as one trains, and it is flat where the samples
# lie: they learn nothing. With it, the critic is nearly a straight line, and a fake sample learns which way to go
# wherever it is. Its slope is a little above 1, for a penalty is no law: clusters at a distance of 4 reward a slope $s$
# with $4s$, and $-4s + 10\,(s - 1)^2$ is smallest at $s = 1.2$.

# %%
def train_critic(weight, steps=150):
    generator = torch.Generator().manual_seed(0)
    W, b, a = (torch.randn(shape, generator=generator).requires_grad_() for shape in ((24, 1), (24,), (24,)))
    optimizer = torch.optim.Adam([W, b, a], lr=0.05)
    for _ in range(steps):
        noise = torch.randn(2, 64, 1, generator=generator) * 0.3
        real, fake = 2 + noise[0], -2 + noise[1]
        def critic(x):
            return torch.tanh(x @ W.T + b) @ a
        loss = critic(fake).mean() - critic(real).mean()
        if weight:
            loss = loss + weight * gradient_penalty(critic, real, fake, torch.rand(64, generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    line = torch.linspace(-3, 3, 121)[:, None]
    with torch.no_grad():
        return line[:, 0], critic(line)

fig, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
for ax, weight, title in ((axes[0], 0, "no penalty"), (axes[1], 10, "gradient penalty, λ = 10")):
    line, value = train_critic(weight)
    ax.plot(line, value, color=PURPLE, linewidth=2)
    ax.axvspan(-2.6, -1.4, color=GOLD, alpha=0.25)
    ax.axvspan(1.4, 2.6, color=TEAL, alpha=0.25)
    slope = (value[62] - value[58]) / (line[62] - line[58])
    ax.set(title=f"{title}: slope at 0 is {slope:.2f}", xlabel="x (fake left, real right)")
axes[0].set_ylabel("critic D(x)")
plt.show()

# %% [markdown]
# ## 3. Samples of a chosen class  ★ · 30 minutes
#
# A generator that is only given noise decides by itself what it draws. Mirza & Osindero (2014, Eq. 2) give the class
# $y$ to *both* networks. If only $G$ knew it, nothing would keep $G$ from ignoring it. In $G$ the class enters at the
# bottom, as a learned vector $e_y$ beside the noise:
#
# $$ G(z, y) = W_2 \tanh(W_1\, [z, e_y] + b_1) + b_2 \tag{6} $$
#
# In $D$ the same could be done. But if the class decides *where* in feature space the real samples lie, and $\phi(x)$
# are the features, then the log-likelihood ratio that $D$ estimates is, for common families of distributions, a linear
# function of $\phi$ whose direction depends on $y$. Miyato & Koyama (2018, §3) build exactly that, the *projection
# discriminator*: an unconditional judgement plus an inner product with a vector for the class,
#
# $$ r(x, y) = \psi^\top \phi(x) + b + V_y^\top \phi(x) \tag{7} $$
#
# so that $r(x, y) - r(x, y') = (V_y - V_{y'})^\top \phi(x)$. The two networks have tables of their own: $e$ is not
# $V$.
#
# *Watch for* labels that do not exist. Python reads `V[-1]` as the last row, and a label of $-1$ (often "unknown")
# would silently become class $K - 1$.

# %% [markdown] hints="conditional_gan"
# 1. The keys of the state_dict follow from the names of attributes and the modules that they hold: a table of vectors
#    and two linear layers.
# 2. `torch.cat` along the last axis; the contract says what comes first.
# 3. For (7), choose the row of each example first: `(B, D)` times `(B, D)`, summed over the last axis. A matrix
#    product of `phi` and `V` has the logits of *all* classes.
# 4. nn.Embedding refuses labels outside its table; indexing a tensor refuses only those that are too large.

# %% exercise="conditional_gan"
class CondG(nn.Module):
    """A conditional generator: Mirza & Osindero (2014), Eq. 2; our Eq. (6).

    CondG(noise, classes, embed, hidden, out), five ints >= 1: the sizes Z, K, E, H and O

    state_dict: embed.weight (K, E), fc1.weight (H, Z + E), fc1.bias (H,), fc2.weight (O, H), fc2.bias (O,).
    The first Z columns of fc1.weight meet the noise, the last E the class. Any initialisation is right.
    """

    def __init__(self, noise: int, classes: int, embed: int, hidden: int, out: int):
        ### BEGIN SOLUTION
        super().__init__()
        self.embed = nn.Embedding(classes, embed)
        self.fc1 = nn.Linear(noise + embed, hidden)
        self.fc2 = nn.Linear(hidden, out)
        ### END SOLUTION

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z (B, Z) float, y (B,) long in [0, K) -> (B, O) float. IndexError for any other label, also negative."""
        ### BEGIN SOLUTION
        hidden = torch.tanh(self.fc1(torch.cat([z, self.embed(y)], dim=-1)))
        return self.fc2(hidden)
        ### END SOLUTION


def projection_logit(phi: Tensor, y: Tensor, V: Tensor, psi: Tensor, b: Tensor) -> Tensor:
    """The logit of a projection discriminator: Miyato & Koyama (2018), Sec. 3; our Eq. (7).

    phi  (B, D) float: features of the samples
    y    (B,) long in [0, K): their classes
    V    (K, D) float: a vector for each class
    psi  (D,) float and b () float: the unconditional part

    Returns (B,) float. Raises IndexError for any other label, also a negative one.
    """
    ### BEGIN SOLUTION
    return phi @ psi + b + (embedding(y, V) * phi).sum(dim=-1)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Features in the plane, three classes whose vectors $V_y$ (arrows) point in three directions, and
# $\psi = 0$. Each map is the probability "real" for one class: the half plane that the arrow points into. The same
# features are real as one class and fake as another, so a generator that ignores $y$ is found out.

# %%
side = torch.linspace(-2, 2, 60)
features = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).reshape(-1, 2)
turn = torch.arange(3) * 2 * math.pi / 3
V = 1.5 * torch.stack([turn.cos(), turn.sin()], dim=-1)
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
for k, ax in enumerate(axes):
    logits = projection_logit(features, torch.full((3600,), k), V, torch.zeros(2), torch.tensor(0.0))
    image = ax.imshow(torch.sigmoid(logits).reshape(60, 60), origin="lower", extent=(-2, 2, -2, 2), cmap="cividis",
                      vmin=0, vmax=1)
    ax.annotate("", V[k].tolist(), (0, 0), arrowprops={"arrowstyle": "-|>", "color": "white", "linewidth": 2})
    ax.set_title(f"σ(r) for class {k}")
fig.colorbar(image, ax=axes[-1], fraction=0.046)
plt.show()

# %% [markdown]
# ## 4. Style in the weights  ★★ · 45 minutes
#
# StyleGAN steers a convolutional generator by a *style*: one scale for each input channel of each layer, computed from
# $w = f(z)$, different for every example. In its second version (Karras et al. 2020, §2.2) the style acts on the
# weights. With weight $w_{oik}$ (output channel, input channel, tap) and style $s_i$, *modulation* is their Eq. 1,
#
# $$ w'_{oik} = s_i\, w_{oik} \tag{8} $$
#
# A style that amplifies one channel would amplify everything after it. If the inputs are independent with variance 1,
# an output of (8) has the standard deviation $\sigma_o = \sqrt{\sum_{i,k} w'^2_{oik}}$; *demodulation* (their Eq. 3)
# divides by it, so that outputs have variance 1 again, by expectation and not by measuring:
#
# $$ w''_{oik} = \frac{w'_{oik}}{\sqrt{\sum_{i,k} w'^2_{oik} + \varepsilon}} \tag{9} $$
#
# What the style changes are the *proportions* of the inputs; multiplying the whole style by 2 does nothing.
#
# Every example has a kernel of its own now. That is one call all the same: a grouped convolution treats `B` groups of
# channels independently, so fold the batch into the channels, `(1, B * C, H, W)`, and use `B` groups.
#
# *Watch for* the axes of the sum in (9), and for what the gradient of the style has to pass: $\sigma_o$ depends on it.

# %% [markdown] hints="modulated_conv2d"
# 1. Build the kernels of all examples first: a tensor of shape (B, O, C, K, K).
# 2. The sum in (9) is over the last three axes of it: one number for each example and output channel.
# 3. In `conv2d` with groups, the weight has shape (groups * O, C, K, K), and the group's outputs stand together.
# 4. Inputs may be strided: `reshape` copies where it has to, `view` refuses.

# %% exercise="modulated_conv2d"
def modulated_conv2d(x: Tensor, w: Tensor, s: Tensor, eps: float = 1e-8) -> Tensor:
    """Convolution with modulated and demodulated weights: Karras et al. (2020), Eqs. 1 and 3; our Eqs. (8)-(9).

    x    (B, C, H, W) float
    w    (O, C, K, K) float, K odd
    s    (B, C) float: the styles
    eps  float >= 0 (0 only where no sum in Eq. (9) is 0)

    Returns (B, O, H, W) float: as in all libraries the kernel is not flipped (a correlation), and x is padded with
    K // 2 zeros on each side.
    """
    ### BEGIN SOLUTION
    batch, channels, height, width = x.shape
    out, _, taps, _ = w.shape
    kernel = w * s[:, None, :, None, None]
    kernel = kernel / (kernel.square().sum(dim=(2, 3, 4), keepdim=True) + eps).sqrt()
    y = conv2d(x.reshape(1, batch * channels, height, width), kernel.reshape(batch * out, channels, taps, taps),
               padding=taps // 2, groups=batch)
    return y.reshape(batch, out, height, width)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** White noise passes six layers whose styles differ by factors of up to ten. With demodulation the
# standard deviation stays near 1. Without it, dashed, every layer multiplies it by a factor of its own, and after six
# layers it is beyond a hundred million.

# %%
generator = torch.Generator().manual_seed(1)
x = plain = torch.randn(4, 8, 24, 24, generator=generator)
sizes = [(x.std(), plain.std())]
for _ in range(6):
    w = torch.randn(8, 8, 3, 3, generator=generator)
    s = torch.exp(torch.rand(4, 8, generator=generator) * math.log(10))
    x = modulated_conv2d(x, w, s)
    plain = torch.stack([conv2d((one * style[:, None, None])[None], w, padding=1)[0]
                         for one, style in zip(plain, s, strict=True)])
    sizes.append((x.std(), plain.std()))
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.semilogy([one for one, _ in sizes], "o-", color=PURPLE, label="modulated and demodulated")
ax.semilogy([other for _, other in sizes], "s--", color=GOLD, label="modulated only")
ax.set(title="standard deviation of the features", xlabel="layer")
ax.legend()
plt.show()

# %% [markdown]
# ## 5. Small parts of StyleGAN  ★★ · 40 minutes
#
# Four short functions that stand around the convolutions.
#
# **Pixel norm** (Karras et al. 2018, §4.2) sets the mean square of a vector to 1. StyleGAN applies it to the noise:
# of $z$ only the direction is left.
#
# $$ \mathrm{pn}(z) = z \Big/ \sqrt{\tfrac{1}{D} \textstyle\sum_j z_j^2 + \varepsilon} \tag{10} $$
#
# **Minibatch standard deviation** (2018, §3) is a remedy for *mode collapse*. A judge that sees one sample at a time
# cannot know that all of them are the same. So the batch is split into groups, the standard deviation of every
# feature at every position is computed over the group, and its mean over all features and positions is one number for
# each group, appended to its examples as a further constant channel. With $x_{nj}$, $j$ running over channels and
# positions, and $\Gamma$ a group,
#
# $$ \mu_j = \frac{1}{|\Gamma|} \sum_{n \in \Gamma} x_{nj}, \qquad
#    c_\Gamma = \operatorname*{mean}_j \sqrt{\frac{1}{|\Gamma|} \sum_{n \in \Gamma} (x_{nj} - \mu_j)^2 + \varepsilon}
#    \tag{11} $$
#
# Which examples form a group is a convention. **We follow the authors' code**: with $M = B / |\Gamma|$ groups,
# example $n$ belongs to group $n \bmod M$, so a group is strided and *not* a run of neighbours.
#
# **AdaIN** (2019, Eq. 1), the older way to apply a style, normalises each channel of each example and gives it the
# style's scale and bias. With mean $\mu$ and biased variance $\sigma^2$ over the positions of one channel of one
# example,
#
# $$ \mathrm{AdaIN}(x, y) = y_s\, \frac{x - \mu(x)}{\sqrt{\sigma^2(x) + \varepsilon}} + y_b \tag{12} $$
#
# The **truncation trick** (2019, App. B) trades variety for quality: rare styles are pulled towards the mean one.
#
# $$ w' = \bar w + \psi\, (w - \bar w) \tag{13} $$
#
# *Watch for* sums where means are meant, and for a group of one example, or of equal ones: its deviation is 0, and the
# root of 0 has no finite slope. That is what $\varepsilon$ is for.

# %% [markdown] hints="stylegan_mapping"
# 1. (10) has a mean, not a sum: it is no unit vector.
# 2. For (11), a reshape of the batch axis into two puts the strided groups on one axis of their own. Which of the two
#    sizes comes first?
# 3. The mean of roots is not the root of the mean. Expand c to (B, 1, H, W) so that example n gets the number of
#    group n mod M.
# 4. torch's variance divides by n - 1 unless told otherwise.

# %% exercise="stylegan_mapping"
def pixel_norm(z: Tensor, eps: float = 1e-8) -> Tensor:
    """z (B, D) float, eps > 0 -> (B, D) float: Karras et al. (2018), Sec. 4.2; our Eq. (10)."""
    ### BEGIN SOLUTION
    return z / (z.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    ### END SOLUTION


def minibatch_stddev(x: Tensor, group: int, eps: float = 1e-8) -> Tensor:
    """Appends the mean standard deviation over a group: Karras et al. (2018), Sec. 3; our Eq. (11).

    x      (B, C, H, W) float
    group  int >= 1: the size of a group; example n belongs to group n mod (B // group)
    eps    float > 0

    Returns (B, C + 1, H, W) float: x, and c as the last channel. Raises ValueError if group does not divide B.
    """
    ### BEGIN SOLUTION
    batch, _, height, width = x.shape
    if batch % group:
        raise ValueError(f"groups of {group} from {batch} examples")
    groups = x.reshape(group, batch // group, -1)
    deviation = (groups.var(dim=0, unbiased=False) + eps).sqrt().mean(dim=-1)
    constant = deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([x, constant], dim=1)
    ### END SOLUTION


def adain(x: Tensor, ys: Tensor, eps: float = 1e-8) -> Tensor:
    """Adaptive instance normalization: Karras et al. (2019), Eq. 1; our Eq. (12).

    x    (B, C, H, W) float
    ys   (B, 2, C) float: ys[:, 0] is the scale (as it is, no 1 added), ys[:, 1] the bias
    eps  float > 0

    Returns (B, C, H, W) float.
    """
    ### BEGIN SOLUTION
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    normal = centred / (centred.square().mean(dim=(2, 3), keepdim=True) + eps).sqrt()
    scale, bias = ys[..., None, None].unbind(dim=1)
    return scale * normal + bias
    ### END SOLUTION


def truncate(w: Tensor, w_avg: Tensor, psi: float) -> Tensor:
    """w (B, D) float, w_avg (D,) float, psi any float -> (B, D) float: Karras et al. (2019), App. B; our Eq. (13)."""
    ### BEGIN SOLUTION
    return torch.lerp(w_avg.expand_as(w), w, psi)
    ### END SOLUTION

# %% [markdown]
# **What to look at.** On the left, styles are pulled towards their mean: $\psi = 0.4$ keeps the shape of the cloud and
# shrinks it. On the right, a generator collapses: its 16 outputs move towards each other, and the channel that
# `minibatch_stddev` appends falls in proportion. A judge that reads this channel sees at a glance what no single
# sample shows.

# %%
generator = torch.Generator().manual_seed(4)
cloud = pixel_norm(torch.randn(300, 8, generator=generator)) @ torch.randn(8, 2, generator=generator)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.3), layout="constrained")
for psi, colour, marker in ((1.0, GOLD, "x"), (0.4, PURPLE, "o")):
    points = truncate(cloud, cloud.mean(0), psi)
    axes[0].plot(points[:, 0], points[:, 1], marker, color=colour, markersize=4, linestyle="", label=f"ψ = {psi}")
axes[0].set(title="truncated styles", aspect="equal")
axes[0].legend()
images, spread = torch.randn(16, 3, 8, 8, generator=generator), torch.linspace(0, 1, 21)
for group, style, colour in ((4, "o-", PURPLE), (16, "s--", TEAL)):
    seen = [minibatch_stddev(images[:1] + share * (images - images[:1]), group)[:, -1].mean() for share in spread]
    axes[1].plot(spread, seen, style, color=colour, markersize=4, label=f"groups of {group}")
axes[1].set(title="the appended channel", xlabel="variety of the batch (0: all equal)")
axes[1].legend()
plt.show()

# %% [markdown]
# ## 6. There and back again  ★★ · 60 minutes
#
# Photographs of horses and photographs of zebras, but no horse that was also taken as a zebra: how can one learn to
# translate? Zhu et al. (2017) train $G$ from domain $A$ to $B$ and $F$ from $B$ to $A$, with a judge in each domain.
# The judges ask only that $G(a)$ *looks like* some $b$; any shuffling of horses and zebras would please them. What ties
# the output to the input is *cycle consistency* (Eq. 2): there and back again must be where one started.
#
# $$ L_{\mathrm{cyc}} = \overline{\lvert F(G(a)) - a \rvert} + \overline{\lvert G(F(b)) - b \rvert} \tag{14} $$
#
# Bars are means over all elements of a batch, each batch by itself. The adversarial part uses least squares (§4); with
# logits or scores of the judges, the generators minimise
#
# $$ L_{\mathrm{adv}} = \overline{(D_B(G(a)) - 1)^2} + \overline{(D_A(F(b)) - 1)^2} \tag{15} $$
#
# and an identity loss (§5.2) keeps colours: what is already in the target domain should stay as it is,
#
# $$ L_{\mathrm{id}} = \overline{\lvert G(b) - b \rvert} + \overline{\lvert F(a) - a \rvert}, \qquad
#    L_{\mathrm{gen}} = L_{\mathrm{adv}} + \lambda_{\mathrm{cyc}} L_{\mathrm{cyc}}
#    + \lambda_{\mathrm{id}} L_{\mathrm{id}} \tag{16} $$
#
# Each judge minimises, with the generators held fixed,
#
# $$ L_{D_A} = \overline{(D_A(a) - 1)^2} + \overline{D_A(F(b))^2}, \qquad
#    L_{D_B} = \overline{(D_B(b) - 1)^2} + \overline{D_B(G(a))^2} \tag{17} $$
#
# (The authors' code halves (17), which only slows the judges. We do not.)
#
# Judges that see only the newest fakes forget the old ones, and the game runs in circles. §4 lets them see a *history*:
# a pool of 50 earlier images. While the pool is not full, each image is stored and returned. After that, half of the
# images are returned as they are; the others take the place of a stored one, which is returned instead.
#
# *Watch for* the domains: $D_A$ judges what $F$ makes. And for what a pool may keep: an image with its graph keeps the
# whole generator of its time in memory, and one without a copy changes when its owner reuses the memory.

# %% [markdown] hints="cyclegan_losses"
# 1. Compute G(a) and F(b) once and write down for each of the two its judge, its way back and its domain.
# 2. In (17) the fakes are data: cut their graph there, and only there. In (15) the graph of the same fakes is needed.
# 3. For the pool, go through the images one by one in their order: an image of the batch may be displaced by a later
#    one of the same batch.
# 4. `detach()` shares memory with its source; `clone()` copies.

# %% exercise="cyclegan_losses"
def cyclegan_losses(G, F, D_a, D_b, a: Tensor, b: Tensor, lam_cyc: float, lam_id: float) -> dict[str, Tensor]:
    """All losses of a CycleGAN: Zhu et al. (2017), Eqs. 1-3 with least squares, Secs. 4 and 5.2; our Eqs. (14)-(17).

    G, F      functions (N, *) -> (N, *) float, any N: from domain A to B, and from B to A
    D_a, D_b  functions (N, *) -> (N,) float: the judges of the domains A and B
    a, b      (N, *) and (M, *) float: a batch of each domain; M may differ from N
    lam_cyc, lam_id  floats >= 0: the weights in Eq. (16)

    Returns a dict of () floats: 'adv', 'cyc', 'id', 'gen' (the weighted sum), 'd_a' and 'd_b'.
    No gradient of 'd_a' and 'd_b' reaches G or F. Those of the others reach G and F; whether they reach the judges'
    weights is left open.
    """
    ### BEGIN SOLUTION
    fake_b, fake_a = G(a), F(b)
    adv = (D_b(fake_b) - 1).square().mean() + (D_a(fake_a) - 1).square().mean()
    cyc = (F(fake_b) - a).abs().mean() + (G(fake_a) - b).abs().mean()
    idt = (G(b) - b).abs().mean() + (F(a) - a).abs().mean()
    d_a = (D_a(a) - 1).square().mean() + D_a(fake_a.detach()).square().mean()
    d_b = (D_b(b) - 1).square().mean() + D_b(fake_b.detach()).square().mean()
    return {"adv": adv, "cyc": cyc, "id": idt, "gen": adv + lam_cyc * cyc + lam_id * idt, "d_a": d_a, "d_b": d_b}
    ### END SOLUTION


class ImagePool:
    """A history of generated images: Zhu et al. (2017), Sec. 4.

    ImagePool(size), int >= 0: how many images it holds at most. It is empty at first.
    """

    def __init__(self, size: int):
        ### BEGIN SOLUTION
        self.size, self.images = size, []
        ### END SOLUTION

    def query(self, imgs: Tensor, coins: Tensor, idx: Tensor) -> Tensor:
        """What the judge is to see instead of imgs; the images are handled one by one, in their order.

        imgs   (N, *) float; the caller may overwrite it later
        coins  (N,) float in [0, 1)
        idx    (N,) long in [0, size); any value if size is 0

        While the pool holds fewer than `size` images, image i is stored at its end, and returned. After that, if
        coins[i] > 0.5, the stored image number idx[i] (0 is the one stored first) is returned, and image i takes its
        place; otherwise image i is returned and not stored. A pool of size 0 returns all images.

        Returns (N, *) float, which requires no gradient. What is stored carries no graph.
        """
        ### BEGIN SOLUTION
        answer = imgs.detach().clone()
        for i, image in enumerate(answer.clone()):
            if len(self.images) < self.size:
                self.images.append(image)
            elif self.size and coins[i] > 0.5:
                answer[i], self.images[idx[i]] = self.images[idx[i]], image
        return answer
        ### END SOLUTION

# %% [markdown]
# **What to look at.** A generator makes image number $t$ in step $t$. The newest image lies on the diagonal; what your
# pool of 20 hands to the judge is half new and half old. On the right the age of what was returned: a stored image
# survives for $2 \cdot 20$ steps on average, and some are much older. This is the memory that keeps judges from going
# in circles.

# %%
generator = torch.Generator().manual_seed(5)
pool, steps = ImagePool(20), 600
shown = torch.cat([pool.query(torch.tensor([[float(t)]]), torch.rand(1, generator=generator),
                              torch.randint(0, 20, (1,), generator=generator)) for t in range(steps)])[:, 0]
age = torch.arange(steps) - shown
fig, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", width_ratios=[1.4, 1])
axes[0].plot(shown, ".", color=PURPLE, markersize=4)
axes[0].set(title="what the judge sees", xlabel="step", ylabel="step at which it was made")
axes[1].hist(age[20:], bins=30, color=TEAL, edgecolor="white")
full = age[20:]
axes[1].set(title=f"age; new: {(full == 0).float().mean():.2f}, mean of the old: {full[full > 0].mean():.0f}",
            xlabel="steps", yscale="log")
plt.show()

# %% [markdown]
# ## 7. One step of both networks  ★★★ · 60 minutes
#
# The training loop of a GAN is short, and every line is a place where gradients go astray. One step, after Goodfellow
# et al. (2014, Alg. 1 with one step of $D$), with the losses of (1) and (2), kind `ns`:
#
# 1. **D phase.** $G$ makes fakes from `z_d`. $D$ judges the real batch, then the fakes; (1) is minimised by one step of
#    $D$'s optimizer. For this phase $G$ is a constant.
# 2. **G phase.** $G$ makes *new* fakes from `z_g`; the $D$ that was just updated judges them; (2) is minimised by one
#    step of $G$'s optimizer. The gradient passes *through* $D$ but $D$ does not move.
#
# $$ \theta_D \leftarrow \theta_D - \eta\, \nabla_{\theta_D} L_D(\theta_D, \theta_G;\, x, z_D), \qquad
#    \theta_G \leftarrow \theta_G - \eta\, \nabla_{\theta_G} L_G(\theta_D, \theta_G;\, z_G) \tag{18} $$
#
# Backward *adds* to `.grad`. The G phase leaves gradients in $D$ that have nothing to do with $D$'s next step, and
# whatever stood there before the call has not, either.
#
# Batch normalization makes the order matter: it normalises by the statistics of the batch that it is given, and its
# running averages remember every call. Real and fake samples are judged in **two calls**, real first, as a mixed batch
# would give away by its statistics alone what is fake. Both networks stay in training mode.
#
# This exercise is graded by the state that is left: weights, buffers, gradients, losses.
#
# *Watch for* a `backward` that reaches $G$ in the D phase: it is cleared before it can do harm, but it doubles the cost
# of the step. And for losses that are returned with their graph: a list of them is a memory leak.

# %% [markdown] hints="gan_train_step"
# 1. Each phase has five parts: fakes, loss, clearing gradients, backward, step. Only their order can go wrong.
# 2. `detach()` the fakes of the D phase, or make them without a graph. In the G phase neither is right.
# 3. Clear the gradients of a network right before the backward of *its* phase, not after the step.
# 4. The losses that you return should be detached.

# %% exercise="gan_train_step"
def gan_train_step(G: nn.Module, D: nn.Module, opt_g, opt_d, real: Tensor, z_d: Tensor, z_g: Tensor) -> dict:
    """One step of D, then one of G, with the non-saturating loss: Goodfellow et al. (2014), Alg. 1; our Eq. (18).

    G, D          modules in training mode: (B, Z) -> (B, d) float, and (B, d) -> (B,) logits
    opt_g, opt_d  optimizers with zero_grad() and step(), of all parameters of G and of D
    real          (B, d) float: real samples
    z_d           (B, Z) float: noise for the D phase
    z_g           (M, Z) float: noise for the G phase

    G is called once with z_d and once with z_g; D on the real samples, on the fakes of z_d, and, after its step, on the
    fakes of z_g, in this order. Each optimizer makes one step. Gradients that stood in the parameters before count for
    nothing, and the D phase leaves none in G. What stands in the gradients after the call is left open.

    Returns {'d_loss': L_D, 'g_loss': L_G}, () floats that require no gradient, computed before the respective step.
    """
    ### BEGIN SOLUTION
    fake = G(z_d).detach()
    d_loss = softplus(-D(real)).mean() + softplus(D(fake)).mean()
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()

    g_loss = softplus(-D(G(z_g))).mean()
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    return {"d_loss": d_loss.detach(), "g_loss": g_loss.detach()}
    ### END SOLUTION

# %% [markdown]
# **What to look at.** Real samples (crosses) lie in eight clusters on a circle; the generator begins as one cloud.
# Watch how its samples (dots) first spread and then gather in the clusters. Some stay on the way between two of them:
# $G$ is continuous, and cannot tear one cloud of noise into eight. The printed line counts the samples near each
# cluster; the shares are uneven, and with other seeds a cluster may get none, which is *mode collapse*. The losses on
# the right do not tell you that the samples get better: in the second half both hover around 1.1, below the
# $2 \log 2$ at which a judge can only guess, while $G$ and $D$ go on moving.
#
# $D$ learns three times as fast as $G$, so that its judgement keeps up (Heusel et al. 2017), and Adam has no momentum,
# which would only add to the circling.

# %%
def ring(n, generator):
    """(n, 2) samples of eight clusters on a circle."""
    angle = torch.randint(0, 8, (n,), generator=generator) * math.pi / 4
    return 2 * torch.stack([angle.cos(), angle.sin()], -1) + 0.1 * torch.randn(n, 2, generator=generator)


def network(sizes, generator):
    """Linear layers with leaky ReLU between them, initialised by `generator`."""
    layers = []
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layer = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(fan_out, fan_in, generator=generator) * (2 / fan_in) ** 0.5)
            layer.bias.zero_()
        layers += [nn.LeakyReLU(0.2), layer] if i else [layer]
    return nn.Sequential(*layers)


generator = torch.Generator().manual_seed(6)
G, D = network([2, 64, 64, 2], generator), nn.Sequential(network([2, 64, 64, 1], generator), nn.Flatten(0))
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.99))
opt_d = torch.optim.Adam(D.parameters(), lr=3e-3, betas=(0.0, 0.99))
history, snapshots, fixed = [], {}, torch.randn(300, 2, generator=generator)
for step in range(1201):
    if step in (0, 400, 1200):
        snapshots[step] = G(fixed).detach()
    noise = torch.randn(2, 128, 2, generator=generator)
    losses = gan_train_step(G, D, opt_g, opt_d, ring(128, generator), *noise)
    history.append((losses["d_loss"].item(), losses["g_loss"].item()))
fig, axes = plt.subplots(1, 4, figsize=(13, 3.3), layout="constrained")
target = ring(200, generator)
for ax, (step, points) in zip(axes, snapshots.items(), strict=False):
    ax.plot(target[:, 0], target[:, 1], "x", color=GOLD, markersize=4)
    ax.plot(points[:, 0], points[:, 1], "o", color=PURPLE, markersize=2.5)
    ax.set(title=f"after {step} steps", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
axes[3].plot([d for d, _ in history], color=TEAL, linewidth=0.8, label="$L_D$")
axes[3].plot([g for _, g in history], "--", color=PURPLE, linewidth=0.8, label="$L_G$")
axes[3].axhline(2 * math.log(2), color=INK, linestyle=":")
axes[3].set(title="losses; dotted: $L_D$ = 2 log 2", xlabel="step")
axes[3].legend()
plt.show()
centres = 2 * torch.stack([torch.cos(torch.arange(8) * math.pi / 4), torch.sin(torch.arange(8) * math.pi / 4)], dim=-1)
away, nearest = torch.cdist(snapshots[1200], centres).min(dim=1)
print("samples of 300 within 0.4 of each cluster:", torch.bincount(nearest[away < 0.4], minlength=8).tolist())

# %% [markdown]
# ## Finale: two classes on a line
#
# The data are numbers: class 0 lies around $-2$ and class 1 around $2$, both with deviation 0.5. A conditional
# generator is trained with your `CondG`, a projection discriminator with your `projection_logit` and the loss `ns` of
# your `gan_losses`. Two stabilisers of practice are added: the penalty $R_1 = \frac{\gamma}{2}\, \overline{\lVert
# \nabla_x D(x) \rVert^2}$ on *real* samples (Mescheder et al. 2018, Eq. 9), which makes the game settle instead of
# circle, and an exponential moving average of $G$'s weights, from which we sample.
#
# **What to look at.** With $R_1$ the mean of each class comes close to $-2$ and $2$, printed below, and stays there.
# Without it, the means go on swinging: $D$ remains as steep as it likes, and every step of $G$ overshoots. The averaged
# weights (thick) hide much of that, which is why everybody uses them.

# %%
def train_conditional(gamma, seed=0, steps=500):
    """Means of both classes in the course of training, (steps / 5, 2, 2): newest and averaged weights; then samples."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # for the initial weights
    G, average = CondG(4, 2, 4, 32, 1), CondG(4, 2, 4, 32, 1)
    average.load_state_dict(G.state_dict())
    body = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh())
    V, psi, b = (torch.zeros(shape, requires_grad=True) for shape in ((2, 16), (16,), ()))
    opt_g = torch.optim.Adam(G.parameters(), lr=3e-3, betas=(0.5, 0.99))
    opt_d = torch.optim.Adam([*body.parameters(), V, psi, b], lr=3e-3, betas=(0.5, 0.99))
    y, path = torch.arange(128) % 2, []
    for step in range(steps):
        x = (4 * y[:, None] - 2 + 0.5 * torch.randn(128, 1, generator=generator)).requires_grad_()
        real = projection_logit(body(x), y, V, psi, b)
        fake = projection_logit(body(G(torch.randn(128, 4, generator=generator), y).detach()), y, V, psi, b)
        (slope,) = torch.autograd.grad(real.sum(), x, create_graph=True)
        opt_d.zero_grad()
        (gan_losses(real, fake, "ns")[0] + gamma / 2 * slope.pow(2).sum(1).mean()).backward()
        opt_d.step()
        opt_g.zero_grad()
        fake = projection_logit(body(G(torch.randn(128, 4, generator=generator), y)), y, V, psi, b)
        gan_losses(real.detach(), fake, "ns")[1].backward()
        opt_g.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), G.parameters(), strict=True):
                slow.lerp_(fast, 0.02)
            if step % 5 == 0:
                noise, both = torch.randn(256, 4, generator=generator), torch.arange(256) % 2
                path.append([[net(noise, both)[both == k].mean() for k in (0, 1)] for net in (G, average)])
    with torch.no_grad():
        noise, both = torch.randn(2000, 4, generator=generator), torch.arange(2000) % 2
        return torch.tensor(path), average(noise, both)[:, 0], both


fig, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained", width_ratios=[1.3, 1.3, 1])
for ax, gamma in zip(axes, (1.0, 0.0), strict=False):
    path, samples, classes = train_conditional(gamma)
    for k, colour, style in ((0, PURPLE, "-"), (1, TEAL, "--")):
        ax.plot(torch.arange(len(path)) * 5, path[:, 0, k], style, color=colour, linewidth=0.7)
        ax.plot(torch.arange(len(path)) * 5, path[:, 1, k], style, color=colour, linewidth=2.5, label=f"class {k}")
        ax.axhline(4 * k - 2, color=INK, linestyle=":")
    ax.set(title=f"means of both classes, γ = {gamma:g}", xlabel="step", ylim=(-4, 4))
    means = [samples[classes == k].mean().item() for k in (0, 1)]
    print(f"R1 with γ = {gamma:g}: means {means[0]:.2f} and {means[1]:.2f}, wanted -2 and 2")
    if gamma:
        for k, colour, hatch in ((0, PURPLE, ""), (1, TEAL, "//")):
            axes[2].hist(samples[classes == k], bins=40, range=(-4, 4), color=colour, alpha=0.6, hatch=hatch)
axes[0].legend(loc="center right")
axes[2].set(title="samples, γ = 1", xlabel="x")
plt.show()

# %% [markdown]
# ## Going further
#
# - **The Dirac GAN.** Put all real data at 0 and let the generator be a single number $\theta$, the critic
#   $D(x) = \psi x$. Write down the gradient flow of both for `wgan`: which curve do $(\theta, \psi)$ follow? What does
#   $R_1$ add to it? This is the example on which Mescheder et al. (2018) decide which penalties converge.
# - **Spectral normalization** (Miyato et al. 2018) bounds the slope of $D$ everywhere, by its weights and without data.
#   Replace the penalty in the demonstration of exercise 2 by it. How large does the slope between the clusters get?
# - **Lazy regularization.** StyleGAN2 computes $R_1$ in every 16th step only, with 16 times the weight. What has to
#   change in Adam's settings (Karras et al. 2020, App. B)?
# - **Measuring.** The Fréchet distance between two Gaussians that are fitted to features of real and generated images
#   (Heusel et al. 2017) is the usual score. Compute it for the ring of exercise 7 in closed form. Which failures does
#   it not see?
# - **Steganography.** A CycleGAN can hide its input in imperceptible noise of its output, and cheat the cycle loss (Chu
#   et al. 2017). Which change to the input of $F$ would expose it?
# - **Counting modes.** Give $D$ of exercise 7 the channel of `minibatch_stddev`, and count the clusters that receive
#   at least 20 of 300 samples, for ten seeds, with and without it.
#
# ## References
#
# - M. Arjovsky, S. Chintala, L. Bottou. *Wasserstein Generative Adversarial Networks.* ICML 2017.
# - C. Chu, A. Zhmoginov, M. Sandler. *CycleGAN, a Master of Steganography.* 2017.
# - I. Goodfellow et al. *Generative Adversarial Nets.* NeurIPS 2014.
# - I. Gulrajani et al. *Improved Training of Wasserstein GANs.* NeurIPS 2017.
# - M. Heusel et al. *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium.* NeurIPS 2017.
# - T. Karras et al. *Progressive Growing of GANs for Improved Quality, Stability, and Variation.* ICLR 2018.
# - T. Karras, S. Laine, T. Aila. *A Style-Based Generator Architecture for Generative Adversarial Networks.* CVPR 2019.
# - T. Karras et al. *Analyzing and Improving the Image Quality of StyleGAN.* CVPR 2020.
# - X. Mao et al. *Least Squares Generative Adversarial Networks.* ICCV 2017.
# - L. Mescheder, A. Geiger, S. Nowozin. *Which Training Methods for GANs do actually Converge?* ICML 2018.
# - M. Mirza, S. Osindero. *Conditional Generative Adversarial Nets.* 2014.
# - T. Miyato et al. *Spectral Normalization for Generative Adversarial Networks.* ICLR 2018.
# - T. Miyato, M. Koyama. *cGANs with Projection Discriminator.* ICLR 2018.
# - J. Zhu et al. *Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.* ICCV 2017.
