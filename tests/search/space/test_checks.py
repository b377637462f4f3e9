import pytest

from search.config_reader import read_config
from search.plan import make_plan
from search.space.checks import check_limits
from tests.search.conftest import make_space, regression_table, table
from trainables.errors import ConfigError, DataError


def plan(source, *settings, **options):
    return make_plan(read_config(source, {"image_size": 32} | options, settings))


def test_a_batch_that_several_gpus_cannot_share_evenly_is_refused(photos):
    with pytest.raises(
        ConfigError, match=r"a batch of 8 cannot be split into 3 equal parts for 3 GPUs; set space.batch_size to multiples of 3"
    ):
        plan(photos, "resources.gpus_per_trial=3")
    assert plan(photos, "resources.gpus_per_trial=3", "space.batch_size=6").space.recipe.batch_size == 6


def test_losses_and_target_scales_are_checked_on_the_targets(tmp_path):
    assert plan(regression_table(tmp_path / "good"), "space.loss=[mse, mape]", "space.target=[linear, log]").metric == "mae"
    zero = table(tmp_path / "zero", "weight", lambda index, rng: ((index * 5,) * 3, str(index * 0.5)))
    with pytest.raises(DataError, match="loss mape divides by the target"):
        plan(zero, "space.loss=[mse, mape]")
    with pytest.raises(DataError, match="target: log needs targets above 0"):
        plan(zero, "space.target=log")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": [16, 64]}, r"batch_size must be at most 25, a quarter of the 100 training images, but space.batch_size reaches 64"),
        ({"unfrozen_stages": {"high": 9}}, r"unfrozen_stages must be at most 5, the stages of the backbone, .* reaches 9"),
    ],
)
def test_values_beyond_the_limits_of_data_and_backbone_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_limits(make_space(changes, images=100), images=100, stages=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("space.momentum=0.5",), "space.momentum has no effect: adamw has no momentum; leave it out, or change space.optimizer"),
        (("space.momentum=[0.5, 0.9]",), "space.momentum has no effect"),
        (("space.head_layers=0", "space.head_units=64"), "space.head_units has no effect: the head has no hidden layer"),
        (("space.unfrozen_stages=0", "space.l2_sp=0.1"), "space.l2_sp has no effect: all stages stay frozen"),
        (("space.schedule=one_cycle", "space.warmup=0.2"), "space.warmup has no effect: one_cycle has a warm-up of its own"),
        (("space.augmentation_ops=[]", "space.augmentation_strength=0.5"), "there is no operation of augmentation"),
        (("space.reinit_stages=3", "space.unfrozen_stages=2"), "reinit_stages must be at most 2, the most stages that train, .* reaches 3"),
        (("space.refit=true",), "refit is a setting of its own, not a part of space; set refit instead of space.refit"),
    ],
)
def test_a_setting_without_effect_in_any_trial_is_refused(photos, settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(photos, *settings)


def test_a_setting_with_an_effect_in_some_trials_is_allowed(photos):
    space = plan(photos, "space.optimizer=[adamw, sgd]", "space.momentum=[0.5, 0.9]", "space.head_units=64").space
    assert {"optimizer", "momentum", "head_layers"} <= space.describe().keys()
    assert space.recipe.head_units == 64
