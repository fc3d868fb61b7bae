"""What users of other tools expect of a command line: short help, less and more said, defaults, JSON, completion."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from grasp_bench import cli, plugins
from grasp_bench.cli import Command, app
from grasp_bench.cli.options import told
from grasp_bench.errors import UserError
from grasp_bench.sweep import process

RUN = ("--task", "digits-lt", "--budget", "smoke", "--device", "cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given, by a user with a configuration of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def invoke(*arguments: str) -> str:
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert shown.exit_code == 0
    return shown.stdout


def configure(folder: Path, text: str) -> None:
    path = folder / "config" / "grasp-bench" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_short_help_is_help() -> None:
    assert invoke("run", "-h") == invoke("run", "--help")


@pytest.mark.parametrize("columns", ["80", "60"])
def test_help_cuts_off_nothing_in_a_narrow_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(name, columns)
    for words, command in leaves(COMMAND_LINE):
        shown = invoke(*words, "--help").replace(",", " ").split()
        told = "".join(shown)
        for option in (each for each in command.params if isinstance(each, TyperOption)):
            assert {*option.opts, *option.secondary_opts} <= {*shown}
            assert "".join((option.help or "").replace(",", " ").split()) in told
    listed = "".join(invoke("--help").split())
    for command in COMMAND_LINE.commands.values():
        assert "".join(command.help.partition("\n\n")[0].split()) in listed


def test_help_says_type_default_and_bounds_beside_a_name() -> None:
    lines = [line.strip() for line in invoke("run", "--help").splitlines()]
    for line in (
        "--checkpoint-minutes (float, default 10, x>=0)",
        "-m, --method (str)",
        "-q, --quiet",
        "--set NAME=VALUE",
    ):
        assert line in lines
    assert "-t, --task (str, required)" in invoke("evaluate", "--help")


@pytest.mark.parametrize("named", ["guidance", "guidances"])
def test_kinds_are_known_by_one_and_by_many(named: str) -> None:
    assert invoke("list", named) == invoke("list", "guidance")


def test_lists_and_descriptions_are_there_as_json() -> None:
    listed = json.loads(invoke("list", "methods", "--json"))
    assert {row["name"] for row in listed["methods"]} == set(plugins.entries("methods"))
    (shown,) = json.loads(invoke("show", "grasp", "--json"))
    rank = next(each for each in shown["settings"] if each["name"] == "rank")
    assert (rank["type"].split()[0], shown["kind"]) == ("int", "method")


def test_the_state_of_a_sweep_is_there_as_json(folder: Path) -> None:
    (folder / "sweep.toml").write_text('methods = ["lora", "grasp"]\ntasks = ["digits-lt"]\nseeds = [0]\n')
    cells = json.loads(invoke("status", "sweep.toml", "--json"))
    assert [(each["cell"].split()[0], each["status"]) for each in cells] == [("lora", "missing"), ("grasp", "missing")]


def test_nothing_of_a_description_is_cut_off_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    (known,) = json.loads(invoke("show", "cbdm", "--json"))
    shown = "".join(invoke("show", "cbdm").split())
    assert "…" not in shown
    for setting in known["settings"]:
        assert "".join(setting["name"].split()) in shown
        assert "".join(setting["description"].split()) in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run --method lora", {"lora", "lora-attn"}),
        ("run --guidance cfg", {"cfg", "cfg++", "cfg-interval"}),
        ("run --task digits", {"digits-lt"}),
        ("run --backbone sana", {"sana", "sana-0.6b", "sana-1.6b"}),
        ("run lora", {"lora", "lora-attn"}),
        ("run lora digits", {"digits-lt"}),
        ("run lora digits-lt digits", set()),
        ("run --budget s", {"standard", "smoke"}),
        ("score --task digits", {"digits-lt"}),
        ("score --extractor inc", {"inception"}),
        ("score --metrics fd,irs", {"fd,irs", "fd,irs_adjusted"}),
        ("evaluate --backbone sana-0", {"sana-0.6b"}),
        ("report --baseline vanilla", {"vanilla-ft"}),
        ("check gui", {"guidance"}),
        ("new ent", {"entry"}),
        ("data export --split v", {"validation"}),
        ("show tiny-sd3-", {"tiny-sd3-32"}),
        ("list ext", {"extractors"}),
    ],
)
def test_a_shell_completes_names_without_importing_anything_heavy(words: str, expected: set[str]) -> None:
    code = (
        "import sys\nfrom grasp_bench.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'diffusers'} & set(sys.modules)"
    )
    asked = {"_GRASP_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": f"grasp-bench {words}"}
    environment = os.environ | asked | {"COMP_CWORD": str(len(words.split()))}
    program = f"import sys; sys.argv = ['grasp-bench']\n{code}"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_method_and_task_are_named_by_their_places_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (("run", "grasp"), ("run", "grasp", "digits-lt", "--method", "lora"), ("run", "--method", "lora")):
        with pytest.raises(UserError, match="grasp-bench run grasp digits-lt"):
            CliRunner().invoke(app, wrong, catch_exceptions=False)


@pytest.mark.usefixtures("quick")
def test_a_run_is_as_loud_as_asked_and_ends_with_the_first_scores(folder: Path) -> None:
    runner = CliRunner()
    plain = runner.invoke(app, ["run", "vanilla-ft", "digits-lt", *RUN[2:]], catch_exceptions=False)
    assert "Its numbers mean nothing" in plain.stderr
    assert "tiny-sd3 is a tiny backbone (" in plain.stderr
    assert "; ahead: " in plain.stderr
    assert "trains all 585,604 parameters of the transformer" in plain.stderr
    assert "features of test images" in plain.stderr
    assert "--all-scores" in plain.stdout
    again = ("run", "--method", "vanilla-ft", *RUN)
    quiet = runner.invoke(app, [*again, "-q", "--all-scores"], catch_exceptions=False)
    assert quiet.stderr == ""
    assert len(plain.stdout.splitlines()) < len(quiet.stdout.splitlines())
    record = next(folder.rglob("record.json"))
    record.unlink()
    loud = runner.invoke(app, [*again, "-v"], catch_exceptions=False)
    assert "train: reused from" in loud.stderr
    assert "train: reused from" not in plain.stderr


def test_less_and_more_exclude_each_other() -> None:
    with pytest.raises(UserError, match="exclude each other"):
        told(quiet=True, verbose=True)
    for words in (
        ("evaluate", "--task", "digits-lt", "--name", "mine", "--images", "png"),
        ("data", "export", "--task", "digits-lt", "--split", "train", "--to", "out"),
        ("check", "extractor", "pixels"),
    ):
        with pytest.raises(UserError, match="exclude each other"):
            CliRunner().invoke(app, [*words, "-q", "-v"], catch_exceptions=False)


def test_options_have_the_defaults_of_the_users_configuration(folder: Path) -> None:
    configure(folder, '[defaults]\nresults = "mine"\n[defaults.list]\njson = true\n')
    assert json.loads(invoke("list", "metrics"))["metrics"]
    found = json.loads(invoke("doctor", "--json"))
    assert found["folders"]["results"].startswith(f"{folder / 'mine'} ")
    assert str(folder / "other") in json.loads(invoke("doctor", "--json", "--results", "other"))["folders"]["results"]


GIVEN: dict[str, Any] = {
    "work-dir": "/scratch/work",
    "results": "/data/results",
    "cache-dir": "/disk/cache",
    "data-root": "/data/root",
    "device": "cuda:1",
    "budget": "lite",
    "backbone": "tiny-sd3",
    "task": "mnist-lt",
    "method": "lora",
    "guidance": "cfg",
    "resolution": 64,
    "batch-size": 7,
    "seed": 3,
    "quiet": True,
}
"""Option → a default of it that is no program's own."""


def leaves(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, those of groups too, by the words that call it."""
    for name, command in group.commands.items():
        words = (*above, name)
        yield from leaves(command, words) if isinstance(command, TyperGroup) else [(words, command)]


def texts(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


COMMAND_LINE = get_command(app)


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in leaves(COMMAND_LINE)]
)
def test_every_command_honours_the_defaults_of_the_options_that_it_has(
    words: tuple[str, ...], command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(folder, "[defaults]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in GIVEN.items()))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(Command, "invoke", lambda self, context: asked.update(context.params))
    options = {each.opts[0].removeprefix("--"): each for each in command.params if isinstance(each, TyperOption)}
    mine = {name: texts(value) for name, value in GIVEN.items() if name in options}
    needed = ["x" for each in command.params if each.required and not isinstance(each, TyperOption)]
    missing = [name for name, each in options.items() if each.required and name not in mine]
    needed += [word for name in missing for word in (f"--{name}", "x")]

    def found(*given: str, before: Sequence[str] = ()) -> dict[str, list[str]]:
        asked.clear()
        COMMAND_LINE([*before, *words, *needed, *given], standalone_mode=False)
        return {name: texts(asked[options[name].name]) for name in mine}

    assert found() == mine
    named = [name for name in mine if name != "quiet"]
    others = [word for name in named for word in (f"--{name}", "12")]
    assert found(*others) == {**mine, **{name: ["12"] for name in named}}  # what is given goes first
    assert found(*others, before=["--no-defaults"]).get("quiet") in (None, ["False"])


def test_what_is_given_by_its_place_goes_before_the_configuration(folder: Path) -> None:
    configure(folder, '[defaults]\ntask = "mnist-lt"\n[defaults.run]\nmethod = "lora"\n')
    with pytest.raises(UserError, match=r"unknown method 'grisp'"):
        CliRunner().invoke(app, ["run", "grisp", "digits-lt"], catch_exceptions=False)


def test_a_message_says_which_options_are_as_in_the_configuration(folder: Path) -> None:
    configure(folder, '[defaults]\nbudget = "lite"\ndevice = "cpu"\n')
    with pytest.raises(UserError) as error:
        invoke("diagnose", "--run", "nowhere")
    assert str(error.value).startswith("--budget lite: nowhere has its own. Leave it out.\n")
    assert str(error.value).endswith(f"{Path('config', 'grasp-bench', 'config.toml')}: --budget.")
    with pytest.raises(UserError) as error:
        invoke("diagnose", "--run", "nowhere", "--budget", "lite")
    assert str(error.value) == "--budget lite: nowhere has its own. Leave it out."


def test_a_number_or_another_word_in_a_message_is_not_taken_for_the_configurations(folder: Path) -> None:
    configure(folder, '[defaults]\nthreads = 1\nresults = "n"\n')
    with pytest.raises(UserError) as error:
        invoke("run", "lora", "digits1-lt")
    assert "unknown task 'digits1-lt'" in str(error.value)
    assert "as in" not in str(error.value)


@pytest.mark.parametrize("line", ["threads = 0", 'batch-size = "many"', "batch-size = 1e400"])
def test_a_value_that_its_option_does_not_take_is_said_to_be_of_the_configuration(folder: Path, line: str) -> None:
    configure(folder, f"[defaults.run]\n{line}\n")
    option = line.partition(" ")[0]
    with pytest.raises(UserError) as error:
        invoke("run", "lora", "digits-lt")
    assert f"--{option}" in str(error.value)
    assert str(error.value).endswith(f"config.toml: --{option}.")
    typed = CliRunner().invoke(app, ["run", "lora", "digits-lt", f"--{option}", "0"])
    assert "config.toml" not in f"{typed.output}{typed.exception}"


def test_runs_of_a_sweep_take_nothing_from_the_configuration() -> None:
    assert process.COMMAND[-1] == "--no-defaults"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[defaults]\ndevise = "cpu"\n', "[defaults]: there is no option --devise. Did you mean 'device'"),
        ('[defaults.run]\nextractor = "x"\n', "[defaults.run]: there is no option --extractor"),
        ("[defaults.rum]\nseed = 1\n", "[defaults.rum]: no such command. Did you mean 'run'"),
        ("defaults = 3\n", "defaults is no table"),
        ("[defaults.cache.lost]\nseed = 1\n", "[defaults.cache.lost]: no such command. Did you mean 'list'"),
        ('[defaults.cache]\nbudget = "x"\n', "[defaults.cache]: there is no option --budget"),
        ("[defaults]\njson = true\n", "[defaults], json: there, `score` takes a value and not true or false"),
        ("[defaults.evaluate]\nseed = [1, 2]\n", "[defaults.evaluate], seed: there, `evaluate` takes one value"),
        ("[defaults]\ndevice = 2020-01-01\n", "[defaults], device: expected text"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(folder: Path, text: str, told: str) -> None:
    configure(folder, text)
    with pytest.raises(UserError) as error:
        invoke("list")
    assert "config.toml" in str(error.value)
    assert told in str(error.value)


def test_a_configuration_that_is_nested_too_deeply_takes_no_command_down(folder: Path) -> None:
    configure(folder, "a = " + "[" * 100_000)
    assert "grasp" in invoke("list")
    shown = CliRunner().invoke(app, ["run", "grasp", "nih-lt"])
    assert isinstance(shown.exception, UserError), shown.exception


def test_the_doctor_names_what_is_wrong(folder: Path) -> None:
    (folder / "results").write_text("no folder")
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1
    assert "1 problem found:" in shown.stdout
    assert f"results: {folder / 'results'} is no folder" in " ".join(shown.stdout.split())


def test_the_doctor_tells_how_much_stages_and_caches_take(folder: Path) -> None:
    stage = folder / "work" / "train" / ("0" * 20)
    stage.mkdir(parents=True)
    (stage / "weights.safetensors").write_bytes(b"w" * 2048)
    found = json.loads(invoke("doctor", "--json", "--work-dir", "work"))["folders"]["work folder"]
    assert found.startswith(f"{folder / 'work'}, stages and caches in 1 folder, 2.0 KiB, ")
    assert found.endswith(" GiB free")


def test_a_library_of_quantised_weights_tells_nothing_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("bitsandbytes")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setattr("sys.argv", ["grasp-bench", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
