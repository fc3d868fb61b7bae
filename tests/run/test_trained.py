from helpers import runs

from grasp_bench.run.files import TRAIN_SUMMARY
from grasp_bench.run.stages.train import summary


def test_numbers_are_left_open_and_counted():
    assert (
        summary(["blocks.0.ff.up.0", "norm.2d.weight", "blocks.11.ff.up.3"])
        == "blocks.*.ff.up.* (2), norm.2d.weight (1)"
    )


def test_a_run_says_what_it_trains_beside_what(tmp_path):
    progress = runs.Listener()
    trained = runs.train_only(tmp_path, runs.small("grasp"), progress)
    assert (trained / TRAIN_SUMMARY).exists()
    (line,) = [line for line in progress.said.splitlines() if line.startswith("trains ")]
    assert line.startswith("trains 43,008 parameters, rank 12: ")
    assert "transformer_blocks.*.ff.down.* (16)" in line  # four blocks, three clusters and dropped prompts
    assert "transformer_blocks.*.ff_context.up.* (12)" in line  # none on the prompt's side of the last
    assert "attn" not in line


def test_all_weights_are_no_list(tmp_path):
    progress = runs.Listener()
    runs.train_only(tmp_path, runs.small("vanilla-ft"), progress)
    assert "trains all 585,604 parameters of the transformer" in progress.said.splitlines()
