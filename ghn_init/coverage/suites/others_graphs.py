"""Networks on graphs, point clouds, molecules and with equivariance."""

from __future__ import annotations

from typing import Any

from ghn_init.coverage.suites.others_case import Build, case, floats, tokens

_X = floats(6, 16)
_EDGES = tokens(6, 2, 12)
_GRAPH = (_X, _EDGES)
_TYPES = tokens(3, 12)
_M = "torch_geometric.nn.models:"
_C = "torch_geometric.nn.conv:"
_BASIC = ("GCN", "GraphSAGE", "GAT", "GIN", "PNA", "EdgeCNN")
_CONVS = (
    *("GCNConv", "SAGEConv", "GraphConv", "GATConv", "GATv2Conv", "TransformerConv", "TAGConv", "ARMAConv"),
    *("SGConv", "MFConv", "LEConv", "ClusterGCNConv", "FeaStConv", "SuperGATConv", "ResGatedGraphConv"),
    *("MixHopConv", "HypergraphConv", "FiLMConv", "GENConv"),
)
_OPTIONS: dict[str, dict[str, Any]] = {
    "SSGConv": {"alpha": 0.1},
    "ChebConv": {"K": 3},
    "EGConv": {"num_heads": 4},
    "GeneralConv": {"skip_linear": True},
}

CASES = [
    *(
        case(
            _M + name,
            in_channels=16,
            hidden_channels=32,
            num_layers=2,
            out_channels=4,
            inputs=_GRAPH,
            **(
                {"aggregators": ["mean", "max"], "scalers": ["identity"], "deg": tokens(4, 4)}
                if name == "PNA"
                else {}
            ),
        )
        for name in _BASIC
    ),
    *(case(_C + name, 16, 32, inputs=_GRAPH) for name in _CONVS),
    *(case(_C + name, 16, 32, inputs=_GRAPH, **options) for name, options in _OPTIONS.items()),
    case(_C + "GINConv", Build("torch.nn:Linear", 16, 32), inputs=_GRAPH),
    case(_C + "EdgeConv", Build("torch.nn:Linear", 32, 32), inputs=_GRAPH),
    case(_C + "NNConv", 16, 8, Build("torch.nn:Linear", 4, 128), inputs=(*_GRAPH, floats(12, 4))),
    case(_C + "CGConv", 16, dim=4, inputs=(*_GRAPH, floats(12, 4))),
    case(_C + "GMMConv", 16, 8, dim=2, kernel_size=3, inputs=(*_GRAPH, floats(12, 2))),
    case(_C + "RGCNConv", 16, 8, num_relations=3, inputs=(*_GRAPH, _TYPES)),
    case(_C + "RGATConv", 16, 8, num_relations=3, inputs=(*_GRAPH, _TYPES)),
    case(_C + "GatedGraphConv", 16, num_layers=2, inputs=_GRAPH),
    case(_C + "GCN2Conv", 16, alpha=0.1, inputs=(_X, _X, _EDGES)),
    case(_C + "PointNetConv", Build("torch.nn:Linear", 19, 16), inputs=(_X, floats(6, 3), _EDGES)),
    case(_C + "GPSConv", 16, Build(_C + "GCNConv", 16, 16), heads=2, inputs=_GRAPH),
    case(
        _C + "HGTConv",
        {"a": 16, "b": 8},
        16,
        (["a", "b"], [("a", "to", "b")]),
        heads=2,
        inputs=({"a": _X, "b": floats(6, 8)}, {("a", "to", "b"): _EDGES}),
    ),
    case(
        _M + "AttentiveFP",
        16,
        16,
        4,
        edge_dim=4,
        num_layers=2,
        num_timesteps=2,
        inputs=(*_GRAPH, floats(12, 4), tokens(2, 6)),
    ),
    case(_M + "GraphUNet", 16, 16, 4, depth=2, inputs=_GRAPH),
    case(
        _M + "DeepGCNLayer",
        Build(_C + "GENConv", 16, 16),
        Build("torch.nn:LayerNorm", 16),
        Build("torch.nn:ReLU"),
        inputs=_GRAPH,
    ),
    case(_M + "LINKX", 6, 16, 16, 4, num_layers=2, inputs=_GRAPH),
    case(_M + "LightGCN", 6, 16, 2, inputs=(_EDGES,)),
    case(_M + "GAE", Build(_C + "GCNConv", 16, 8), inputs=_GRAPH),
    case(_M + "SGFormer", 16, 16, 4, inputs=(_X, _EDGES, tokens(1, 6))),
    case(_M + "Polynormer", 16, 16, 4, inputs=(_X, _EDGES, tokens(1, 6))),
    case("torch_geometric.nn:MLP", [16, 32, 4], inputs=_X),
    case("torch_geometric.nn:DenseGCNConv", 16, 8, inputs=(floats(2, 6, 16), floats(2, 6, 6))),
    case("torch_geometric.nn:Set2Set", 16, 3, inputs=(_X, tokens(1, 6))),
    case("torch_geometric.nn:GlobalAttention", Build("torch.nn:Linear", 16, 1), inputs=(_X, tokens(1, 6))),
    case("egnn_pytorch:EGNN", dim=16, inputs=(floats(1, 6, 16), floats(1, 6, 3))),
    case(
        "en_transformer:EnTransformer",
        dim=16,
        depth=1,
        dim_head=32,
        heads=2,
        num_tokens=8,
        num_edge_tokens=4,
        edge_dim=4,
        inputs=(tokens(8, 1, 6), floats(1, 6, 3), tokens(4, 1, 6, 6)),
    ),
    case("e3nn.o3:Linear", "4x0e+4x1o", "4x0e+2x1o", inputs=floats(6, 16)),
    case(
        "e3nn.o3:FullyConnectedTensorProduct",
        "4x0e+4x1o",
        "4x0e+4x1o",
        "4x0e",
        inputs=(floats(6, 16), floats(6, 16)),
    ),
]
