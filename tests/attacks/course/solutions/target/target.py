# %% [markdown]
# # Target
#
# The exercise that attacks are handed in for: $f(x) = 2x + 1$.

# %% role="setup"
import torch

# %% exercise="double"
def f(x):
    """2x + 1 for a float tensor of any shape."""
    ### BEGIN SOLUTION
    return 2 * x + 1
    ### END SOLUTION
