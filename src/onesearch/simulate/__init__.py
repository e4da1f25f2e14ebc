"""A marketplace with the published shape of a real one, for a start without data: see docs/simulator.md."""

from onesearch.simulate.marketplace import Marketplace
from onesearch.simulate.simulator import Simulator

__all__ = ["Marketplace", "Simulator"]
