"""What labs use, measured so that it can be repeated."""

from labs.measure.figures import environment, take
from labs.measure.sampler import CgroupSampler, EngineSampler, Reading, Sampler, choose_sampler

__all__ = ["CgroupSampler", "EngineSampler", "Reading", "Sampler", "choose_sampler", "environment", "take"]
