import re

from helpers.records import example, metric, record, reported

from grasp_bench.results.formats import latex, latex_escaped
from grasp_bench.results.tables import sections


def unescaped_braces(text: str) -> int:
    """Opening less closing braces, of those that LaTeX counts."""
    plain = re.sub(r"\\[{}]", "", text)
    return plain.count("{") - plain.count("}")


def test_a_table_a_metric_with_booktabs_rules_and_a_caption():
    text = latex(sections(reported(example())))
    first = text[text.index("\\begin{table}") : text.index("\\end{table}")].splitlines()
    assert first[2] == (
        "  \\caption{FD(digits-cnn) $\\downarrow$: digits-lt $\\cdot$ version 1 $\\cdot$ standard budget $\\cdot$ "
        "tiny-sd3@abc; 1 to 3 seeds. Mean $\\pm$ half the 95 \\% interval over seeds (Student t; from three seeds on); "
        "provisional: fewer than five seeds; real reference: real images against held-out real ones.}"
    )
    assert first[3] == "  \\label{tab:digits-lt-fd-digits-cnn}"
    assert first[4:] == [
        "  \\begin{tabular}{@{}llllrr@{}}",
        "    \\toprule",
        "    method & guidance & division & seeds & tail & all \\\\",
        "    \\midrule",
        "    grasp & cfg & closed & 3, provisional & \\textbf{13.00 $\\pm$ 2.48} & 11.00 $\\pm$ 2.48 \\\\",
        "    lora & cfg & closed & 1, provisional & 20.00 & \\textbf{9.00} \\\\",
        "    \\midrule",
        "    real reference &  &  &  & 1.50 & 0.50 \\\\",
        "    \\bottomrule",
        "  \\end{tabular}",
    ]
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 4  # two metrics, cost, what went wrong


def test_a_hostile_name_is_set_as_text():
    name = "\\input{/etc/passwd} 100% $x_1$ #1 a&b {~^}\n\\end{tabular}"
    runs = [record("grasp", 0, [metric("recall", "all", 0.5)], changed={"method": {"a": name}})]
    text = latex(sections(reported(runs)))
    assert unescaped_braces(text) == 0
    assert "\\input" not in text
    assert text.count("\\end{tabular}") == text.count("\\begin{tabular}")
    assert (
        "\\textbackslash{}input\\{/etc/passwd\\} 100\\% \\$x\\_1\\$ \\#1 a\\&b "
        "\\{\\textasciitilde{}\\textasciicircum{}\\}\\textbackslash{}u000a\\textbackslash{}end\\{tabular\\}"
    ) in text


def test_labels_differ_within_a_report():
    labels = re.findall(r"\\label\{(.*)\}", latex(sections(reported(example(), baseline="lora"))))
    assert len(set(labels)) == len(labels) == 5


def test_escaping_leaves_plain_words():
    assert latex_escaped("grasp, rank 16") == "grasp, rank 16"


def test_equal_titles_have_labels_of_their_own():
    runs = [record("grasp", seed, [metric("fd", "all", 1.0)]) for seed in range(2)]
    text = latex(sections(reported([runs[0], runs[1].model_copy(update={"protocol": {"rules": "1.0", "score": "4"}})])))
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert "tab:digits-lt-fd-digits-cnn-2" in labels
    assert len(set(labels)) == len(labels)
    assert len(set(re.findall(r"\\caption\{(.*)\}", text))) == len(labels)
