"""What students hand in for the first unit."""
import torch

from autograder.variants import alternative, mistake


@mistake("tempered_softmax", "temperature_ignored", "the temperature is not used",
         hint="The caller chooses the temperature; 1 is only its default.")
def tempered_softmax(scores, temperature=1.0):
    return torch.softmax(scores, dim=-1)


@mistake("tempered_softmax", "temperature_multiplies", "the scores are multiplied by the temperature",
         hint="In Eq. (1) the temperature divides: a large one makes the weights more equal.")
def tempered_softmax(scores, temperature=1.0):
    return torch.softmax(scores * temperature, dim=-1)


@mistake("tempered_softmax", "over_the_batch", "the weights sum to one over the batch",
         hint="Each row is an example of its own: the softmax runs along the last axis.")
def tempered_softmax(scores, temperature=1.0):
    return torch.softmax(scores / temperature, dim=0)


@mistake("tempered_softmax", "not_divided", "the exponentials are not divided by their sum",
         hint="Weights sum to one.")
def tempered_softmax(scores, temperature=1.0):
    scaled = scores / temperature
    return torch.exp(scaled - scaled.amax(dim=-1, keepdim=True))


@mistake("tempered_softmax", "overflows", "large scores are exponentiated as they are",
         hint="Subtract the largest score of the row first: the weights stay the same.")
def tempered_softmax(scores, temperature=1.0):
    weight = torch.exp(scores / temperature)
    return weight / weight.sum(dim=-1, keepdim=True)


@mistake("tempered_softmax", "detached", "the result is cut out of the graph",
         hint="`.detach()`, `.data` and `no_grad` stop gradients.")
def tempered_softmax(scores, temperature=1.0):
    return torch.softmax(scores.detach() / temperature, dim=-1) + 0 * scores


@mistake("tempered_softmax", "scaled_in_place", "the caller's scores are divided in place",
         hint="`scores /= ...` writes to the input; `scores / ...` makes a new tensor.")
def tempered_softmax(scores, temperature=1.0):
    scores /= temperature
    return torch.softmax(scores, dim=-1)


@mistake("tempered_softmax", "always_float64", "the result is float64 whatever the input",
         hint="The output has the dtype of the input.")
def tempered_softmax(scores, temperature=1.0):
    return torch.softmax(scores.double() / temperature, dim=-1)


@alternative("tempered_softmax", "torch_softmax")
def tempered_softmax(scores, temperature=1.0):
    return torch.softmax(scores / temperature, dim=-1)


@alternative("tempered_softmax", "logsumexp")
def tempered_softmax(scores, temperature=1.0):
    scaled = scores / temperature
    return torch.exp(scaled - torch.logsumexp(scaled, dim=-1, keepdim=True))
