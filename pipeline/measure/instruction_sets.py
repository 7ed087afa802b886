"""Which of a CPU's instruction sets matter to a run, and what follows from them."""

from collections.abc import Mapping

SETS: Mapping[str, tuple[str, ...]] = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "bf16": ("avx512_bf16", "amx_bf16"),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AMX": ("amx_tile",),
}
"""Each with the flags of /proc/cpuinfo of which any one says that it is there."""


def sets_of(cpuinfo: str) -> list[str] | None:
    """Names out of `SETS`, from the text of /proc/cpuinfo; None where it has no x86 flags.

    >>> sets_of("flags\\t\\t: fpu avx2 avx512f")
    ['AVX2', 'AVX-512']
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = next((set(value.split()) for key, _, value in lines if key.strip() == "flags"), None)
    if flags is None:
        return None
    return [name for name, any_of in SETS.items() if flags & set(any_of)]


def consequence(sets: list[str]) -> str:
    """What follows for a recipe, in a few words.

    >>> consequence(["AVX2"])
    'no bf16 units, so on the CPU keep dtype: float32'
    """
    if "AVX2" not in sets:
        return "vLLM on the CPU needs AVX2"
    if "bf16" not in sets:
        return "no bf16 units, so on the CPU keep dtype: float32"
    return "on the CPU dtype: bfloat16 is worth a try beside float32"
