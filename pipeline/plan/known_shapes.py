"""Published models that recipes name and whose files are not here, from their configurations."""

from collections.abc import Mapping

from pipeline.plan.model_shape import Layers, ModelShape


def _dense(
    billions: float,
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    mlp: int,
    vocabulary: int,
    head: int | None = None,
    head_norms: bool = False,
) -> ModelShape:
    """A dense model; its KV cache holds 2 x layers x KV heads x head size numbers a token."""
    head = head or hidden // heads
    return ModelShape(
        parameters=billions * 1e9,
        kv_values=2 * layers * kv_heads * head,
        layers=Layers(
            layers=layers,
            hidden=hidden,
            query=heads * head,
            kv=kv_heads * head,
            mlp=mlp,
            vocabulary=vocabulary,
            head_norms=head_norms,
        ),
    )


def _qwen2(
    billions: float, *, layers: int, hidden: int, heads: int, kv: int, mlp: int
) -> ModelShape:
    vocabulary = 151936 if billions < 5 else 152064
    return _dense(
        billions,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv,
        mlp=mlp,
        vocabulary=vocabulary,
    )


def _qwen3(billions: float, *, layers: int, hidden: int, heads: int, mlp: int) -> ModelShape:
    return _dense(
        billions,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=8,
        mlp=mlp,
        vocabulary=151936,
        head=128,
        head_norms=True,
    )


def _llama3(billions: float, *, layers: int, hidden: int, heads: int, mlp: int) -> ModelShape:
    return _dense(
        billions, layers=layers, hidden=hidden, heads=heads, kv_heads=8, mlp=mlp, vocabulary=128256
    )


KNOWN: Mapping[str, ModelShape] = {
    "Qwen2.5-0.5B": _qwen2(0.494, layers=24, hidden=896, heads=14, kv=2, mlp=4864),
    "Qwen2.5-1.5B": _qwen2(1.544, layers=28, hidden=1536, heads=12, kv=2, mlp=8960),
    "Qwen2.5-Coder-1.5B": _qwen2(1.544, layers=28, hidden=1536, heads=12, kv=2, mlp=8960),
    "Qwen2.5-Math-1.5B": _qwen2(1.544, layers=28, hidden=1536, heads=12, kv=2, mlp=8960),
    "Qwen2.5-3B": _qwen2(3.086, layers=36, hidden=2048, heads=16, kv=2, mlp=11008),
    "Qwen2.5-7B": _qwen2(7.616, layers=28, hidden=3584, heads=28, kv=4, mlp=18944),
    "Qwen2.5-Math-7B": _qwen2(7.616, layers=28, hidden=3584, heads=28, kv=4, mlp=18944),
    "Qwen2.5-14B": _qwen2(14.77, layers=48, hidden=5120, heads=40, kv=8, mlp=13824),
    "Qwen2.5-32B": _qwen2(32.76, layers=64, hidden=5120, heads=40, kv=8, mlp=27648),
    "Qwen3-0.6B": _qwen3(0.596, layers=28, hidden=1024, heads=16, mlp=3072),
    "Qwen3-1.7B": _qwen3(1.721, layers=28, hidden=2048, heads=16, mlp=6144),
    "Qwen3-4B": _qwen3(4.02, layers=36, hidden=2560, heads=32, mlp=9728),
    "Qwen3-8B": _qwen3(8.19, layers=36, hidden=4096, heads=32, mlp=12288),
    "Llama-3.2-1B": _llama3(1.236, layers=16, hidden=2048, heads=32, mlp=8192),
    "Llama-3.2-3B": _llama3(3.213, layers=28, hidden=3072, heads=24, mlp=8192),
    "Llama-3.1-8B": _llama3(8.03, layers=32, hidden=4096, heads=32, mlp=14336),
    "Llama-3.3-70B": _llama3(70.55, layers=80, hidden=8192, heads=64, mlp=28672),
    "SmolLM2-135M": _dense(
        0.1345, layers=30, hidden=576, heads=9, kv_heads=3, mlp=1536, vocabulary=49152
    ),
    # recurrent: planes for 32 and for 4 iterations; parameters of the core
    "huginn-0125": ModelShape(
        parameters=3.5e9,
        kv_values=2 * (4 + 4 * 32) * 5280,
        iterated=1.5e9,
        iterations=32,
        layers=Layers(
            layers=8, hidden=5280, query=5280, kv=5280, mlp=17920, vocabulary=65536, iterated=4
        ),
    ),
    "Ouro-1.4B": ModelShape(
        parameters=1.4e9,
        kv_values=2 * 24 * 4 * 2048,
        iterated=1.2e9,
        iterations=4,
        layers=Layers(
            layers=24, hidden=2048, query=2048, kv=2048, mlp=5632, vocabulary=49152, iterated=24
        ),
    ),
}
"""Hub models by the start of their name, without the owner."""
