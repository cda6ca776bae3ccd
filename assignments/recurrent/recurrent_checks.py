"""The public checks of recurrent.ipynb. Made by `autograder build` from the course; do not edit."""

import math

import torch
from etude.adapters import by_hand, function_of, opaque
from etude.checks import exercise, points, public
from etude.compare import assert_same
from etude.failures import CheckFailure
from etude.properties import (
    assert_gradient_consistent,
    assert_invariant,
    assert_refuses,
    assert_state_dict,
    gradients,
)
from etude.strategies import Cases, computed, for_all, lengths, normal, value_of
from torch import nn

# Biases that drive a gate: its sigmoid is 1 and 0 to the last digit, whatever the inputs add.
OPEN, CLOSED = 200.0, -200.0


def driven(arguments, order, **biases):
    """The arguments of a cell with the biases of some blocks, `order` naming all of them, set to these values."""
    bias = arguments["b_ih"].clone().unflatten(0, (len(order), -1))
    for block, value in biases.items():
        bias[order.index(block)] = value
    return {**arguments, "b_ih": bias.flatten()}


def nonzero(tensor):
    """Where a gradient has arrived."""
    return tensor.detach() != 0


LSTM = Cases(x=normal("B I"), h=normal("B H"), c=normal("B H", scale=1.5), w_ih=normal("4*H I"), w_hh=normal("4*H H"),
             b_ih=normal("4*H"), b_hh=normal("4*H"), sizes={"H": (1, 5)})


@exercise("lstm_cell_step")
@points(1)
@public
@for_all(case=LSTM, corners=False)
def test_lstm_shape_and_dtype(student, case):
    """Two tensors of shape (B, H) come back, in the dtype of the inputs, and h lies between -1 and 1."""
    for one in (case, case.but(dtype=torch.float32)):
        result = student.lstm_cell_step(*one.arguments().values())
        zeros = torch.zeros(case.B, case.H, dtype=one.dtype)
        assert_same(result, (zeros, zeros), "output times 0", tolerance=math.inf)
        assert_same(result[0].abs() <= 1, zeros == 0, "where |h| is at most 1")


@exercise("lstm_cell_step")
@points(1)
@public
@for_all(case=LSTM)
def test_lstm_gates(student, case):
    """The gates do what they are called: keep the old memory, write the candidate, show the memory."""
    arguments = case.arguments()

    def step(**biases):
        return student.lstm_cell_step(*driven(arguments, "ifgo", **biases).values())
    old, one = arguments["c"].detach(), torch.ones(case.B, case.H, dtype=torch.float64)
    assert_same(step(f=OPEN, i=CLOSED)[1], old.contiguous(), "c' with the forget gate open and the input gate closed")
    assert_same(step(f=CLOSED, i=OPEN, g=CLOSED)[1], -one, "c' with the input gate open and a candidate of -1")
    assert_same(step(o=CLOSED)[0], 0 * one, "h' with the output gate closed")
    shown, memory = step(o=OPEN)
    assert_same(shown, torch.tanh(memory.detach()), "h' with the output gate open, where it is tanh(c'),")


@exercise("lstm_cell_step")
@points(1)
@public
@for_all(case=LSTM, corners=False)
def test_lstm_memory_is_a_line(student, case):
    """Raising c by one raises c' by the forget gate: a number between 0 and 1, the same for every c."""
    arguments = case.arguments()
    first, second, third = (student.lstm_cell_step(*{**arguments, "c": arguments["c"] + k}.values())[1].detach()
                            for k in range(3))
    assert_same(third - second, second - first, "the second step up")
    slope = second - first
    assert_same((slope > 0) & (slope < 1), torch.ones(case.B, case.H, dtype=torch.bool), "where 0 < slope < 1")


@exercise("lstm_cell_step")
@points(1)
@public
@for_all(case=LSTM, corners=False)
def test_lstm_sum_of_biases(student, case):
    """Only the sum of the two biases matters."""
    def moved(arguments):
        shift = torch.randn(4 * case.H, generator=case.generator(3), dtype=torch.float64)
        return {**arguments, "b_ih": arguments["b_ih"] + shift, "b_hh": arguments["b_hh"] - shift}
    assert_invariant(student.lstm_cell_step, case, moved, "something moves from b_hh to b_ih")


@exercise("lstm_cell_step")
@points(1)
@public
@for_all(case=LSTM, corners=False)
def test_lstm_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.lstm_cell_step, case)


GRU = Cases(x=normal("B I"), h=normal("B H", scale=1.5), w_ih=normal("3*H I"), w_hh=normal("3*H H"), b_ih=normal("3*H"),
            b_hh=normal("3*H"), sizes={"H": (1, 5)})


@exercise("gru_cell_step")
@points(1)
@public
@for_all(case=GRU, corners=False)
def test_gru_update_gate(student, case):
    """z = 1 keeps the state; z = 0 replaces it by the candidate, whatever it was."""
    arguments = case.arguments()
    kept = student.gru_cell_step(*driven(arguments, "rzn", z=OPEN).values())
    assert_same(kept, arguments["h"].contiguous(), "h' with z = 1")
    candidate = student.gru_cell_step(*driven(arguments, "rzn", z=CLOSED, n=CLOSED).values())
    assert_same(candidate, -torch.ones(case.B, case.H, dtype=torch.float64), "h' with z = 0 and a candidate of -1")


@exercise("gru_cell_step")
@points(1)
@public
@for_all(case=GRU)
def test_gru_reset_gate(student, case):
    """With r = 0 the candidate hears neither h nor b_hn; with r = 1 it hears all of W_hn h + b_hn."""
    arguments = case.arguments()
    from_x = arguments["x"] @ arguments["w_ih"][2 * case.H:].T + arguments["b_ih"][2 * case.H:]
    from_h = arguments["h"] @ arguments["w_hh"][2 * case.H:].T + arguments["b_hh"][2 * case.H:]
    for gate, value, expected in (("r = 0", CLOSED, from_x), ("r = 1", OPEN, from_x + from_h)):
        output = student.gru_cell_step(*driven(arguments, "rzn", z=CLOSED, r=value).values())
        assert_same(output, torch.tanh(expected), f"h' with z = 0 and {gate}")


@exercise("gru_cell_step")
@points(1)
@public
@for_all(case=GRU, corners=False)
def test_gru_mixture(student, case):
    """The new state lies between the old one and a candidate in [-1, 1]; shape and dtype are those of h."""
    for one in (case, case.but(dtype=torch.float32)):
        h = one.arguments()["h"]
        output = student.gru_cell_step(*one.arguments().values())
        assert_same(output, h.contiguous(), "output times 0", tolerance=math.inf)
        within = (output >= h.clamp(max=-1) - 1e-6) & (output <= h.clamp(min=1) + 1e-6)
        assert_same(within, torch.ones(case.B, case.H, dtype=torch.bool), "where h' is a mixture")


@exercise("gru_cell_step")
@points(1)
@public
@for_all(case=GRU, corners=False)
def test_gru_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.gru_cell_step, case)


RNN = Cases(x=normal("B T I"), lengths=lengths("B", "T"), h0=normal("B H"),
            params={"w_ih": normal("H I"), "w_hh": normal("H H"), "b_ih": normal("H"), "b_hh": normal("H")},
            sizes={"T": (1, 6), "H": (1, 4)}, also=[{"B": 5, "T": 7}])


def is_past(case):
    """(B, T): True in the padding."""
    return torch.arange(case.T) >= case.arguments()["lengths"][:, None]


def assert_zero_past_the_end(output, case):
    """Output (B, T, ...) is 0 in the padding."""
    past = is_past(case)
    assert_same(output.detach()[past], torch.zeros_like(output.detach()[past]), "output past the end of its sequence")


def assert_padding_is_inert(function, case):
    """Neither outputs nor gradients change when the padding holds something else, and its own gradient is 0."""
    past = is_past(case)[..., None]
    expected, expected_grads = gradients(function, case)
    own = dict(zip(case.floating(), expected_grads, strict=True))["x"]
    assert_same(own[past[..., 0]], torch.zeros_like(own[past[..., 0]]), "gradient of x in the padding")
    for content in (9.0, math.nan):
        def spoiled(*args, content=content):
            arguments = dict(zip(case.arguments(), args, strict=True))
            arguments["x"] = torch.where(past, content, arguments["x"])
            return function(*arguments.values())
        output, found = gradients(spoiled, case)
        assert_same(output, expected, f"output with {content:g} in the padding")
        for name, one, other in zip(case.floating(), found, expected_grads, strict=True):
            assert_same(one, other, f"gradient of {name} with {content:g} in the padding")


def alone(case, b):
    """The arguments of sequence b by itself, cut to its length."""
    arguments = case.arguments()
    length = int(arguments["lengths"][b])
    cut = {"x": arguments["x"][b:b + 1, :length], "lengths": arguments["lengths"][b:b + 1]}
    if "h0" in arguments:
        cut["h0"] = arguments["h0"][b:b + 1]
    return {**arguments, **cut}, length


@exercise("masked_rnn")
@points(2)
@public
@for_all(case=RNN)
def test_rnn_first_step(student, case):
    """A sequence of one element is one step of Eq. (7)."""
    x, _, h0, params = case.arguments().values()
    first = torch.tanh(x[:, 0] @ params["w_ih"].T + params["b_ih"] + h0 @ params["w_hh"].T + params["b_hh"])
    out, last = student.masked_rnn(x, torch.ones(case.B, dtype=torch.long), h0, params)
    assert_same(last, first, "h_last with all lengths 1")
    assert_same(out[:, :1], first[:, None], "out[:, :1] with all lengths 1")


@exercise("masked_rnn")
@points(1)
@public
@for_all(case=RNN)
def test_rnn_ends(student, case):
    """out is 0 past the end of a sequence, and h_last is the state at its last element."""
    arguments = case.arguments()
    out, last = student.masked_rnn(*arguments.values())
    assert_same((out, last), (torch.zeros(case.B, case.T, case.H, dtype=torch.float64),
                              torch.zeros(case.B, case.H, dtype=torch.float64)), "output times 0", tolerance=math.inf)
    assert_zero_past_the_end(out, case)
    ends = out.detach()[torch.arange(case.B), arguments["lengths"] - 1]
    assert_same(last.detach(), ends, "h_last, compared with out[b, lengths[b] - 1],")


@exercise("masked_rnn")
@points(2)
@public
@for_all(case=RNN, corners=False)
def test_rnn_padding_is_inert(student, case):
    """What stands in the padding, be it NaN, influences neither outputs nor gradients."""
    assert_padding_is_inert(student.masked_rnn, case)


@exercise("masked_rnn")
@points(1)
@public
@for_all(case=RNN, corners=False)
def test_rnn_every_sequence_by_itself(student, case):
    """Every sequence gets what it gets alone, cut to its length, wherever it stands in the batch."""
    out, last = student.masked_rnn(*case.arguments().values())
    for b in range(case.B):
        cut, length = alone(case, b)
        one_out, one_last = student.masked_rnn(*cut.values())
        assert_same(out[b:b + 1, :length], one_out.detach(), f"out of sequence {b} in the batch")
        assert_same(last[b:b + 1], one_last.detach(), f"h_last of sequence {b} in the batch")


@exercise("masked_rnn")
@points(1)
@public
@for_all(case=RNN, corners=False)
def test_rnn_gradient_consistent(student, case):
    """The gradient is that of the values: it agrees with finite differences of your own function."""
    assert_gradient_consistent(student.masked_rnn, case)


NETWORK = {"x": normal("B T I"), "h0": normal("B H"), "W": normal("H I"), "U": normal("H H", scale=0.7),
           "b": normal("H")}
BPTT = Cases(**NETWORK, sizes={"T": (1, 6), "H": (1, 4)})
LOSS = Cases(**NETWORK, dhs=normal("B T H"), k=value_of("k"), sizes={"T": (1, 6), "H": (1, 4), "k": (1, 4)},
             also=[{"T": 7, "k": 3}, {"T": 3, "k": 4}])


def whole(notebook):
    """(x, h0, W, U, b, dhs, k) -> the five gradients by a notebook's own two passes; k plays no part."""
    def passes(x, h0, W, U, b, dhs, k):
        return notebook.rnn_backward(dhs, opaque(notebook.rnn_forward_cache, 1)(x, h0, W, U, b)[1])
    return passes


def truncated(notebook):
    """The same with the truncated backward pass."""
    def passes(x, h0, W, U, b, dhs, k):
        return notebook.truncated_bptt(dhs, opaque(notebook.rnn_forward_cache, 1)(x, h0, W, U, b)[1], k)
    return passes


def one_loss(case, t):
    """The arguments with a loss that looks at step t alone."""
    arguments = case.arguments()
    dhs = torch.zeros_like(arguments["dhs"])
    dhs[:, t] = arguments["dhs"][:, t]
    return {**arguments, "dhs": dhs}


@exercise("bptt_backward")
@points(1)
@public
@for_all(case=BPTT, corners=False)
def test_bptt_states(student, case):
    """The states follow Eq. (8), and what comes after step n depends on the state at step n alone."""
    x, h0, W, U, b = case.arguments().values()
    forward = opaque(student.rnn_forward_cache, 1)
    hs = forward(x, h0, W, U, b)[0].detach()
    assert_same(hs[:, :1], torch.tanh(x[:, 0] @ W.T + h0 @ U.T + b)[:, None], "hs[:, :1]")
    n = case.seed % case.T
    rest = forward(x[:, n:], hs[:, n - 1] if n else h0, W, U, b)[0]
    assert_same(hs, torch.cat([hs[:, :n], rest.detach()], dim=1), f"hs, compared with a new start at step {n},")


@exercise("bptt_backward")
@points(3)
@public
@for_all(case=BPTT, corners=False)
def test_bptt_is_the_gradient(student, case):
    """rnn_backward belongs to rnn_forward_cache: it agrees with finite differences of the states."""
    assert_gradient_consistent(by_hand(student.rnn_forward_cache, student.rnn_backward), case)


@exercise("bptt_backward")
@points(1)
@public
@for_all(case=LOSS, corners=False)
def test_bptt_reaches_the_past(student, case):
    """A loss at step t reaches the inputs 0, ..., t and h0, and no input after t."""
    t = case.seed % case.T
    dx, dh0 = whole(student)(*one_loss(case, t).values())[:2]
    reached = (torch.arange(case.T) <= t).expand(case.B, -1)
    assert_same(nonzero(dx).any(-1), reached.contiguous(), f"inputs that a loss at step {t} reaches")
    assert_same(nonzero(dh0).any(-1), torch.ones(case.B, dtype=torch.bool), "whether it reaches h0")


@exercise("bptt_backward")
@points(2)
@public
@for_all(case=LOSS)
def test_truncated_reach(student, case):
    """truncated_bptt: a loss at step t reaches the inputs t - k < s ≤ t, all of them, and h0 only if t < k."""
    for t in {case.T - 1, case.seed % case.T}:
        dx, dh0 = truncated(student)(*one_loss(case, t).values())[:2]
        s = torch.arange(case.T)
        reached = ((t - case.k < s) & (s <= t)).expand(case.B, -1)
        assert_same(nonzero(dx).any(-1), reached.contiguous(), f"inputs that a loss at step {t} reaches")
        assert_same(nonzero(dh0).any(-1), torch.full((case.B,), t < case.k), f"whether step {t} reaches h0")


@exercise("bptt_backward")
@points(1)
@public
@for_all(case=LOSS, corners=False)
def test_truncated_to_nothing(student, case):
    """truncated_bptt with k ≥ T cuts nothing: it is rnn_backward."""
    expected = whole(student)(*case.arguments().values())
    for k in (case.T, case.T + 3):
        arguments = {**case.arguments(), "k": k}
        assert_same(truncated(student)(*arguments.values()), expected, f"gradients with k = {k}")


WEIGHTS = {"weight_ih_l0": normal("4*H I"), "weight_hh_l0": normal("4*H H"), "bias_ih_l0": normal("4*H"),
           "bias_hh_l0": normal("4*H")}
BILSTM = Cases(state={**WEIGHTS, **{f"{name}_reverse": part for name, part in WEIGHTS.items()}}, x=normal("B T I"),
               lengths=lengths("B", "T"), sizes={"T": (1, 5), "H": (1, 3), "I": (1, 4)})


def layer_of(notebook, case):
    """A notebook's layer as a function of its weights, the sequences and their lengths."""
    return function_of(notebook.BiLSTM, case.I, case.H)


@exercise("bilstm_layer")
@points(1)
@public
@for_all(case=BILSTM, corners=False)
def test_bilstm_contract(student, case):
    """The state_dict has the keys and shapes of nn.LSTM, and every one of them is a trainable parameter."""
    layer = student.BiLSTM(case.I, case.H)
    state = nn.LSTM(case.I, case.H, bidirectional=True).state_dict()
    assert_state_dict(layer, {name: value.shape for name, value in state.items()})
    frozen = sorted(state.keys() - {name for name, part in layer.named_parameters() if part.requires_grad})
    if frozen:
        raise CheckFailure(f"no optimizer would train {', '.join(frozen)}.",
                           hint="Register each weight as an nn.Parameter of its own.")
    layer.load_state_dict(state)


@exercise("bilstm_layer")
@points(1)
@public
@for_all(case=BILSTM, corners=False)
def test_bilstm_directions(student, case):
    """The first H outputs hear the past up to their position, the others the future from it on."""
    arguments = case.arguments()
    arguments["lengths"] = torch.full((case.B,), case.T)
    t, layer = case.seed % case.T, layer_of(student, case)
    arguments["x"] = arguments["x"].contiguous()
    before = layer(*arguments.values()).detach()
    arguments["x"][:, t] += 1
    changed = (layer(*arguments.values()).detach() != before).any(0)
    s = torch.arange(case.T)
    assert_same(changed[:, :case.H].any(-1), s >= t, f"where the first half changes with x[:, {t}]")
    assert_same(changed[:, case.H:].any(-1), s <= t, f"where the second half changes with x[:, {t}]")


@exercise("bilstm_layer")
@points(2)
@public
@for_all(case=BILSTM, corners=False)
def test_bilstm_padding_is_inert(student, case):
    """The output is 0 in the padding, and what stands there, be it NaN, influences nothing."""
    layer = layer_of(student, case)
    assert_zero_past_the_end(layer(*case.arguments().values()), case)
    assert_padding_is_inert(layer, case)


@exercise("bilstm_layer")
@points(1)
@public
@for_all(case=BILSTM, corners=False)
def test_bilstm_every_sequence_by_itself(student, case):
    """Every sequence gets what it gets alone, cut to its length."""
    layer = layer_of(student, case)
    whole = layer(*case.arguments().values())
    for b in range(case.B):
        cut, length = alone(case, b)
        assert_same(whole[b:b + 1, :length], layer(*cut.values()).detach(), f"output of sequence {b} in the batch")


@exercise("bilstm_layer")
@points(1)
@public
@for_all(case=BILSTM, corners=False)
def test_bilstm_mirror(student, case):
    """With equal weights in both directions, reversing the sequence reverses the output and exchanges its halves."""
    arguments, layer = case.arguments(), layer_of(student, case)
    for name in list(arguments["state"]):
        if name.endswith("_reverse"):
            arguments["state"][name] = arguments["state"][name.removesuffix("_reverse")]
    arguments["lengths"] = torch.full((case.B,), case.T)
    there = layer(*arguments.values()).detach()
    back_again = layer(*{**arguments, "x": arguments["x"].flip(1)}.values())
    assert_same(back_again, there.flip(1).roll(case.H, dims=-1), "output for the reversed sequence")


@exercise("bilstm_layer")
@points(1)
@public
@for_all(case=BILSTM, corners=False)
def test_bilstm_gradient_consistent(student, case):
    """The gradient, that of the weights too, agrees with finite differences of your own layer."""
    assert_gradient_consistent(layer_of(student, case), case)


def some_tokens(generator, s):
    """Tokens of which some are padding, at the end of a sequence and elsewhere."""
    tokens = torch.randint(s["V"], (s["B"], s["T"]), generator=generator)
    last = torch.randint(1, s["T"] + 1, (s["B"], 1), generator=generator)
    hidden = (torch.arange(s["T"]) >= last) | (torch.rand(s["B"], s["T"], generator=generator) < 0.1)
    return tokens.masked_fill(hidden, padding_of(generator, s))


def padding_of(_, s):
    return {"first": 0, "last": s["V"] - 1, "outside": -100}[s["padding"]]


LM = Cases(logits=normal("B T V", scale=2.0), tokens=computed(some_tokens), pad_id=computed(padding_of),
           flags={"padding": ("first", "last", "outside")}, sizes={"T": (1, 6), "V": (2, 7)}, also=[{"B": 4, "T": 8}])
SAMPLE = Cases(logits=normal("B V", scale=2.0), temperature=value_of("temperature"), top_k=value_of("top_k"),
               gumbel=computed(lambda g, s: gumbel_noise(s["B"], s["V"], generator=g)), sizes={"V": (1, 8)},
               flags={"temperature": (1.0, 0.3, 2.5, 0.0), "top_k": (2, None, 1, 3, 100)}, also=[{"B": 20, "V": 7}])


def gumbel_noise(*shape, generator):
    return -torch.log(-torch.log(torch.rand(*shape, generator=generator, dtype=torch.float64).clamp(1e-30, 1 - 1e-16)))


@exercise("char_lm_loss")
@points(1)
@public
@for_all(case=LM)
def test_lm_knows_nothing(student, case):
    """Equal logits give nll = log V and perplexity V, whatever the tokens and the padding."""
    logits, tokens, pad_id = case.arguments().values()
    nll, perplexity = student.lm_loss(torch.zeros_like(logits), tokens, pad_id)
    anything = bool((tokens[:, 1:] != pad_id).any())
    choices = torch.tensor(float(case.V) if anything else 1.0, dtype=torch.float64)
    assert_same(perplexity, choices, "perplexity of equal logits")
    assert_same(nll, choices.log(), "nll of equal logits")


@exercise("char_lm_loss")
@points(1)
@public
@for_all(case=LM, corners=False)
def test_lm_predicts_the_next(student, case):
    """Position t is judged by token t + 1: who knows that one has perplexity 1."""
    _, tokens, pad_id = case.arguments().values()
    following = tokens.roll(-1, dims=1).clamp(min=0)
    logits = 60 * nn.functional.one_hot(following, case.V).to(torch.float64)
    nll, perplexity = student.lm_loss(logits, tokens, pad_id)
    assert_same(nll, torch.zeros((), dtype=torch.float64), "nll of a model that knows the next token")
    assert_same(perplexity, torch.ones((), dtype=torch.float64), "its perplexity")


@exercise("char_lm_loss")
@points(2)
@public
@for_all(case=LM, corners=False)
def test_lm_what_does_not_count(student, case):
    """A constant added to a position's logits, the last position, and more padding change nothing."""
    logits, tokens, pad_id = case.arguments().values()
    expected = student.lm_loss(logits, tokens, pad_id)

    def unchanged(says, *arguments):
        assert_same(student.lm_loss(*arguments), expected, f"the result after {says}")
    unchanged("adding a constant to each position", logits + torch.arange(case.T)[:, None], tokens, pad_id)
    unchanged("changing the logits of the last position", torch.cat([logits[:, :-1], 3 * logits[:, -1:] + 1], 1),
              tokens, pad_id)
    unchanged("adding two columns of padding", torch.cat([logits, logits[:, :1], logits[:, :1]], 1),
              torch.cat([tokens, torch.full((case.B, 2), pad_id)], 1), pad_id)
    unchanged("repeating the batch", torch.cat([logits, logits]), torch.cat([tokens, tokens]), pad_id)


@exercise("char_lm_loss")
@points(1)
@public
@for_all(case=LM, corners=False)
def test_lm_every_token_counts_alike(student, case):
    """The mean is over tokens: nll times their number adds up over the sequences."""
    logits, tokens, pad_id = case.arguments().values()
    number = (tokens[:, 1:] != pad_id).sum(1).to(torch.float64)
    each = torch.stack([student.lm_loss(logits[b:b + 1], tokens[b:b + 1], pad_id)[0].detach() for b in range(case.B)])
    whole = student.lm_loss(logits, tokens, pad_id)[0]
    assert_same(whole * number.sum(), (each * number).sum(), "nll times the number of tokens")


@exercise("char_lm_loss")
@points(1)
@public
@for_all(case=LM, corners=False)
def test_lm_nothing_to_predict(student, case):
    """With nothing but padding, or a single position, nll is 0, perplexity 1, and the gradient 0."""
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    logits, tokens, pad_id = case.arguments().values()
    for columns, content in ((case.T, torch.full_like(tokens, pad_id)), (1, tokens)):
        leaf = logits[:, :columns].detach().clone().requires_grad_()
        nll, perplexity = student.lm_loss(leaf, content[:, :columns], pad_id)
        assert_same((nll, perplexity), (zero, one), "(nll, perplexity) with nothing to predict")
        if nll.requires_grad:
            assert_same(torch.autograd.grad(nll, leaf)[0], torch.zeros_like(leaf), "gradient with nothing to predict")


@exercise("char_lm_loss")
@points(1)
@public
@for_all(case=SAMPLE, corners=False)
def test_sample_limits(student, case):
    """Temperature 0, or top_k = 1, takes the largest logit; what is not among the top_k is never drawn."""
    logits, temperature, _, gumbel = case.arguments().values()
    largest = logits.argmax(-1)
    assert_same(student.sample(logits, 0.0, None, gumbel), largest, "tokens at temperature 0")
    assert_same(student.sample(logits, 1.0, 1, gumbel), largest, "tokens with top_k = 1")
    for k in range(1, case.V + 2):
        drawn = student.sample(logits, temperature, k, 10 * gumbel)
        rank = (logits > logits.gather(1, drawn[:, None])).sum(-1)
        assert_same(rank < k, torch.ones(case.B, dtype=torch.bool), f"whether the token is among the {k} largest")
    assert_refuses(student.sample, logits, -1.0, None, gumbel)
    assert_refuses(student.sample, logits, 1.0, 0, gumbel)


@exercise("char_lm_loss")
@points(1)
@public
@for_all(case=SAMPLE, corners=False)
def test_sample_frequencies(student, case):
    """With Gumbel noise, tokens are drawn as often as softmax(logits / temperature) says."""
    logits, draws = case.arguments()["logits"][:1], 4000
    temperature = case.temperature or 1.0
    noise = gumbel_noise(draws, case.V, generator=case.generator(4))
    drawn = student.sample(logits.expand(draws, -1), temperature, None, noise)
    share = torch.bincount(drawn, minlength=case.V) / draws
    expected = torch.softmax(logits[0] / temperature, dim=-1)
    # Seven standard deviations, and a little more for rare tokens: right code meets this by chance less than once
    # in a billion runs.
    error = (share - expected).abs() / (7 * (expected * (1 - expected) / draws).sqrt() + 10 / draws)
    if bool((error > 1).any()):
        token = int(error.argmax())
        raise CheckFailure(f"token {token} was drawn in {float(share[token]):.1%} of {draws} draws at temperature "
                           f"{temperature:g}; its probability is {float(expected[token]):.1%}.")
