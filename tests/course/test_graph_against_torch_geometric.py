"""An oracle that is not ours: the graph unit's reference against torch_geometric's layers, on random graphs."""
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, GATv2Conv, GCNConv
from torch_geometric.utils import softmax

from autograder.course import load_course
from autograder.solution.material import Material

COURSE = load_course(Path(__file__).resolve().parents[2] / "course.yml")
REFERENCE = Material(COURSE, COURSE.unit("graph")).reference


def graph(seed: int) -> Data:
    """A random graph without loops, with nodes that no edge reaches, in float64."""
    generator = torch.Generator().manual_seed(seed)
    nodes = 2 + seed % 9
    edges = torch.randint(0, nodes, (2, 3 * nodes), generator=generator)
    edges = torch.unique(edges[:, edges[0] != edges[1]], dim=1)
    return Data(x=torch.randn(nodes, 3, generator=generator, dtype=torch.float64), edge_index=edges)


@pytest.fixture(params=range(12))
def batch(request: pytest.FixtureRequest) -> Batch:
    """Three graphs in one."""
    return Batch.from_data_list([graph(3 * request.param + number) for number in range(3)])


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def loaded(layer: torch.nn.Module, **weights: torch.Tensor) -> torch.nn.Module:
    layer.double().load_state_dict({name.replace("__", "."): value for name, value in weights.items()})
    return layer


def test_gcn(batch: Batch) -> None:
    w = drawn(3, 4)
    library = loaded(GCNConv(3, 4, bias=False), lin__weight=w.T)
    torch.testing.assert_close(REFERENCE.gcn_conv(batch.x, batch.edge_index, w), library(batch.x, batch.edge_index))


def test_gat(batch: Batch) -> None:
    w, a_src, a_dst = drawn(3, 8), drawn(2, 4), drawn(2, 4) - 1
    library = loaded(GATConv(3, 4, heads=2, bias=False), lin__weight=w.T, att_src=a_src[None], att_dst=a_dst[None])
    torch.testing.assert_close(REFERENCE.gat_conv(batch.x, batch.edge_index, w, a_src, a_dst),
                               library(batch.x, batch.edge_index))


def test_gatv2(batch: Batch) -> None:
    w_src, w_dst, a = drawn(3, 8), drawn(3, 8) + 1, drawn(2, 4)
    library = loaded(GATv2Conv(3, 4, heads=2, bias=False), lin_l__weight=w_src.T, lin_r__weight=w_dst.T, att=a[None])
    torch.testing.assert_close(REFERENCE.gatv2_conv(batch.x, batch.edge_index, w_src, w_dst, a),
                               library(batch.x, batch.edge_index))


def test_softmax_over_neighbours(batch: Batch) -> None:
    dst = batch.edge_index[1]
    scores = drawn(dst.shape[0])
    torch.testing.assert_close(REFERENCE.scatter_softmax(scores, dst, batch.num_nodes),
                               softmax(scores, dst, num_nodes=batch.num_nodes))


def test_the_oracle_can_disagree(batch: Batch) -> None:
    w = drawn(3, 4)
    library = loaded(GCNConv(3, 4, bias=False, normalize=False), lin__weight=w.T)
    found = REFERENCE.gcn_conv(batch.x, batch.edge_index, w)
    assert not torch.allclose(found, library(batch.x, batch.edge_index))
