import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from grasp_bench.contracts.record import parse_record, read_record, record_bytes
from grasp_bench.contracts.record_v1 import class_table, score
from grasp_bench.errors import UserError

OLD = Path(__file__).parent / "results" / "record_v1.json"
"""A record of schema 1 as it was published, with five of its scores."""


def parsed(**fields):
    return parse_record(json.dumps(json.loads(OLD.read_text()) | fields).encode())


def test_what_both_schemas_have_stays_as_it_is():
    old, new = json.loads(OLD.read_text()), read_record(OLD).model_dump(mode="json")
    shared = old.keys() - {"schema_version", "metrics", "environment", "tuned", "cost"}
    assert {name: new[name] for name in shared} == {name: old[name] for name in shared}
    assert new["tuned"] == old["tuned"] | {"scale": None}
    assert new["environment"] == old["environment"] | {"gradient_checkpointing": False, "cpu_instructions": None}
    assert new["cost"] == old["cost"] | {"active_parameters": None}
    assert new["schema_version"] == 2
    assert read_record(OLD).spec.id == old["run_id"]


def test_what_only_the_label_told_becomes_fields():
    new = read_record(OLD)
    assert new.changed == {"task": {}, "method": {}, "guidance": {"guidance_scale": 1.18, "norm_threshold": 6.61}}
    assert new.backbone_label == "tiny-sd3"
    assert (new.default_backbone, new.default_guidance) == (True, False)
    assert new.division == "closed"
    assert new.tuned
    assert new.tuned.settings == {"learning_rate": 0.00592}


@pytest.mark.parametrize(
    ("label", "backbone", "default_backbone", "default_guidance", "method"),
    [
        ("grasp", "tiny-sd3", True, True, {}),
        ("grasp~tuned=8", "tiny-sd3", True, True, {}),
        ("grasp~tuned=8,rank=16", "tiny-sd3", True, True, {"rank": 16}),
        ("grasp~rank=1", "tiny-sd3", True, True, {}),
        ("grasp@sana", "sana", False, True, {}),
        ("grasp@sana+apg~scale=1.0,null_route=same", "sana", False, False, {"scale": 1.0, "null_route": "same"}),
    ],
)
def test_every_form_of_a_label_is_taken_apart(label, backbone, default_backbone, default_guidance, method):
    new = parsed(label=label)
    assert (new.backbone_label, new.default_backbone) == (backbone, default_backbone)
    assert (new.default_guidance, new.changed["method"]) == (default_guidance, method)
    assert new.label == label


def test_settings_of_task_and_budget_come_from_the_tasks_label():
    new = parsed(task_label="digits-lt~class_order=0123456789,steps=600")
    assert new.changed["task"] == {"class_order": "0123456789", "steps": 600}


def test_each_score_keeps_its_numbers_under_the_new_names():
    old, new = json.loads(OLD.read_text())["metrics"], read_record(OLD).scores
    assert len(new) == 5
    for before, after in zip(old, new, strict=True):
        found = after.model_dump(mode="json")
        same = ("group", "scope", "value", "direction", "n", "interval", "worst")
        assert {name: found[name] for name in same} == {name: before[name] for name in same}
        assert found["reference"] == before["floor"]
        assert (after.metric_version, after.test_set) == ("1", "test")
    assert [(each.metric, each.source, each.label, each.scope) for each in new] == [
        ("fd", "generated", "FD(digits-cnn)", "group"),
        ("fd", "generated", "FD(digits-cnn)", "worst class"),
        ("accuracy", "generated", "Balanced accuracy", "group"),
        ("accuracy", "real", "Balanced accuracy", "group"),
        ("accuracy", "topped-up", "Balanced accuracy", "group"),
    ]


@pytest.mark.parametrize(
    ("name", "label", "fields"),
    [
        ("irs_adjusted", "IRS", {"metric": "irs_adjusted", "label": "IRS"}),
        (
            "f1_topped-up_balanced",
            "Macro F1, trained on real images topped up with generated ones, balanced test set",
            {"metric": "f1", "source": "topped-up", "test_set": "balanced-test", "label": "Macro F1"},
        ),
    ],
)
def test_source_and_test_set_are_split_from_the_name(name, label, fields):
    assert score({"name": name, "label": label}) == fields


def test_written_again_it_is_read_as_the_same_record():
    new = read_record(OLD)
    assert parse_record(record_bytes(new)) == new


@pytest.mark.parametrize(
    "damage",
    [{"label": None}, {"spec": "lost"}, {"metrics": ["lost"]}, {"metrics": [{"value": 1.0}]}, {"run_id": "0" * 64}],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_one_is_refused(damage):
    with pytest.raises(ValidationError):
        parsed(**damage)


def test_an_unknown_schema_is_refused_by_name(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(OLD.read_text()) | {"schema_version": 3}))
    with pytest.raises(UserError, match=r"record\.json: not a record this version reads: schema_version"):
        read_record(path)


def test_the_table_of_classes_gains_source_test_set_and_extractor():
    old = (
        "class,group,train_images,metric,n,value,floor,low,high\n"
        "9,tail,8,fd,30,5.0,4.0,3.0,6.0\n"
        '"a, b",tail,8,f1_real_balanced,30,0.5,,,\n'
    )
    new = (
        "class,group,train_images,metric,source,test_set,extractor,n,value,reference,low,high\n"
        "9,tail,8,fd,generated,test,,30,5.0,4.0,3.0,6.0\n"
        '"a, b",tail,8,f1,real,balanced-test,,30,0.5,,,\n'
    )
    assert class_table(old) == new
    assert class_table(new) == new
    of_one_extractor = new.replace("extractor,", "").replace("test,,", "test,")
    assert "extractor" not in of_one_extractor
    assert class_table(of_one_extractor) == new


@pytest.mark.parametrize("text", ["", "class,value\n9,1.0\n", "class,metric,n\n9\n"])
def test_a_table_of_another_form_is_left_as_it_is(text):
    assert class_table(text) == text
