"""No module imports itself by way of others, not even for types; that of packages is held by import-linter."""

import graphlib

import grimp


def test_there_are_no_cycles_of_imports() -> None:
    graph = grimp.build_graph("grasp_bench", "baselines", "tasks", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # which raises CycleError with a cycle
