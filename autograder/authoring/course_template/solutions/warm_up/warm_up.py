# %% [markdown]
# # A softmax with a temperature
#
# A softmax turns scores into weights that are positive and sum to one. The *temperature* $\tau > 0$ says how sharply:
#
# $$ w_i = \frac{e^{s_i / \tau}}{\sum_j e^{s_j / \tau}} \tag{1} $$
#
# For $\tau \to 0$ all weight goes to the largest score, for $\tau \to \infty$ all scores weigh the same.
#
# *Watch for* large scores: $e^{1000}$ is infinite, and the weights are not.

# %% role="setup"
import torch
from torch import Tensor

from etude import check, hint, progress

# %% exercise="tempered_softmax"
def tempered_softmax(scores: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax over the last axis; our Eq. (1).

    scores       (B, N) float, N > 0
    temperature  float > 0

    Returns (B, N) float, finite for finite scores of any size.
    """
    ### BEGIN SOLUTION
    scaled = scores / temperature
    weight = torch.exp(scaled - scaled.max(dim=-1, keepdim=True).values)
    return weight / weight.sum(dim=-1, keepdim=True)
    ### END SOLUTION

# %% [markdown] hints="tempered_softmax"
# - Which axis do the weights sum to one over?
# - Adding a number to all scores of a row changes no weight. Which number keeps the exponentials from overflowing?

# %% [markdown]
# **What to look at.** The same five scores at three temperatures: the order stays, the contrast does not.

# %%
import matplotlib.pyplot as plt

scores = torch.tensor([[0.0, 1.0, 2.0, 0.5, 1.5]])
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
for temperature, colour in ((0.3, "#440154"), (1.0, "#21918c"), (3.0, "#d9a400")):
    ax.plot(tempered_softmax(scores, temperature)[0], "o-", color=colour, label=rf"$\tau$ = {temperature}")
ax.set(title="weights of five scores", xlabel="position", xticks=range(5))
ax.legend()
plt.show()
