"""Which processes of a run go on which node: counted by GPUs and CPU cores, before anything runs.

An engine's GPUs, its tensor parallel group, lie in one node. Engines take their places first, since
they are the largest; trainers and the reward model take what is left. Colocated engines have one
GPU each, which is a trainer's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.recipe.hardware import Hardware
from pipeline.recipe.schema import Recipe

CORES_PER_GPU = 2  # a process that feeds a GPU, and the threads that load its data; ours
DRIVER_CORES = 2  # the driver, and the service that renders prompts and writes the journal; ours


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The nodes that a run asks for, all alike."""

    nodes: int
    gpus: int  # of each node
    cores: int  # of each node that are at work at once
    slots: int  # of each node, in the CPUs that processes reserve; turns share cores


def placement_of(recipe: Recipe, *, device: str) -> Placement:
    """The nodes for a recipe whose placement holds and whose threads are filled in."""
    hardware = recipe.hardware
    slots = 1 + sum(_threads(recipe))  # the service has one
    if device != "cuda":
        nodes = hardware.nodes or 1
        cores = _cores_at_once(recipe) + hardware.verifier_workers
        return Placement(nodes=nodes, gpus=0, cores=-(-cores // nodes), slots=slots)
    nodes = hardware.nodes or _nodes_needed(recipe)
    gpus = min(hardware.gpus_per_node, gpus_of(recipe)) if nodes == 1 else hardware.gpus_per_node
    cores = DRIVER_CORES + CORES_PER_GPU * gpus + -(-hardware.verifier_workers // nodes)
    return Placement(nodes=nodes, gpus=gpus, cores=cores, slots=max(cores, 1 + gpus))


def placement_mistakes(recipe: Recipe, *, device: str) -> Iterator[str]:
    """What does not fit on the nodes, with numbers."""
    hardware = recipe.hardware
    if hardware.layout == "colocated":
        yield from _colocation_mistakes(recipe, device=device)
    if device != "cuda":
        return
    node = hardware.gpus_per_node
    if hardware.gpus_per_engine > node:
        yield (
            f"hardware.gpus_per_engine: an engine of {hardware.gpus_per_engine} GPUs does not fit "
            f"in a node of {node}, and tensor parallel stays inside a node; lower it, or correct "
            "hardware.gpus_per_node"
        )
        return
    needed = _nodes_needed(recipe)
    if hardware.nodes is not None and needed > hardware.nodes:
        fewer = gpus_of(recipe) > hardware.nodes * node
        yield (
            f"hardware.nodes: {_processes(recipe)} need {gpus_of(recipe)} GPUs, and "
            f"{hardware.nodes} node(s) of {node} have {'fewer' if fewer else 'no room for them'}; "
            f"lower hardware.ranks or hardware.engines, or raise hardware.nodes to {needed}"
        )


def shares_gpus(hardware: Hardware, *, device: str) -> bool:
    """Whether each trainer has its GPU together with an engine."""
    return device == "cuda" and hardware.layout == "colocated"


def _colocation_mistakes(recipe: Recipe, *, device: str) -> Iterator[str]:
    """Why trainers and engines cannot share GPUs."""
    hardware, key = recipe.hardware, "hardware.layout: colocated"
    if device != "cuda":
        yield f"{key} is for GPUs, on a CPU trainers and engines take turns anyway; leave it out"
        return
    if hardware.engine == "native":
        yield f"{key} needs engines that sleep, which native ones do not; set engine: vllm"
    if hardware.gpus_per_engine > 1:
        yield f"{key}: an engine has the GPU of one trainer; set hardware.gpus_per_engine: 1"
    if hardware.engines != hardware.ranks:
        yield (
            f"{key}: {hardware.ranks} trainer(s) share their GPUs with as many engines, not "
            f"{hardware.engines}; set hardware.engines: {hardware.ranks}"
        )
    ahead = [name for name, stage in recipe.stages.items() if stage.samples_ahead]
    if ahead:
        yield (
            f"{key}: trainer and engine take turns, and stages.{ahead[0]}.ahead has both at work; "
            "set ahead: 0, or hardware.layout: separate"
        )


def _nodes_needed(recipe: Recipe) -> int:
    """Nodes that hold every process: engines first, each whole in one."""
    hardware = recipe.hardware
    node, size = hardware.gpus_per_node, hardware.gpus_per_engine
    if hardware.layout == "colocated":
        return -(-gpus_of(recipe) // node)
    for_engines = -(-hardware.engines // (node // size))
    return max(for_engines, -(-gpus_of(recipe) // node))


def gpus_of(recipe: Recipe) -> int:
    """Of trainers, engines and, where a stage is rewarded by a model, the scorer."""
    hardware = recipe.hardware
    engines = hardware.engines * hardware.gpus_per_engine
    if hardware.layout == "colocated":
        engines = 0
    return hardware.ranks + engines + int(recipe.has_reward_model)


def _threads(recipe: Recipe) -> Iterator[int]:
    """CPU threads that each trainer, engine and the scorer reserve."""
    hardware = recipe.hardware
    yield hardware.ranks * hardware.rank_threads
    yield hardware.engines * hardware.engine_threads
    yield hardware.engine_threads if recipe.has_reward_model else 0


def _cores_at_once(recipe: Recipe) -> int:
    """Cores at work: of trainers or of engines, whose turns they are; of both with `ahead: 1`."""
    training, sampling, _ = _threads(recipe)
    ahead = any(stage.samples_ahead for stage in recipe.stages.values())
    return training + sampling if ahead else max(training, sampling)


def _processes(recipe: Recipe) -> str:
    hardware: Hardware = recipe.hardware
    engine = f"{hardware.engines} engine(s) of {hardware.gpus_per_engine}"
    scorer = " and a reward model" if recipe.has_reward_model else ""
    return f"{hardware.ranks} trainer(s), {engine}{scorer}"
