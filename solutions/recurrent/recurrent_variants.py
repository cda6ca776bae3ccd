"""What students hand in for the unit on recurrent networks: known mistakes, and right answers in other styles.

Every decorated function or class replaces the reference's of the same name. A variant is cut out of this file and run
as a student's cell, together with the imports and the undecorated helpers; it calls no other variant. A mistake's
title completes the sentence "This is what you get when ...".
"""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from autograder.variants import alternative, mistake

# ------------------------------------------------------------------------------------- helpers (all of them right)


def _affine(x, h, w_ih, w_hh, b_ih, b_hh):
    return F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)


def _lstm(pre, c):
    """The second half of an LSTM's step: from the four pre-activations to (h, c)."""
    i, f, g, o = pre.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh):
    """(r, z, the input's part of the candidate, the state's part)."""
    x_r, x_z, x_n = F.linear(x, w_ih, b_ih).chunk(3, dim=1)
    h_r, h_z, h_n = F.linear(h, w_hh, b_hh).chunk(3, dim=1)
    return torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z), x_n, h_n


def _past(x, lengths):
    """True where sequence b is over: (B, T)."""
    return torch.arange(x.shape[1])[None, :] >= lengths[:, None]


def _cleared(x, lengths):
    """x with zeros in the padding."""
    return x.masked_fill(_past(x, lengths).unsqueeze(-1), 0)


def _tanh_step(x_t, h, p):
    return torch.tanh(_affine(x_t, h, p["w_ih"], p["w_hh"], p["b_ih"], p["b_hh"]))


def _states(x, h, params):
    """(B, T, H): the states of a tanh network, the padding taken for content."""
    found = []
    for t in range(x.shape[1]):
        h = _tanh_step(x[:, t], h, params)
        found.append(h)
    return torch.stack(found, dim=1)


def _at_end(states, lengths):
    """(B, T, H) -> (B, H): what stands at lengths - 1."""
    return states[torch.arange(len(lengths)), lengths - 1]


def _masked(x, lengths, h0, params):
    states = _states(_cleared(x, lengths), h0, params)
    return _cleared(states, lengths), _at_end(states, lengths)


def _forward(x, h0, W, U, b):
    """All states of exercise 4, h0 among them: (B, T + 1, H)."""
    states = [h0]
    for t in range(x.shape[1]):
        states.append(torch.tanh(F.linear(x[:, t], W, b) + F.linear(states[-1], U)))
    return torch.stack(states, dim=1)


def _unpack(cache):
    """What the reference's cache holds: x, the states before each step, the states after it, W and U."""
    return cache


def _alphas(dhs, cache):
    """Eq. (9): the gradient with respect to every pre-activation, (B, T, H)."""
    _, _, after, _, U = _unpack(cache)
    found = [torch.zeros_like(dhs[:, 0])]
    for t in range(dhs.shape[1] - 1, -1, -1):
        found.insert(0, (dhs[:, t] + found[0] @ U) * (1 - after[:, t].square()))
    return torch.stack(found[:-1], dim=1)


def _truncated_alphas(dhs, cache, k):
    """Eq. (11), a loop for each loss."""
    _, _, after, _, U = _unpack(cache)
    total = torch.zeros_like(dhs)
    dh0 = torch.zeros_like(dhs[:, 0])
    for t in range(dhs.shape[1]):
        carried = dhs[:, t]
        for s in range(t, max(t - k, -1), -1):
            alpha = carried * (1 - after[:, s].square())
            total[:, s] += alpha
            carried = alpha @ U
        if t < k:
            dh0 = dh0 + carried
    return total, dh0


def _from_alphas(alpha, cache, dh0=None):
    """Eq. (10)."""
    x, before, _, W, U = _unpack(cache)
    flat = alpha.flatten(0, 1)
    dh0 = alpha[:, 0] @ U if dh0 is None else dh0
    return alpha @ W, dh0, flat.T @ x.flatten(0, 1), flat.T @ before.flatten(0, 1), flat.sum(0)


class _Layer(nn.Module):
    """A right bidirectional LSTM in parts; a variant exchanges one of them."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        for suffix in ("", "_reverse"):
            self.register(f"weight_ih_l0{suffix}", 4 * hidden_size, input_size)
            self.register(f"weight_hh_l0{suffix}", 4 * hidden_size, hidden_size)
            self.register(f"bias_ih_l0{suffix}", 4 * hidden_size)
            self.register(f"bias_hh_l0{suffix}", 4 * hidden_size)

    def register(self, name, *shape):
        setattr(self, name, nn.Parameter(torch.randn(shape) / math.sqrt(self.hidden_size)))

    def weights(self, suffix):
        return [getattr(self, f"{kind}_l0{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def start(self, x):
        return x.new_zeros(len(x), self.hidden_size)

    def step(self, x_t, h, c, weights):
        return _lstm(_affine(x_t, h, *weights), c)

    def run(self, x, suffix, h=None, c=None):
        """(B, T, I) -> the states (B, T, H), and the last h and c."""
        h, c = self.start(x) if h is None else h, self.start(x) if c is None else c
        states = []
        for t in range(x.shape[1]):
            h, c = self.step(x[:, t], h, c, self.weights(suffix))
            states.append(h)
        return torch.stack(states, dim=1), h, c

    def reverse(self, x, lengths):
        """Every sequence backwards within its length."""
        return torch.stack([torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(x, lengths.tolist(), strict=True)])

    def turn_back(self, states, lengths):
        return self.reverse(states, lengths)

    def join(self, left, right):
        return torch.cat([left, right], dim=2)

    def clear(self, x, lengths):
        return _cleared(x, lengths)

    def finish(self, both, lengths):
        return _cleared(both, lengths)

    def forward(self, x, lengths):
        x = self.clear(x, lengths)
        left = self.run(x, "")[0]
        right = self.turn_back(self.run(self.reverse(x, lengths), "_reverse")[0], lengths)
        return self.finish(self.join(left, right), lengths)


def _token_nll(logits, targets, pad_id):
    """(B, T - 1) of negative log-likelihoods, and which of them count."""
    counts = targets != pad_id
    log_p = F.log_softmax(logits, dim=-1).gather(-1, torch.where(counts, targets, 0).unsqueeze(-1)).squeeze(-1)
    return -log_p * counts, counts


def _mean_nll(nll, counts):
    mean = nll.sum() / counts.sum().clamp(min=1)
    return mean, mean.exp()


def _check_settings(temperature, top_k):
    if temperature < 0 or top_k is not None and top_k < 1:
        raise ValueError("temperature must be at least 0, top_k at least 1")


def _only_top(logits, top_k):
    if top_k is None or top_k >= logits.shape[1]:
        return logits
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.topk(top_k, dim=1).indices, True)
    return torch.where(kept, logits, -math.inf)


def _draw(logits, temperature, gumbel):
    scores = logits if temperature == 0 else logits / temperature + gumbel
    return scores.max(dim=1).indices


# ------------------------------------------------------------------------------------------------ lstm_cell_step

@mistake("lstm_cell_step", "b_hh_ignored", "the bias b_hh is left out",
         hint="Eq. (2) adds both biases.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return _lstm(F.linear(x, w_ih, b_ih) + F.linear(h, w_hh), c)


@mistake("lstm_cell_step", "b_ih_ignored", "the bias b_ih is left out",
         hint="Eq. (2) adds both biases.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return _lstm(F.linear(x, w_ih) + F.linear(h, w_hh, b_hh), c)


@mistake("lstm_cell_step", "no_recurrence", "the last output h takes no part",
         hint="The gates see the input and the last output: W_hh h in Eq. (2).")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return _lstm(F.linear(x, w_ih, b_ih + b_hh), c)


@mistake("lstm_cell_step", "no_input", "the input x takes no part",
         hint="The gates see the input and the last output: W_ih x in Eq. (2).")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return _lstm(F.linear(h, w_hh, b_ih + b_hh), c)


@mistake("lstm_cell_step", "no_memory", "the old memory c takes no part",
         hint="Eq. (4) begins with f * c: the new memory is the old one, as far as the forget gate is open, and more.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return _lstm(_affine(x, h, w_ih, w_hh, b_ih, b_hh), torch.zeros_like(c))


@mistake("lstm_cell_step", "order_ifog", "the blocks are taken in the order i, f, o, g",
         hint="The rows of the weights are in the order i, f, g, o; papers and libraries differ.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    i, f, o, g = _affine(x, h, w_ih, w_hh, b_ih, b_hh).chunk(4, dim=1)
    return _lstm(torch.cat([i, f, g, o], dim=1), c)


@mistake("lstm_cell_step", "order_figo", "the first block is taken for the forget gate, the second for the input gate",
         hint="The rows of the weights are in the order i, f, g, o: input gate first.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    f, i, g, o = _affine(x, h, w_ih, w_hh, b_ih, b_hh).chunk(4, dim=1)
    return _lstm(torch.cat([i, f, g, o], dim=1), c)


@mistake("lstm_cell_step", "interleaved", "the four gates of a unit are taken to be next to each other",
         hint="Rows 0:H belong to i, rows H:2H to f: `view(B, 4, H)`, not `view(B, H, 4)`.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    pre = _affine(x, h, w_ih, w_hh, b_ih, b_hh).unflatten(1, (-1, 4))
    return _lstm(pre.transpose(1, 2).flatten(1), c)


@mistake("lstm_cell_step", "sigmoid_candidate", "the candidate g goes through a sigmoid, too",
         hint="g is what is written, not how much: a tanh, so that the memory can also decrease.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    i, f, g, o = torch.sigmoid(_affine(x, h, w_ih, w_hh, b_ih, b_hh)).chunk(4, dim=1)
    c = f * c + i * g
    return o * torch.tanh(c), c


@mistake("lstm_cell_step", "coupled_input", "the input gate is 1 - f instead of a gate of its own",
         hint="Coupled gates are a variant of the LSTM, and the idea behind the GRU; here i has its own block of rows.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    _, f, g, o = _affine(x, h, w_ih, w_hh, b_ih, b_hh).chunk(4, dim=1)
    f = torch.sigmoid(f)
    c = f * c + (1 - f) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@mistake("lstm_cell_step", "forget_bias_inside", "1 is added to the forget gate's pre-activation inside the step",
         hint="A forget bias of 1 is a good initial value of b_ih; it is no part of the equations.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    i, f, g, o = _affine(x, h, w_ih, w_hh, b_ih, b_hh).chunk(4, dim=1)
    return _lstm(torch.cat([i, f + 1, g, o], dim=1), c)


@mistake("lstm_cell_step", "no_tanh_on_memory", "the memory is shown without its tanh",
         hint="h = o * tanh(c): the memory may grow, the output stays between -1 and 1.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    pre = _affine(x, h, w_ih, w_hh, b_ih, b_hh)
    _, c = _lstm(pre, c)
    return torch.sigmoid(pre.chunk(4, dim=1)[3]) * c, c


@mistake("lstm_cell_step", "shows_old_memory", "the output shows the old memory instead of the new one",
         hint="Compute c_t first; h_t in Eq. (4) is made from it.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    pre = _affine(x, h, w_ih, w_hh, b_ih, b_hh)
    return torch.sigmoid(pre.chunk(4, dim=1)[3]) * torch.tanh(c), _lstm(pre, c)[1]


@mistake("lstm_cell_step", "squashed_memory", "the new memory is stored after its tanh",
         hint="Only the output goes through the second tanh. A memory that is squashed at every step fades.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    h, c = _lstm(_affine(x, h, w_ih, w_hh, b_ih, b_hh), c)
    return h, torch.tanh(c)


@mistake("lstm_cell_step", "returns_c_h", "the memory is returned first",
         hint="The contract returns h_t, then c_t.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    h, c = _lstm(_affine(x, h, w_ih, w_hh, b_ih, b_hh), c)
    return c, h


@mistake("lstm_cell_step", "memory_detached", "the old memory is cut out of the graph",
         hint="Along the memory the gradient should pass unharmed: that is what it was invented for. No `.detach()`.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return _lstm(_affine(x, h, w_ih, w_hh, b_ih, b_hh), c.detach())


@mistake("lstm_cell_step", "state_detached", "h and c are both cut out of the graph at every step",
         hint="Truncating backpropagation is the training loop's business; the step itself is differentiable.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    h, c = h.detach(), c.detach()
    return _lstm(_affine(x, h, w_ih, w_hh, b_ih, b_hh), c)


@mistake("lstm_cell_step", "memory_in_place", "the caller's memory is overwritten",
         hint="`c *= f` and `c.mul_(f)` write into the tensor that was passed in. Make a new one: c = f * c + ...")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    i, f, g, o = _affine(x, h, w_ih, w_hh, b_ih, b_hh).chunk(4, dim=1)
    c *= torch.sigmoid(f)
    c += torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@mistake("lstm_cell_step", "weights_reshaped", "the weights are reshaped instead of transposed",
         hint="`w.view(I, 4 * H)` has the shape of the transpose, but other numbers in other places.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    pre = x @ w_ih.reshape(x.shape[1], -1) + b_ih + h @ w_hh.reshape(h.shape[1], -1) + b_hh
    return _lstm(pre, c)


@mistake("lstm_cell_step", "exp_sigmoid", "the sigmoid is written with an exponential of positive numbers",
         hint="exp(a) / (1 + exp(a)) is inf / inf for large a: use torch.sigmoid.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    def gate(a):
        return torch.exp(a) / (1 + torch.exp(a))
    i, f, g, o = _affine(x, h, w_ih, w_hh, b_ih, b_hh).chunk(4, dim=1)
    c = gate(f) * c + gate(i) * torch.tanh(g)
    return gate(o) * torch.tanh(c), c


@mistake("lstm_cell_step", "float32_inside", "the step is computed in float32 whatever the input",
         hint="The output has the right dtype but only seven digits; remove the `.float()`.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    pre = _affine(*(tensor.float() for tensor in (x, h, w_ih, w_hh, b_ih, b_hh)))
    return tuple(tensor.to(x.dtype) for tensor in _lstm(pre, c.float()))


@mistake("lstm_cell_step", "first_memory_for_all", "every example is given the memory of the first one",
         hint="c has a row for each example of the batch.")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return _lstm(_affine(x, h, w_ih, w_hh, b_ih, b_hh), c[:1].expand(len(x), -1))


@alternative("lstm_cell_step", "gate_by_gate")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    size = h.size(1)

    def block(k):
        rows = slice(k * size, (k + 1) * size)
        return torch.addmm(b_ih[rows], x, w_ih[rows].t()) + torch.addmm(b_hh[rows], h, w_hh[rows].t())
    new = block(1).sigmoid() * c + block(0).sigmoid() * block(2).tanh()
    return block(3).sigmoid() * new.tanh(), new


@alternative("lstm_cell_step", "one_product")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    pre = torch.einsum("bj,kj->bk", torch.cat([x, h], dim=1), torch.cat([w_ih, w_hh], dim=1)) + (b_ih + b_hh)
    i, f, g, o = pre.view(len(x), 4, -1).unbind(1)
    half = (torch.tanh(torch.stack([i, f, o]) / 2) + 1) / 2
    c = torch.addcmul(half[1] * c, half[0], torch.tanh(g))
    return half[2] * torch.tanh(c), c


@alternative("lstm_cell_step", "library_call")
def lstm_cell_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    return torch.lstm_cell(x, [h, c], w_ih, w_hh, b_ih, b_hh)


# ------------------------------------------------------------------------------------------------- gru_cell_step

@mistake("gru_cell_step", "reset_before_product", "the reset gate multiplies h before the matrix does",
         hint="That is the GRU of Cho et al. Ours is Eq. (6): r * (W_hn h + b_hn).")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, _ = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    size = h.shape[1]
    n = torch.tanh(x_n + F.linear(r * h, w_hh[2 * size:], b_hh[2 * size:]))
    return (1 - z) * n + z * h


@mistake("gru_cell_step", "bias_outside_reset", "the bias b_hn is added outside the reset gate",
         hint="In Eq. (6) r multiplies W_hn h + b_hn. Unlike in the LSTM the two biases cannot be added up beforehand.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    b_n = b_hh[2 * h.shape[1]:]
    n = torch.tanh(x_n + b_n + r * (h_n - b_n))
    return (1 - z) * n + z * h


@mistake("gru_cell_step", "z_flipped", "z and 1 - z are exchanged",
         hint="Here z = 1 keeps the old state; in some papers it is the other way round.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return z * torch.tanh(x_n + r * h_n) + (1 - z) * h


@mistake("gru_cell_step", "order_zrn", "the blocks are taken in the order z, r, n",
         hint="The rows of the weights are in the order r, z, n.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    z, r, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "interleaved", "the three gates of a unit are taken to be next to each other",
         hint="Rows 0:H belong to r, rows H:2H to z: `view(B, 3, H)`, not `view(B, H, 3)`.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    def blocks(y):
        return y.unflatten(1, (-1, 3)).unbind(2)
    x_r, x_z, x_n = blocks(F.linear(x, w_ih, b_ih))
    h_r, h_z, h_n = blocks(F.linear(h, w_hh, b_hh))
    z = torch.sigmoid(x_z + h_z)
    return (1 - z) * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n) + z * h


@mistake("gru_cell_step", "no_reset", "the reset gate is not used",
         hint="r multiplies what the candidate hears of the past.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    _, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.tanh(x_n + h_n) + z * h


@mistake("gru_cell_step", "reset_everything", "the reset gate multiplies the input's part as well",
         hint="r closes off the past; the candidate always hears the input in full.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.tanh(r * (x_n + h_n)) + z * h


@mistake("gru_cell_step", "no_update", "the candidate is returned, and the update gate not used",
         hint="The new state is a mixture of the old one and the candidate: the second half of Eq. (6).")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, _, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return torch.tanh(x_n + r * h_n)


@mistake("gru_cell_step", "not_a_mixture", "the candidate is added in full to the part of h that is kept",
         hint="The weights of the mixture are z and 1 - z; without the second the state can leave [-1, 1].")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return torch.tanh(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "relu_candidate", "the candidate goes through a ReLU",
         hint="tanh keeps the state bounded; a ReLU can let it grow from step to step.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.relu(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "sigmoid_candidate", "the candidate goes through a sigmoid",
         hint="Only gates are sigmoids. The candidate is a value, between -1 and 1.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.sigmoid(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "b_hh_ignored", "the bias b_hh is left out",
         hint="Eqs. (5) and (6) have two biases in each line. In the candidate one of them is inside the bracket.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, torch.zeros_like(b_hh))
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "b_ih_ignored", "the bias b_ih is left out",
         hint="Eqs. (5) and (6) have two biases in each line.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, torch.zeros_like(b_ih), b_hh)
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "no_input", "the input x takes no part",
         hint="W_ih x is in both gates and in the candidate.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(torch.zeros_like(x), h, w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "gates_without_state", "the gates see the input alone",
         hint="Both gates of Eq. (5) have a term with the last state: W_hr h and W_hz h.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    _, _, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    r, z, _, _ = _gru_parts(x, torch.zeros_like(h), w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "state_detached", "the old state is cut out of the graph",
         hint="Gradients travel to earlier steps through h. No `.detach()` and no `.data`.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h.detach(), w_ih, w_hh, b_ih, b_hh)
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h.detach()


@mistake("gru_cell_step", "gates_detached", "the gates are cut out of the graph",
         hint="A gate that gets no gradient never learns when to open.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    r, z = r.detach(), z.detach()
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h


@mistake("gru_cell_step", "state_in_place", "the caller's state is overwritten",
         hint="`h *= z` and `h.lerp_(n, 1 - z)` write into the tensor that was passed in.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(x, h, w_ih, w_hh, b_ih, b_hh)
    h *= z
    h += (1 - z) * torch.tanh(x_n + r * h_n)
    return h


@mistake("gru_cell_step", "always_float32", "the output is float32 whatever the input",
         hint="The output has the dtype of the inputs; remove the `.float()`.")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    r, z, x_n, h_n = _gru_parts(*(tensor.float() for tensor in (x, h, w_ih, w_hh, b_ih, b_hh)))
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h.float()


@alternative("gru_cell_step", "step_towards_the_candidate")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    size = h.size(-1)
    both = x.mm(w_ih[:2 * size].t()) + h.mm(w_hh[:2 * size].t()) + b_ih[:2 * size] + b_hh[:2 * size]
    reset, keep = both.sigmoid().split(size, dim=1)
    recurrent = torch.addmm(b_hh[2 * size:], h, w_hh[2 * size:].t())
    candidate = (torch.addmm(b_ih[2 * size:], x, w_ih[2 * size:].t()) + reset * recurrent).tanh()
    return torch.lerp(candidate, h, keep)


@alternative("gru_cell_step", "library_call")
def gru_cell_step(x, h, w_ih, w_hh, b_ih, b_hh):
    return torch.gru_cell(x, h, w_ih, w_hh, b_ih, b_hh)


# ---------------------------------------------------------------------------------------------------- masked_rnn

@mistake("masked_rnn", "last_column", "h_last is the last column of out, which is 0 past the end of a sequence",
         hint="The last state is at lengths - 1. Or let the state freeze there, and clear `out` only.")
def masked_rnn(x, lengths, h0, params):
    out, _ = _masked(x, lengths, h0, params)
    return out, out[:, -1]


@mistake("masked_rnn", "never_frozen", "the state goes on through the padding, and only out is masked",
         hint="h_last is the state at lengths - 1; what the loop leaves behind has read the padding as well.")
def masked_rnn(x, lengths, h0, params):
    states = _states(_cleared(x, lengths), h0, params)
    return _cleared(states, lengths), states[:, -1]


@mistake("masked_rnn", "one_step_too_long", "every sequence is taken to be one element longer",
         hint="Positions count from 0, so t is real when t < lengths[b]; t <= lengths[b] is one too many.")
def masked_rnn(x, lengths, h0, params):
    return _masked(x, (lengths + 1).clamp(max=x.shape[1]), h0, params)


@mistake("masked_rnn", "one_step_too_short", "every sequence is taken to be one element shorter",
         hint="The last real element is at lengths[b] - 1, and it belongs to the sequence.")
def masked_rnn(x, lengths, h0, params):
    x, short = _cleared(x, lengths), (lengths - 1)[:, None]
    states = _states(x, h0, params)
    out = states * (torch.arange(x.shape[1]) < short)[..., None]
    return out, torch.where(short > 0, states[torch.arange(len(x)), (lengths - 2).clamp(min=0)], h0)


@mistake("masked_rnn", "zeroed_not_frozen", "the state is set to 0 at the end of its sequence, and goes on from there",
         hint="Past the end the state keeps its last value: where(past, h, new), not h * mask.")
def masked_rnn(x, lengths, h0, params):
    x, past, h, states = _cleared(x, lengths), _past(x, lengths), h0, []
    for t in range(x.shape[1]):
        h = _tanh_step(x[:, t], h.masked_fill(past[:, t, None], 0), params)
        states.append(h)
    return _cleared(torch.stack(states, dim=1), lengths), h


@mistake("masked_rnn", "frozen_output", "out repeats the last state in the padding",
         hint="The state freezes, but the output past the end is 0: the two cases of Eq. (7) differ.")
def masked_rnn(x, lengths, h0, params):
    states, last = _masked(x, lengths, h0, params)
    return torch.where(_past(x, lengths)[..., None], last[:, None], states), last


@mistake("masked_rnn", "sorted_not_restored", "the sequences come back in the order of their lengths",
         hint="After sorting the batch by length, restore its order: `argsort` of the permutation is its inverse.")
def masked_rnn(x, lengths, h0, params):
    order = lengths.argsort(descending=True, stable=True)
    return _masked(x[order], lengths[order], h0[order], params)


@mistake("masked_rnn", "h0_not_sorted", "the sequences are sorted by length, but h0 is not",
         hint="Whatever has a batch axis moves along: x, lengths and h0.")
def masked_rnn(x, lengths, h0, params):
    order = lengths.argsort(descending=True, stable=True)
    back = order.argsort()
    out, last = _masked(x[order], lengths[order], h0, params)
    return out[back], last[back]


@mistake("masked_rnn", "mask_multiplies", "padding is removed by multiplying with 0",
         hint="0 * NaN is NaN. Replace with `masked_fill` or `torch.where`, before you compute with it.")
def masked_rnn(x, lengths, h0, params):
    keep = (~_past(x, lengths))[..., None].to(x.dtype)
    states = _states(x * keep, h0, params)
    return states * keep, _at_end(states, lengths)


@mistake("masked_rnn", "nan_gradient", "NaN is kept out of the states, but not out of the backward pass",
         hint="`torch.where` hides a NaN in the branch not taken; its derivative is still computed. Clear x first.")
def masked_rnn(x, lengths, h0, params):
    past, h, states = _past(x, lengths), h0, []
    for t in range(x.shape[1]):
        h = torch.where(past[:, t, None], h, _tanh_step(x[:, t], h, params))
        states.append(h)
    return _cleared(torch.stack(states, dim=1), lengths), h


@mistake("masked_rnn", "shorter_output", "out is only as long as the longest sequence",
         hint="The contract asks for T steps; `pad_packed_sequence` has `total_length` for it.")
def masked_rnn(x, lengths, h0, params):
    out, last = _masked(x, lengths, h0, params)
    return out[:, :int(lengths.max())], last


@mistake("masked_rnn", "first_length_for_all", "all sequences are given the length of the first one",
         hint="lengths has an entry for each sequence; compare with lengths[:, None].")
def masked_rnn(x, lengths, h0, params):
    return _masked(x, lengths[:1].expand_as(lengths), h0, params)


@mistake("masked_rnn", "h0_ignored", "every sequence begins at zero instead of h0",
         hint="h0 is an argument: the state before the first step.")
def masked_rnn(x, lengths, h0, params):
    return _masked(x, lengths, torch.zeros_like(h0), params)


@mistake("masked_rnn", "b_hh_ignored", "the bias b_hh is left out",
         hint="Eq. (7) adds both biases.")
def masked_rnn(x, lengths, h0, params):
    return _masked(x, lengths, h0, {**params, "b_hh": torch.zeros_like(params["b_hh"])})


@mistake("masked_rnn", "b_ih_ignored", "the bias b_ih is left out",
         hint="Eq. (7) adds both biases.")
def masked_rnn(x, lengths, h0, params):
    return _masked(x, lengths, h0, {**params, "b_ih": torch.zeros_like(params["b_ih"])})


@mistake("masked_rnn", "w_hh_not_transposed", "w_hh is used without being transposed",
         hint="Weights are (out, in): the state's part is h @ w_hh.T. A square matrix does not complain.")
def masked_rnn(x, lengths, h0, params):
    return _masked(x, lengths, h0, {**params, "w_hh": params["w_hh"].T})


@mistake("masked_rnn", "copied_into_a_module", "the weights are copied into an nn.RNN",
         hint="The values are right, but gradients end at the module's own parameters and never reach `params`.")
def masked_rnn(x, lengths, h0, params):
    return _masked(x, lengths, h0, {name: nn.Parameter(value.detach().clone()) for name, value in params.items()})


@mistake("masked_rnn", "state_detached", "the state is cut out of the graph at every step",
         hint="Without the path through h nothing earlier than the last step gets a gradient.")
def masked_rnn(x, lengths, h0, params):
    x, past, h, states = _cleared(x, lengths), _past(x, lengths), h0, []
    for t in range(x.shape[1]):
        h = torch.where(past[:, t, None], h, _tanh_step(x[:, t], h.detach(), params))
        states.append(h)
    return _cleared(torch.stack(states, dim=1), lengths), h


@mistake("masked_rnn", "weights_popped", "the weights are taken out of the caller's dict",
         hint="`params.pop` changes the dict for whoever uses it next; read with params[...].")
def masked_rnn(x, lengths, h0, params):
    own = {name: params.pop(name) for name in list(params)}
    return _masked(x, lengths, h0, own)


@mistake("masked_rnn", "cleared_in_place", "the padding is cleared in the caller's tensor",
         hint="`x[past] = 0` and `masked_fill_` write into the argument; `masked_fill` makes a new tensor.")
def masked_rnn(x, lengths, h0, params):
    x.copy_(_cleared(x, lengths))
    return _masked(x, lengths, h0, params)


@mistake("masked_rnn", "needs_contiguous", "x is reshaped with `view`",
         hint="`view` needs memory in order, which an argument need not have: use `reshape` or `flatten`.")
def masked_rnn(x, lengths, h0, params):
    return _masked(x.view(-1, x.shape[-1]).view(x.shape), lengths, h0, params)


@alternative("masked_rnn", "shrinking_batch")
def masked_rnn(x, lengths, h0, params):
    order = torch.argsort(lengths, descending=True)
    running, h = lengths[order], h0[order]
    columns, last = [], []
    for t in range(x.size(1)):
        active = int((running > t).sum())
        last.insert(0, h[active:])
        h = torch.tanh(x[order[:active], t] @ params["w_ih"].t() + h[:active] @ params["w_hh"].t()
                       + (params["b_ih"] + params["b_hh"]))
        columns.append(torch.cat([h, h.new_zeros(x.size(0) - active, h.size(1))]))
    inverse = torch.argsort(order)
    return torch.stack(columns, 1)[inverse], torch.cat([h, *last])[inverse]


@alternative("masked_rnn", "one_by_one")
def masked_rnn(x, lengths, h0, params):
    outs, lasts = [], []
    for row, length, h in zip(x, lengths.tolist(), h0, strict=True):
        states = []
        for x_t in row[:length]:
            h = (params["w_ih"] @ x_t + params["b_ih"] + params["w_hh"] @ h + params["b_hh"]).tanh()
            states.append(h)
        states += [torch.zeros_like(h)] * (len(row) - length)
        outs.append(torch.stack(states))
        lasts.append(h)
    return torch.stack(outs), torch.stack(lasts)


@alternative("masked_rnn", "library_call")
def masked_rnn(x, lengths, h0, params):
    rnn = nn.RNN(x.shape[2], h0.shape[1], batch_first=True)
    state = {f"{name.replace('w_', 'weight_').replace('b_', 'bias_')}_l0": value for name, value in params.items()}
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    out, last = torch.func.functional_call(rnn, state, (packed, h0[None]))
    return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0], last[0]


# ------------------------------------------------------------------------------------------------- bptt_backward

@mistake("bptt_backward", "nothing_carried", "every step gets its own gradient only",
         hint="h_t also acts through h_{t+1}: the term U^T alpha_{t+1} in Eq. (9).")
def rnn_backward(dhs, cache):
    return _from_alphas(dhs * (1 - _unpack(cache)[2].square()), cache)


@mistake("bptt_backward", "slope_of_preactivation", "the derivative of tanh is taken as 1 - a², of the pre-activation",
         hint="tanh'(a) = 1 - tanh(a)² = 1 - h²: it takes the state.")
def rnn_backward(dhs, cache):
    x, before, after, W, U = _unpack(cache)
    return _from_alphas(_alphas(dhs, (x, before, torch.atanh(after), W, U)), cache)


@mistake("bptt_backward", "derivative_of_state_before", "the derivative of tanh uses the state before the step",
         hint="In Eq. (9) it is the state that step t produced.")
def rnn_backward(dhs, cache):
    x, before, _, W, U = _unpack(cache)
    return _from_alphas(_alphas(dhs, (x, before, before, W, U)), cache)


@mistake("bptt_backward", "no_derivative", "the derivative of tanh is left out",
         hint="alpha_t is the gradient of the pre-activation: multiply by 1 - h_t².")
def rnn_backward(dhs, cache):
    x, before, after, W, U = _unpack(cache)
    return _from_alphas(_alphas(dhs, (x, before, torch.zeros_like(after), W, U)), cache)


@mistake("bptt_backward", "db_averaged", "db is summed over time, but averaged over the batch",
         hint="All sequences share the bias: its gradient is a sum over both axes.")
def rnn_backward(dhs, cache):
    *others, db = _from_alphas(_alphas(dhs, cache), cache)
    return *others, db / len(dhs)


@mistake("bptt_backward", "db_per_sequence", "db is summed over time only, and comes back for each sequence",
         hint="db has the shape of b, (H,): sum over the batch as well.")
def rnn_backward(dhs, cache):
    alpha = _alphas(dhs, cache)
    *others, _ = _from_alphas(alpha, cache)
    return *others, alpha.sum(1)


@mistake("bptt_backward", "last_round_only", "the weights' gradients are overwritten in every round of the loop",
         hint="W and U are used at every step: accumulate with +=.")
def rnn_backward(dhs, cache):
    dx, dh0, _, _, db = _from_alphas(_alphas(dhs, cache), cache)
    x, before, *_ = _unpack(cache)
    first = _alphas(dhs, cache)[:, 0]
    return dx, dh0, first.T @ x[:, 0], first.T @ before[:, 0], db


@mistake("bptt_backward", "du_with_state_after", "dU uses the state after the step instead of the one before",
         hint="U multiplies h_{t-1} in Eq. (8), so that is what stands next to alpha_t; at t = 0 it is h0.")
def rnn_backward(dhs, cache):
    alpha = _alphas(dhs, cache)
    dx, dh0, dW, _, db = _from_alphas(alpha, cache)
    return dx, dh0, dW, torch.einsum("bth,btj->hj", alpha, _unpack(cache)[2]), db


@mistake("bptt_backward", "du_without_h0", "dU leaves out the first step, where the state before is h0",
         hint="The sum in Eq. (10) begins at t = 0, with h_{-1} = h0, which need not be 0.")
def rnn_backward(dhs, cache):
    alpha = _alphas(dhs, cache)
    dx, dh0, dW, _, db = _from_alphas(alpha, cache)
    return dx, dh0, dW, torch.einsum("bth,btj->hj", alpha[:, 1:], _unpack(cache)[1][:, 1:]), db


@mistake("bptt_backward", "du_transposed", "dU comes back transposed",
         hint="dU[i, j] belongs to U[i, j]: alpha_t gives the row, h_{t-1} the column.")
def rnn_backward(dhs, cache):
    dx, dh0, dW, dU, db = _from_alphas(_alphas(dhs, cache), cache)
    return dx, dh0, dW, dU.T, db


@mistake("bptt_backward", "u_not_transposed", "the gradient is carried back with U instead of its transpose",
         hint="Forwards h @ U.T, backwards alpha @ U. A square matrix does not complain.")
def rnn_backward(dhs, cache):
    x, before, after, W, U = _unpack(cache)
    alpha = _alphas(dhs, (x, before, after, W, U.T))
    return _from_alphas(alpha, cache)


@mistake("bptt_backward", "dh0_is_alpha", "dh0 is the gradient of the first pre-activation",
         hint="One product is missing: Eq. (10) has U^T alpha_0.")
def rnn_backward(dhs, cache):
    alpha = _alphas(dhs, cache)
    return _from_alphas(alpha, cache, alpha[:, 0])


@mistake("bptt_backward", "dh0_zero", "dh0 is always zero",
         hint="h0 is an argument as well, and every state depends on it.")
def rnn_backward(dhs, cache):
    return _from_alphas(_alphas(dhs, cache), cache, torch.zeros_like(dhs[:, 0]))


@mistake("bptt_backward", "mean_over_batch", "the weights' gradients are averaged over the batch",
         hint="The loss decides whether it is a mean; the backward pass sums what it is given.")
def rnn_backward(dhs, cache):
    dx, dh0, *weights = _from_alphas(_alphas(dhs, cache), cache)
    return dx, dh0, *(grad / len(dhs) for grad in weights)


@mistake("bptt_backward", "dx_of_direct_part", "dx is made of the direct gradients, before the carried ones are added",
         hint="x_t acts on all later states: dx needs the whole alpha_t.")
def rnn_backward(dhs, cache):
    _, *others = _from_alphas(_alphas(dhs, cache), cache)
    _, _, after, W, _ = _unpack(cache)
    return (dhs * (1 - after.square())) @ W, *others


@mistake("bptt_backward", "dhs_in_place", "the carried gradient is added to the caller's dhs",
         hint="`dhs[:, t] += carried` changes the argument; add it to a copy.")
def rnn_backward(dhs, cache):
    _, _, after, _, U = _unpack(cache)
    alpha = torch.empty_like(dhs)
    for t in reversed(range(dhs.shape[1])):
        alpha[:, t] = dhs[:, t] * (1 - after[:, t].square())
        if t:
            dhs[:, t - 1] += alpha[:, t] @ U
    return _from_alphas(alpha, cache)


@mistake("bptt_backward", "cache_outside", "the states are kept on the function instead of in the cache",
         hint="A second forward pass overwrites them before the first backward pass: return everything in the cache.")
def rnn_forward_cache(x, h0, W, U, b):
    states = _forward(x, h0, W, U, b)
    rnn_forward_cache.kept = x, states[:, :-1], states[:, 1:], W, U
    return states[:, 1:], None


@mistake("bptt_backward", "cache_outside")
def rnn_backward(dhs, cache):
    return _from_alphas(_alphas(dhs, rnn_forward_cache.kept), rnn_forward_cache.kept)


@mistake("bptt_backward", "cache_outside")
def truncated_bptt(dhs, cache, k):
    alpha, dh0 = _truncated_alphas(dhs, rnn_forward_cache.kept, k)
    return _from_alphas(alpha, rnn_forward_cache.kept, dh0)


@mistake("bptt_backward", "cache_used_up", "the backward pass empties the cache",
         hint="A cache may be used more than once, by both backward passes: don't `pop` what is in it.")
def rnn_forward_cache(x, h0, W, U, b):
    states = _forward(x, h0, W, U, b)
    return states[:, 1:], [x, states[:, :-1], states[:, 1:], W, U]


@mistake("bptt_backward", "cache_used_up")
def rnn_backward(dhs, cache):
    own = [cache.pop(0) for _ in range(5)]
    return _from_alphas(_alphas(dhs, own), own)


@mistake("bptt_backward", "h0_ignored", "the forward pass begins at zero instead of h0",
         hint="h_{-1} is the given initial state, and it is an argument.")
def rnn_forward_cache(x, h0, W, U, b):
    states = _forward(x, torch.zeros_like(h0), W, U, b)
    return states[:, 1:], (x, states[:, :-1], states[:, 1:], W, U)


@mistake("bptt_backward", "bias_forgotten", "the forward pass leaves out the bias",
         hint="Eq. (8) has three terms.")
def rnn_forward_cache(x, h0, W, U, b):
    states = _forward(x, h0, W, U, torch.zeros_like(b))
    return states[:, 1:], (x, states[:, :-1], states[:, 1:], W, U)


@mistake("bptt_backward", "always_float64", "the backward pass makes float64 tensors of its own",
         hint="`torch.zeros(...)` without a dtype, or with a fixed one, decides for all that is added to it.")
def rnn_backward(dhs, cache):
    cache = tuple(part.double() for part in _unpack(cache))
    return _from_alphas(_alphas(dhs.double(), cache), cache)


@mistake("bptt_backward", "k_plus_one", "gradients go back one step too far",
         hint="k counts the steps that are differentiated, the last one included: t - k < s.")
def truncated_bptt(dhs, cache, k):
    alpha, dh0 = _truncated_alphas(dhs, cache, k + 1)
    return _from_alphas(alpha, cache, dh0)


@mistake("bptt_backward", "k_ignored", "truncated_bptt does not truncate",
         hint="dhs[:, t] reaches inputs s with t - k < s only.")
def truncated_bptt(dhs, cache, k):
    return _from_alphas(_alphas(dhs, cache), cache)


@mistake("bptt_backward", "cut_at_multiples", "the chain is cut at the multiples of k",
         hint="That is the cheap kind of truncation. Here every loss sees exactly k steps, wherever it stands.")
def truncated_bptt(dhs, cache, k):
    _, _, after, _, U = _unpack(cache)
    alpha, carried = torch.zeros_like(dhs), torch.zeros_like(dhs[:, 0])
    for t in reversed(range(dhs.shape[1])):
        alpha[:, t] = (dhs[:, t] + carried) * (1 - after[:, t].square())
        carried = alpha[:, t] @ U if t % k else torch.zeros_like(carried)
    return _from_alphas(alpha, cache, alpha[:, 0] @ U)


@mistake("bptt_backward", "last_k_steps", "only the last k steps of the sequence get gradients",
         hint="Each loss looks back k steps from where it stands, not from the end of the sequence.")
def truncated_bptt(dhs, cache, k):
    start = max(dhs.shape[1] - k, 0)
    alpha = _alphas(dhs, cache)
    alpha = torch.cat([torch.zeros_like(alpha[:, :start]), alpha[:, start:]], dim=1)
    return _from_alphas(alpha, cache)


@mistake("bptt_backward", "dh0_from_all", "truncated, dh0 hears losses that are more than k steps away",
         hint="A loss at step t gets to h0 only if t < k.")
def truncated_bptt(dhs, cache, k):
    alpha, _ = _truncated_alphas(dhs, cache, k)
    return _from_alphas(alpha, cache, _alphas(dhs, cache)[:, 0] @ _unpack(cache)[4])


@mistake("bptt_backward", "dh0_dropped", "truncated, nothing gets to h0",
         hint="Losses at t < k do get there, in k steps or fewer.")
def truncated_bptt(dhs, cache, k):
    alpha, dh0 = _truncated_alphas(dhs, cache, k)
    return _from_alphas(alpha, cache, torch.zeros_like(dh0))


@alternative("bptt_backward", "step_by_step_with_objects")
def rnn_forward_cache(x, h0, W, U, b):
    class Step:
        def __init__(self, x_t, before):
            self.x, self.before = x_t, before
            self.after = (torch.addmm(b, x_t, W.t()) + before.mm(U.t())).tanh()
    steps = []
    for x_t in x.unbind(1):
        steps.append(Step(x_t, steps[-1].after if steps else h0))
    return torch.stack([step.after for step in steps], 1), {"steps": steps, "W": W, "U": U}


@alternative("bptt_backward", "step_by_step_with_objects")
def rnn_backward(dhs, cache):
    return truncated_bptt(dhs, cache, dhs.shape[1])


@alternative("bptt_backward", "step_by_step_with_objects")
def truncated_bptt(dhs, cache, k):
    W, U, steps = cache["W"], cache["U"], cache["steps"]
    dx = [dhs.new_zeros(len(dhs), W.shape[1]) for _ in steps]
    dW, dU, db, dh0 = torch.zeros_like(W), torch.zeros_like(U), W.new_zeros(len(W)), torch.zeros_like(dhs[:, 0])
    for t in range(len(steps)):
        carried, s = dhs[:, t], t
        while s >= 0 and t - s < k:
            step = steps[s]
            local = carried - carried * step.after * step.after
            dx[s] = dx[s] + local.mm(W)
            dW += local.t().mm(step.x)
            dU += local.t().mm(step.before)
            db += local.sum(0)
            carried, s = local.mm(U), s - 1
        if s < 0:
            dh0 = dh0 + carried
    return torch.stack(dx, 1), dh0, dW, dU, db


@alternative("bptt_backward", "jacobians")
def rnn_forward_cache(x, h0, W, U, b):
    states = _forward(x, h0, W, U, b)
    slopes = 1 - states[:, 1:].square()
    steps = torch.einsum("bth,hj->bthj", slopes, U)  # d h_t / d h_{t-1}
    return states[:, 1:], (x, states, slopes, steps, W)


@alternative("bptt_backward", "jacobians")
def rnn_backward(dhs, cache):
    return truncated_bptt(dhs, cache, 10 ** 6)


@alternative("bptt_backward", "jacobians")
def truncated_bptt(dhs, cache, k):
    x, states, slopes, steps, W = cache
    T = dhs.shape[1]
    dh = [torch.zeros_like(dhs[:, 0]) for _ in range(T + 1)]  # dh[s + 1] belongs to h_s, dh[0] to h0
    for t in range(T):
        g = dhs[:, t]
        dh[t + 1] = dh[t + 1] + g
        for s in range(t, max(t - k, -1), -1):
            g = torch.einsum("bh,bhj->bj", g, steps[:, s])
            if s > t - k + 1 or s == 0:
                dh[s] = dh[s] + g
    alpha = torch.stack(dh[1:], dim=1) * slopes
    return (torch.einsum("bth,hi->bti", alpha, W), dh[0], torch.einsum("bth,bti->hi", alpha, x),
            torch.einsum("bth,btj->hj", alpha, states[:, :-1]), torch.einsum("bth->h", alpha))


# -------------------------------------------------------------------------------------------------- bilstm_layer

@mistake("bilstm_layer", "padded_tensor_flipped", "the padded tensor is flipped, not each sequence within its length",
         hint="After flip(1) short sequences begin with padding, and the second reader has read it first.")
class BiLSTM(_Layer):
    def reverse(self, x, lengths):
        return x.flip(1)


@mistake("bilstm_layer", "not_turned_back", "the states of the second direction are not turned back",
         hint="Its first state belongs to the last element: reverse again before you put the halves together.")
class BiLSTM(_Layer):
    def turn_back(self, states, lengths):
        return states


@mistake("bilstm_layer", "joined_in_time", "the two directions are put one after the other in time",
         hint="Concatenate along the last axis, so that position t has both states: (B, T, 2H).")
class BiLSTM(_Layer):
    def join(self, left, right):
        return torch.cat([left, right], dim=1)

    def finish(self, both, lengths):
        return both


@mistake("bilstm_layer", "halves_exchanged", "the halves stand in the wrong order",
         hint="[..., :H] comes from the left, [..., H:] from the right.")
class BiLSTM(_Layer):
    def join(self, left, right):
        return torch.cat([right, left], dim=2)


@mistake("bilstm_layer", "added_up", "the two directions are added up",
         hint="The output has 2H channels: concatenate.")
class BiLSTM(_Layer):
    def join(self, left, right):
        return left + right


@mistake("bilstm_layer", "shared_weights", "both directions use the weights of the first",
         hint="The keys that end in _reverse belong to the second direction.")
class BiLSTM(_Layer):
    def weights(self, suffix):
        return super().weights("")


@mistake("bilstm_layer", "one_set_of_weights", "there is only one set of weights",
         hint="Two directions, two sets: the contract lists eight keys.")
class BiLSTM(_Layer):
    def register(self, name, *shape):
        if not name.endswith("_reverse"):
            super().register(name, *shape)

    def weights(self, suffix):
        return super().weights("")


@mistake("bilstm_layer", "starts_where_the_other_ended", "the second direction starts from the last state of the first",
         hint="Both directions start from zero; they know nothing of each other.")
class BiLSTM(_Layer):
    def forward(self, x, lengths):
        x = _cleared(x, lengths)
        left, _, _ = self.run(x, "")
        right, _, _ = self.run(self.reverse(x, lengths), "_reverse", h=_at_end(left, lengths))
        return _cleared(self.join(left, self.reverse(right, lengths)), lengths)


@mistake("bilstm_layer", "second_layer", "the second direction reads the states of the first instead of the input",
         hint="Both read x. What you have is a second layer on top of the first.")
class BiLSTM(_Layer):
    def forward(self, x, lengths):
        x = _cleared(x, lengths)
        left, _, _ = self.run(x, "")
        size = x.shape[2]
        read = left[..., :size] if size <= self.hidden_size else F.pad(left, (0, size - self.hidden_size))
        right, _, _ = self.run(self.reverse(read, lengths), "_reverse")
        return _cleared(self.join(left, self.reverse(right, lengths)), lengths)


@mistake("bilstm_layer", "output_not_cleared", "the output past the end of a sequence is not 0",
         hint="Whatever the loop has computed in the padding, the contract asks for 0 there.")
class BiLSTM(_Layer):
    def finish(self, both, lengths):
        return both


@mistake("bilstm_layer", "padding_not_cleared", "padding is computed with, and only the output is cleared",
         hint="NaN in the padding reaches gradients on the way back; set it to 0 before the loops.")
class BiLSTM(_Layer):
    def clear(self, x, lengths):
        return x


@mistake("bilstm_layer", "lengths_ignored", "lengths is not used",
         hint="Every sequence ends at its own length; what comes after it is padding.")
class BiLSTM(_Layer):
    def forward(self, x, lengths):
        return super().forward(x, torch.full_like(lengths, x.shape[1]))


@mistake("bilstm_layer", "one_step_too_short", "the last element of every sequence is left out",
         hint="Sequence b has the positions 0 to lengths[b] - 1.")
class BiLSTM(_Layer):
    def forward(self, x, lengths):
        return super().forward(x, lengths - 1)


@mistake("bilstm_layer", "shorter_output", "the output is only as long as the longest sequence",
         hint="The contract asks for T positions, also if no sequence fills them.")
class BiLSTM(_Layer):
    def forward(self, x, lengths):
        return super().forward(x, lengths)[:, :int(lengths.max())]


@mistake("bilstm_layer", "sorted_not_restored", "the sequences come back in the order of their lengths",
         hint="After sorting the batch, restore its order with the inverse permutation.")
class BiLSTM(_Layer):
    def forward(self, x, lengths):
        order = lengths.argsort(descending=True, stable=True)
        return super().forward(x[order], lengths[order])


@mistake("bilstm_layer", "order_ifog", "the blocks are taken in the order i, f, o, g",
         hint="The rows of the weights are in the order i, f, g, o, as in nn.LSTM.")
class BiLSTM(_Layer):
    def step(self, x_t, h, c, weights):
        i, f, o, g = _affine(x_t, h, *weights).chunk(4, dim=1)
        return _lstm(torch.cat([i, f, g, o], dim=1), c)


@mistake("bilstm_layer", "b_hh_ignored", "the biases bias_hh are not used",
         hint="Every one of the eight parameters has a part to play.")
class BiLSTM(_Layer):
    def step(self, x_t, h, c, weights):
        return _lstm(F.linear(x_t, weights[0], weights[2]) + F.linear(h, weights[1]), c)


@mistake("bilstm_layer", "state_remembered", "the state is kept in the module from call to call",
         hint="Each call starts from zero. Continuing where the last call ended is another contract.")
class BiLSTM(_Layer):
    def forward(self, x, lengths):
        x = _cleared(x, lengths)
        h, c = getattr(self, "state", (None, None))
        if h is not None and (len(h) != len(x) or h.dtype != x.dtype):
            h = c = None
        left, h, c = self.run(x, "", h, c)
        self.state = h.detach(), c.detach()
        right, _, _ = self.run(self.reverse(x, lengths), "_reverse")
        return _cleared(self.join(left, self.reverse(right, lengths)), lengths)


@mistake("bilstm_layer", "buffers", "the weights are registered as buffers",
         hint="Buffers are stored, but not trained: use nn.Parameter.")
class BiLSTM(_Layer):
    def register(self, name, *shape):
        self.register_buffer(name, torch.randn(shape) / math.sqrt(self.hidden_size))


@mistake("bilstm_layer", "not_registered", "the weights are kept in a list, where the module does not see them",
         hint="`parameters()` and `state_dict()` know what is assigned to self as an nn.Parameter.")
class BiLSTM(_Layer):
    def register(self, name, *shape):
        self.__dict__.setdefault("hidden", {})[name] = torch.randn(shape) / math.sqrt(self.hidden_size)

    def weights(self, suffix):
        return [self.hidden[f"{kind}_l0{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


@mistake("bilstm_layer", "cells_as_submodules", "each direction is a submodule, so that the keys have other names",
         hint="Names are part of the contract: `weight_ih_l0`, not `forward_cell.weight_ih`.")
class BiLSTM(_Layer):
    def register(self, name, *shape):
        cell = "backward_cell" if name.endswith("_reverse") else "forward_cell"
        if cell not in self._modules:
            self.add_module(cell, nn.Module())
        own = nn.Parameter(torch.randn(shape) / math.sqrt(self.hidden_size))
        self._modules[cell].register_parameter(name.removesuffix("_reverse").removesuffix("_l0"), own)

    def weights(self, suffix):
        cell = self._modules["backward_cell" if suffix else "forward_cell"]
        return [getattr(cell, kind) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


@mistake("bilstm_layer", "float32_state", "the first state is float32 whatever the input",
         hint="`torch.zeros(B, H)` is float32: use `x.new_zeros(B, H)`.")
class BiLSTM(_Layer):
    def start(self, x):
        return torch.zeros(len(x), self.hidden_size)


@mistake("bilstm_layer", "state_detached", "the state is cut out of the graph at every step",
         hint="Without the path through h and c only the last step's weights learn anything.")
class BiLSTM(_Layer):
    def step(self, x_t, h, c, weights):
        return super().step(x_t, h.detach(), c.detach(), weights)


@alternative("bilstm_layer", "gathered_by_index")
class BiLSTM(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        sizes = {"weight_ih_l0": [input_size], "weight_hh_l0": [hidden_size], "bias_ih_l0": [], "bias_hh_l0": []}
        for suffix in ("", "_reverse"):
            for name, size in sizes.items():
                self.register_parameter(name + suffix, nn.Parameter(torch.randn(4 * hidden_size, *size) / 4))

    def forward(self, x, lengths):
        B, T, _ = x.shape
        own = dict(self.named_parameters())
        H = own["weight_hh_l0"].shape[1]
        keep = torch.arange(T) < lengths.unsqueeze(1)
        x = torch.where(keep.unsqueeze(2), x, torch.zeros((), dtype=x.dtype))
        output = x.new_zeros(B, T, 2 * H)
        for half, suffix in enumerate(("", "_reverse")):
            h, c = x.new_zeros(B, H), x.new_zeros(B, H)
            from_x = torch.einsum("bti,ki->btk", x, own[f"weight_ih_l0{suffix}"]) + own[f"bias_ih_l0{suffix}"]
            for step in range(T):
                place = (lengths - 1 - step).clamp(min=0) if half else torch.full_like(lengths, step)
                rows = torch.arange(B)
                pre = from_x[rows, place] + h @ own[f"weight_hh_l0{suffix}"].mT + own[f"bias_hh_l0{suffix}"]
                i, f, g, o = pre.split(H, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                real = (step < lengths).nonzero().flatten()
                output = output.index_put((real[:, None], place[real][:, None], torch.arange(half * H, half * H + H)),
                                          h[real])
        return output


@alternative("bilstm_layer", "frozen_from_the_right")
class BiLSTM(nn.Module):
    """Reads from the right without reversing anything: the state stays zero until the sequence begins."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        H = hidden_size
        for suffix in ("_reverse", ""):
            self.register_parameter("bias_hh_l0" + suffix, nn.Parameter(torch.zeros(4 * H)))
            self.register_parameter("bias_ih_l0" + suffix, nn.Parameter(torch.zeros(4 * H)))
            self.register_parameter("weight_hh_l0" + suffix, nn.Parameter(torch.empty(4 * H, H)))
            self.register_parameter("weight_ih_l0" + suffix, nn.Parameter(torch.empty(4 * H, input_size)))
        for name, value in self.named_parameters():
            if "weight" in name:
                nn.init.xavier_uniform_(value)

    def forward(self, x, lengths):
        past = _past(x, lengths).unsqueeze(2)
        x, halves = x.masked_fill(past, 0.0), []
        for suffix, order in (("", range(x.shape[1])), ("_reverse", range(x.shape[1] - 1, -1, -1))):
            w_ih, w_hh, b_ih, b_hh = (getattr(self, kind + "_l0" + suffix)
                                      for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h = c = torch.zeros(len(x), w_hh.shape[1], dtype=x.dtype)
            states = {}
            for t in order:
                new_h, new_c = _lstm(F.linear(x[:, t], w_ih) + F.linear(h, w_hh) + b_ih + b_hh, c)
                h, c = torch.where(past[:, t], h, new_h), torch.where(past[:, t], c, new_c)
                states[t] = torch.where(past[:, t], torch.zeros_like(h), h)
            halves.append(torch.stack([states[t] for t in sorted(states)], dim=1))
        return torch.cat(halves, dim=-1)


@alternative("bilstm_layer", "library_call")
class BiLSTM(nn.LSTM):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(super().forward(packed)[0], batch_first=True, total_length=x.shape[1])[0]


# -------------------------------------------------------------------------------------------------- char_lm_loss

@mistake("char_lm_loss", "not_shifted", "position t is compared with token t, which it has just read",
         hint="The model predicts the next token: logits[:, :-1] with tokens[:, 1:].")
def lm_loss(logits, tokens, pad_id):
    return _mean_nll(*_token_nll(logits, tokens, pad_id))


@mistake("char_lm_loss", "shifted_the_wrong_way", "position t + 1 is compared with token t, which it knows already",
         hint="Then a model learns to copy, and the loss goes to 0: logits[:, :-1] with tokens[:, 1:].")
def lm_loss(logits, tokens, pad_id):
    return _mean_nll(*_token_nll(logits[:, 1:], tokens[:, :-1], pad_id))


@mistake("char_lm_loss", "rolled", "the last position is compared with the first token",
         hint="`roll` is circular. The last position predicts nothing: leave it out.")
def lm_loss(logits, tokens, pad_id):
    return _mean_nll(*_token_nll(logits, tokens.roll(-1, dims=1), pad_id))


@mistake("char_lm_loss", "mean_over_padding", "the sum is divided by the number of all positions, the padding included",
         hint="N in Eq. (14) counts what is predicted.")
def lm_loss(logits, tokens, pad_id):
    nll, counts = _token_nll(logits[:, :-1], tokens[:, 1:], pad_id)
    return _mean_nll(nll, torch.ones_like(counts))


@mistake("char_lm_loss", "padding_is_predicted", "padding is predicted like any other token",
         hint="pad_id is no text: positions whose next token is padding do not count.")
def lm_loss(logits, tokens, pad_id):
    return _mean_nll(*_token_nll(logits[:, :-1], tokens[:, 1:], -10 ** 9 if pad_id >= 0 else pad_id))


@mistake("char_lm_loss", "pad_is_zero", "padding is taken to be token 0, whatever pad_id says",
         hint="pad_id is an argument, and may even lie outside the vocabulary.")
def lm_loss(logits, tokens, pad_id):
    return _mean_nll(*_token_nll(logits[:, :-1], tokens[:, 1:].clamp(min=0), 0))


@mistake("char_lm_loss", "masked_by_input", "positions that read padding are left out instead of those that predict it",
         hint="What counts is the target, tokens[:, t + 1].")
def lm_loss(logits, tokens, pad_id):
    targets = tokens[:, 1:]
    nll, _ = _token_nll(logits[:, :-1], targets.clamp(min=0), -10 ** 9)
    counts = tokens[:, :-1] != pad_id
    return _mean_nll(nll * counts, counts)


@mistake("char_lm_loss", "mean_of_means", "the mean is taken over sequences of their means",
         hint="Every token counts alike: one sum over the batch, divided by the number of tokens.")
def lm_loss(logits, tokens, pad_id):
    nll, counts = _token_nll(logits[:, :-1], tokens[:, 1:], pad_id)
    number = counts.sum(1)
    mean = (nll.sum(1) / number.clamp(min=1)).sum() / (number > 0).sum().clamp(min=1)
    return mean, mean.exp()


@mistake("char_lm_loss", "sum_not_mean", "the negative log-likelihoods are added up and not divided",
         hint="Per predicted token: divide by N, or long texts look worse than short ones.")
def lm_loss(logits, tokens, pad_id):
    nll, _ = _token_nll(logits[:, :-1], tokens[:, 1:], pad_id)
    return nll.sum(), nll.sum().exp()


@mistake("char_lm_loss", "perplexity_of_sum", "the perplexity is the exponential of the sum",
         hint="perplexity = exp(nll), with the mean.")
def lm_loss(logits, tokens, pad_id):
    nll, counts = _token_nll(logits[:, :-1], tokens[:, 1:], pad_id)
    return _mean_nll(nll, counts)[0], nll.sum().exp()


@mistake("char_lm_loss", "mean_of_exponentials", "the perplexity is the mean of every token's own",
         hint="First the mean, then the exponential; the other way round a single bad token decides all.")
def lm_loss(logits, tokens, pad_id):
    nll, counts = _token_nll(logits[:, :-1], tokens[:, 1:], pad_id)
    mean, perplexity = _mean_nll(nll, counts)
    return mean, torch.where(counts.any(), (nll.exp() * counts).sum() / counts.sum().clamp(min=1), perplexity)


@mistake("char_lm_loss", "in_bits", "the logarithm is that of base 2",
         hint="In nats, with the natural logarithm, so that perplexity = exp(nll).")
def lm_loss(logits, tokens, pad_id):
    mean, perplexity = _mean_nll(*_token_nll(logits[:, :-1], tokens[:, 1:], pad_id))
    return mean / math.log(2), perplexity


@mistake("char_lm_loss", "log_of_softmax", "the logarithm is taken of the softmax",
         hint="A probability of e^-1000 is 0 in floating point, and its logarithm minus infinity: use log_softmax.")
def lm_loss(logits, tokens, pad_id):
    targets = tokens[:, 1:]
    counts = targets != pad_id
    p = torch.softmax(logits[:, :-1], dim=-1).gather(-1, torch.where(counts, targets, 0)[..., None])[..., 0]
    return _mean_nll(-torch.where(counts, torch.log(p), 0), counts)


@mistake("char_lm_loss", "clamped_probability", "1e-9 is added to the probability before the logarithm",
         hint="It hides how wrong a model is, and kills the gradient where it is needed most: use log_softmax.")
def lm_loss(logits, tokens, pad_id):
    targets = tokens[:, 1:]
    counts = targets != pad_id
    p = torch.softmax(logits[:, :-1], dim=-1).gather(-1, torch.where(counts, targets, 0)[..., None])[..., 0]
    return _mean_nll(-torch.log(p + 1e-9) * counts, counts)


@mistake("char_lm_loss", "softmax_over_time", "the softmax runs over time",
         hint="A distribution over the vocabulary at every position: the last axis of the logits.")
def lm_loss(logits, tokens, pad_id):
    targets = tokens[:, 1:]
    counts = targets != pad_id
    log_p = F.log_softmax(logits[:, :-1], dim=1).gather(-1, torch.where(counts, targets, 0)[..., None])[..., 0]
    return _mean_nll(-log_p * counts, counts)


@mistake("char_lm_loss", "nan_when_empty", "nothing but padding gives 0 / 0",
         hint="With nothing to predict nll is 0: divide by max(N, 1).")
def lm_loss(logits, tokens, pad_id):
    nll, counts = _token_nll(logits[:, :-1], tokens[:, 1:], pad_id)
    mean = nll.sum() / counts.sum()
    return mean, mean.exp()


@mistake("char_lm_loss", "pad_id_as_index", "pad_id is used as an index before it is masked out",
         hint="It may be no valid index: replace it by 0, gather, then leave these places out.")
def lm_loss(logits, tokens, pad_id):
    targets = tokens[:, 1:]
    nll = -F.log_softmax(logits[:, :-1], dim=-1).gather(-1, targets[..., None])[..., 0]
    return _mean_nll(nll * (targets != pad_id), targets != pad_id)


@mistake("char_lm_loss", "loss_detached", "nll comes back as a number without a graph",
         hint="`.item()`, `float()` and `.detach()` cut it off; nothing can be trained on it.")
def lm_loss(logits, tokens, pad_id):
    mean, perplexity = _mean_nll(*_token_nll(logits[:, :-1].detach(), tokens[:, 1:], pad_id))
    return mean, perplexity


@mistake("char_lm_loss", "tokens_in_place", "the padding is replaced in the caller's tokens",
         hint="tokens[:, 1:] is a view: `targets[targets == pad_id] = 0` writes into the argument.")
def lm_loss(logits, tokens, pad_id):
    targets = tokens[:, 1:]
    counts = targets != pad_id
    targets[~counts] = 0
    return _mean_nll(*(_token_nll(logits[:, :-1], targets, -10 ** 9)[0] * counts, counts))


@mistake("char_lm_loss", "temperature_without_effect", "the noise is divided by the temperature as well",
         hint="argmax((z + G) / tau) is argmax(z + G): add the noise after the division.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    logits = _only_top(logits, top_k)
    return logits.argmax(dim=1) if temperature == 0 else ((logits + gumbel) / temperature).argmax(dim=1)


@mistake("char_lm_loss", "temperature_multiplies", "the logits are multiplied by the temperature",
         hint="A high temperature flattens the distribution: divide.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    return _draw(_only_top(logits, top_k), 1 / temperature if temperature else 0, gumbel)


@mistake("char_lm_loss", "zero_temperature", "the logits are divided by a temperature of 0",
         hint="0 is the limit, the largest logit: a case of its own.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    return (_only_top(logits, top_k) / temperature + gumbel).argmax(dim=1)


@mistake("char_lm_loss", "noise_at_zero", "noise is added at temperature 0, too",
         hint="At 0 nothing is left to chance.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    return (_only_top(logits, top_k) / (temperature or 1) + gumbel).argmax(dim=1)


@mistake("char_lm_loss", "noise_ignored", "the largest logit is always taken",
         hint="gumbel is what makes it a draw: add it to the scaled logits.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    return _draw(_only_top(logits, top_k), temperature, 0 * gumbel)


@mistake("char_lm_loss", "noise_on_probabilities", "the noise is added to the probabilities instead of the logits",
         hint="Eq. (15) adds it to z / tau, before any softmax.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    if temperature == 0:
        return logits.argmax(dim=1)
    return (torch.softmax(_only_top(logits, top_k) / temperature, dim=1) + gumbel).argmax(dim=1)


@mistake("char_lm_loss", "top_k_ignored", "top_k strikes out nothing",
         hint="Choose the k largest by the logits alone: after the noise was added the maximum is always among them.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    return _draw(logits, temperature, gumbel)


@mistake("char_lm_loss", "top_k_of_batch", "the threshold for top_k is that of the first row",
         hint="Each row has its own k largest: keep the batch axis, `values[:, -1:]`.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    if top_k is not None and top_k < logits.shape[1] and temperature:
        smallest = logits.topk(top_k, dim=1).values[0, -1]
        logits = torch.where(logits < smallest, -1e300, logits)
    return _draw(logits, temperature, gumbel)


@mistake("char_lm_loss", "top_k_strict", "the k-th largest logit is struck out as well",
         hint="top_k tokens stay: what is *below* the k-th largest goes.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    if top_k is not None and 1 < top_k < logits.shape[1]:
        logits = _only_top(logits, top_k - 1)
    return _draw(_only_top(logits, top_k), temperature, gumbel)


@mistake("char_lm_loss", "top_k_too_large", "top_k above the size of the vocabulary is not expected",
         hint="`topk` cannot find more than V: top_k >= V leaves all tokens in.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    if top_k is not None:
        logits = logits.masked_fill(logits < logits.topk(top_k, dim=1).values[:, -1:], -math.inf)
    return _draw(logits, temperature, gumbel)


@mistake("char_lm_loss", "settings_accepted", "negative temperatures and top_k = 0 are accepted",
         hint="The contract asks for a ValueError.")
def sample(logits, temperature, top_k, gumbel):
    return _draw(_only_top(logits, top_k or None), temperature, gumbel)


@mistake("char_lm_loss", "logits_in_place", "the small logits are struck out in the caller's tensor",
         hint="`masked_fill_` and `logits[...] = ` write into the argument.")
def sample(logits, temperature, top_k, gumbel):
    _check_settings(temperature, top_k)
    if top_k is not None and top_k < logits.shape[1]:
        logits.copy_(logits.masked_fill(logits < logits.topk(top_k, dim=1).values[:, -1:], -1e300))
    return _draw(logits, temperature, gumbel)


@alternative("char_lm_loss", "library_call")
def lm_loss(logits, tokens, pad_id):
    predicted = (tokens[:, 1:] != pad_id).sum()
    total = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], ignore_index=pad_id, reduction="sum")
    nll = total / max(int(predicted), 1)
    return nll, torch.exp(nll.detach())


@alternative("char_lm_loss", "library_call")
def sample(logits, temperature, top_k, gumbel):
    if not temperature >= 0 or (top_k or 1) < 1 or top_k == 0:
        raise ValueError("expected temperature >= 0 and top_k >= 1")
    values, index = torch.sort(logits, dim=-1, descending=True)
    values, index = values[:, :top_k], index[:, :top_k]
    noise = gumbel.gather(1, index) * temperature
    return index.gather(1, (values + noise).argmax(1, keepdim=True))[:, 0]


@alternative("char_lm_loss", "kept_targets")
def lm_loss(logits, tokens, pad_id):
    b, t = (tokens[:, 1:] != pad_id).nonzero(as_tuple=True)
    z = logits[b, t]
    if not len(z):
        return logits.sum() * 0, logits.new_ones(())
    highest = z.amax(-1, keepdim=True).detach()
    surprise = (z - highest).exp().sum(-1).log() + highest[:, 0] - z[torch.arange(len(z)), tokens[b, t + 1]]
    return surprise.mean(), surprise.mean().exp()


@alternative("char_lm_loss", "kept_targets")
def sample(logits, temperature, top_k, gumbel):
    if temperature < 0 or (top_k is not None and top_k <= 0):
        raise ValueError(f"impossible: {temperature=}, {top_k=}")
    drawn = []
    for row, noise in zip(logits.tolist(), gumbel.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=lambda v: -row[v])[:top_k]
        score = [row[v] / temperature + noise[v] if temperature else row[v] for v in ranked]
        drawn.append(ranked[score.index(max(score))])
    return torch.tensor(drawn)
