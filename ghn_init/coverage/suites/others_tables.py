"""Tables, time series, policies, densities, Gaussian processes and differential equations."""

from __future__ import annotations

from typing import Any

from ghn_init.coverage.suites.others_case import Build, case, floats, tokens

_ROW = floats(8, 12)
_SERIES = floats(2, 3, 48)
_T = "tsai.models."
_TSAI: dict[str, tuple[Any, ...]] = {
    "InceptionTime:InceptionTime": (3, 4),
    "FCN:FCN": (3, 4),
    "ResNet:ResNet": (3, 4),
    "XceptionTime:XceptionTime": (3, 4),
    "ResCNN:ResCNN": (3, 4),
    "OmniScaleCNN:OmniScaleCNN": (3, 4, 48),
    "TST:TST": (3, 4, 48),
    "RNN_FCN:LSTM_FCN": (3, 4, 48),
    "TCN:TCN": (3, 4),
    "XCM:XCM": (3, 4, 48),
    "gMLP:gMLP": (3, 4, 48),
    "TransformerModel:TransformerModel": (3, 4),
    "RNNPlus:GRUPlus": (3, 4),
}
_NEURAL = (
    *("NHITS", "NBEATS", "DLinear", "NLinear", "PatchTST", "MLP", "TiDE", "TFT", "VanillaTransformer"),
    *("Informer", "Autoformer", "FEDformer", "TimesNet", "TCN", "LSTM", "GRU", "DilatedRNN", "BiTCN", "KAN"),
    "DeepNPTS",
)
_MULTIVARIATE = ("iTransformer", "TSMixer", "StemGNN", "SOFTS", "TimeMixer", "RMoK")
_WINDOW: dict[str, Any] = {
    "insample_y": floats(4, 24, 1),
    "insample_mask": floats(4, 24, 1),
    "hist_exog": None,
    "futr_exog": None,
    "stat_exog": None,
}
_GLUON: dict[str, Any] = {"freq": "H", "context_length": 24, "prediction_length": 6}
_SPACE = "gymnasium.spaces:Box"

CASES = [
    case("rtdl_revisiting_models:MLP", d_in=12, d_out=1, n_blocks=2, d_block=32, dropout=0.1, inputs=_ROW),
    case(
        "rtdl_revisiting_models:ResNet",
        d_in=12,
        d_out=1,
        n_blocks=2,
        d_block=32,
        d_hidden=None,
        d_hidden_multiplier=2.0,
        dropout1=0.1,
        dropout2=0.0,
        inputs=_ROW,
    ),
    case(
        "rtdl_revisiting_models:FTTransformer",
        n_cont_features=12,
        cat_cardinalities=[4, 5],
        d_out=1,
        n_blocks=2,
        d_block=32,
        attention_n_heads=2,
        attention_dropout=0.1,
        ffn_d_hidden=None,
        ffn_d_hidden_multiplier=2.0,
        ffn_dropout=0.1,
        residual_dropout=0.0,
        inputs=(_ROW, tokens(4, 8, 2)),
    ),
    case("rtdl_num_embeddings:PeriodicEmbeddings", 12, 8, lite=False, inputs=_ROW),
    case(
        "tab_transformer_pytorch:TabTransformer",
        categories=(4, 5),
        num_continuous=10,
        dim=32,
        depth=1,
        heads=2,
        dim_out=1,
        mlp_act=Build("torch.nn:ReLU"),
        inputs=(tokens(4, 8, 2), floats(8, 10)),
    ),
    case(
        "tab_transformer_pytorch:FTTransformer",
        categories=(4, 5),
        num_continuous=10,
        dim=32,
        depth=1,
        heads=2,
        dim_out=1,
        inputs=(tokens(4, 8, 2), floats(8, 10)),
    ),
    case(
        "stable_baselines3.common.torch_layers:NatureCNN",
        Build(_SPACE, 0, 255, (4, 84, 84), "uint8"),
        inputs=floats(2, 4, 84, 84),
    ),
    case(
        "stable_baselines3.common.policies:ActorCriticPolicy",
        Build(_SPACE, -1, 1, (12,)),
        Build("gymnasium.spaces:Discrete", 3),
        abs,
        inputs=_ROW,
    ),
    case("tianshou.utils.net.common:Net", state_shape=12, action_shape=3, hidden_sizes=[32], inputs=_ROW),
    *(case(_T + path, *args, inputs=_SERIES) for path, args in _TSAI.items()),
    *(case(f"neuralforecast.models:{name}", h=6, input_size=24, inputs=(_WINDOW,)) for name in _NEURAL),
    *(
        case(
            f"neuralforecast.models:{name}",
            h=6,
            input_size=24,
            n_series=2,
            inputs=({**_WINDOW, "insample_y": floats(4, 24, 2), "insample_mask": floats(4, 24, 2)},),
        )
        for name in _MULTIVARIATE
    ),
    case(
        "pytorch_forecasting.models.nbeats.sub_modules:NBEATSGenericBlock",
        16,
        4,
        backcast_length=24,
        forecast_length=6,
        inputs=floats(2, 24),
    ),
    case(
        "gluonts.torch.model.deepar.module:DeepARModel",
        **_GLUON,
        num_feat_dynamic_real=1,
        num_feat_static_real=1,
        num_feat_static_cat=1,
        cardinality=[4],
        lags_seq=[1, 2],
        name="DeepAR",
        inputs={
            "feat_static_cat": tokens(4, 2, 1),
            "feat_static_real": floats(2, 1),
            "past_time_feat": floats(2, 26, 1),
            "past_target": floats(2, 26),
            "past_observed_values": floats(2, 26),
            "future_time_feat": floats(2, 6, 1),
        },
    ),
    case("zuko.nn:MaskedMLP", tokens(2, 4, 12) > 0, hidden_features=[32], inputs=_ROW),
    case("zuko.nn:MonotonicMLP", 12, 4, hidden_features=[32], inputs=_ROW),
    case("nflows.nn.nets:ResidualNet", 12, 4, hidden_features=32, inputs=_ROW),
    case("nflows.transforms:MaskedAffineAutoregressiveTransform", 12, 32, inputs=_ROW),
    case("torchcrf:CRF", 5, inputs=(floats(8, 2, 5), tokens(5, 8, 2))),
    case("deepctr_torch.layers:CrossNet", 12, layer_num=2, inputs=_ROW),
    case("deepctr_torch.layers:CIN", 6, inputs=floats(8, 6, 4)),
    case("torchrl.modules:NoisyLinear", 12, 4, inputs=_ROW),
    case("kan:KANLayer", in_dim=12, out_dim=4, inputs=_ROW),
    case(
        "fastai.tabular.model:TabularModel",
        [(4, 3), (5, 3)],
        10,
        2,
        [32, 16],
        inputs=(tokens(4, 8, 2), floats(8, 10)),
    ),
    case("fastai.text.models.awdlstm:AWD_LSTM", 64, 16, 24, 2, inputs=tokens(64, 2, 12)),
]
