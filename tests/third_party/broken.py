"""Third-party plugins, each wrong in one way."""

from pydantic import Field

from grasp_bench.contracts.extractor import Extractor
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.task import Task, TaskSettings


class NoMethod:
    """Not derived from Method"""


class Sound(Method):
    """Nothing is wrong with it, but where it is registered may be"""

    version = "1"
    paper = "none"

    def attach(self, backbone, task, generator):
        pass

    def detach(self):
        pass


class SoundGuidance(Guidance):
    """Nothing is wrong with it either"""

    version = "1"
    paper = "none"

    def predict(self, model, latents, step):
        return latents


class AttachWithoutParameters(Sound):
    """The harness gives attach three arguments"""

    def attach(self):
        pass


class AttachWithTooMany(Sound):
    """... and no fourth one"""

    def attach(self, backbone, task, generator, device):
        pass


class RenamedParameter(Sound):
    """May be called by name"""

    def losses(self, batch, output):
        return output


class NoDetach(Method):
    """Never leaves the backbone"""

    version = "1"
    paper = "none"

    def attach(self, backbone, task, generator):
        pass


class NumberedVersion(Sound):
    """A version is text"""

    version = 1


class NoPaper(Method):
    """Comes from nowhere"""

    version = "1"


class LossesIsNoFunction(Sound):
    """Has a number where a function should be"""

    losses = 3


class OwnInit(Sound):
    """Cannot be made from its settings"""

    def __init__(self):
        super().__init__(MethodSettings())


class BiggerBudget(MethodSettings):
    batch_size: int = Field(default=512, ge=1)
    """Images a step"""
    steps: int = Field(default=10_000, ge=1)
    """More of them"""
    num_inference_steps: int = Field(default=50, ge=1)
    """Of the sampler"""
    images_per_class: int = Field(default=1000, ge=1)
    """To be scored"""


class SetsTheBudget(Sound):
    """Wants more than the others get"""

    Config = BiggerBudget


class OtherData(MethodSettings):
    extractor: str = "mine"
    """What distances are measured in"""
    horizontal_flip: bool = True
    """Mirrored images"""
    seed: int = Field(default=0, ge=0)
    """A lucky one"""


class SetsTheTask(Sound):
    """Wants other data and scores than the others get"""

    Config = OtherData


class Demanding(MethodSettings):
    width: int = Field(ge=1)
    """Of something"""


class NoDefault(Sound):
    """Cannot be run without a setting"""

    Config = Demanding


class ForeignSettings(Sound):
    """Settings that are no settings"""

    Config = dict


class LongerSampling(Settings):
    num_inference_steps: int = Field(default=100, ge=1)
    """Of the sampler"""


class SetsTheSampler(SoundGuidance):
    """Samples for longer than the others"""

    Config = LongerSampling


class PredictsWithoutStep(SoundGuidance):
    """Does not know where the sampler is"""

    def predict(self, model, latents):
        return latents


class NoClasses(Task[TaskSettings]):
    """A task of nothing"""

    version = "1"
    source = "none"
    backbone = "tiny-sd3"
    guidance = "cfg"
    extractors = ("pixels",)
    classifier = None
    budgets = None

    def prepare(self, folder, progress):
        pass

    def open(self, folder, shape):
        pass


class OneImageAtATime(Extractor):
    """Never learned to load"""

    version = "1"

    def features(self):
        pass


class SoundMetric(FeatureMetric):
    """Nothing is wrong with it"""

    name = "sound"
    version = "1"
    label = "Sound"
    direction = "lower"
    bounds = (0.0, 1.0)
    definition = "It is zero."
    misleads = "It is always zero."
    source = "none"

    def value(self, given):
        return 0.0


class NoValue(FeatureMetric):
    """Measures nothing"""

    name, version, label, direction, bounds = "no-value", "1", "None", "lower", (0.0, 1.0)
    definition = misleads = source = "None."


class Sideways(SoundMetric):
    """Neither way is better"""

    name = "sideways"
    direction = "up"


class Misnamed(SoundMetric):
    """Its entry point has another name"""

    name = "other"


function = print
