"""Everything of a run that runs elsewhere than in its own process; the only user of Ray."""

from pipeline.cluster.driver import Cluster, ComponentFailed, Serving
from pipeline.cluster.setups import GrpoSetup, PreferenceSetup, ServiceSetup

__all__ = [
    "Cluster",
    "ComponentFailed",
    "GrpoSetup",
    "PreferenceSetup",
    "ServiceSetup",
    "Serving",
]
