"""Memory of a lab's containers, and what each part of it means."""

from labs.measure.figures import environment, take
from labs.measure.sampler import CgroupSampler, EngineSampler, Memory, Sampler, choose_sampler

__all__ = ["CgroupSampler", "EngineSampler", "Memory", "Sampler", "choose_sampler", "environment", "take"]
