# Digests of every output that two runs of the same config write alike, to compare runs with (docs/reliability.md).
REPORTED = tables() + figures()


def deterministic(wildcards):
    """The models, predictions and scores of a data set, or all tables and figures."""
    if wildcards.part == "tables":
        return REPORTED
    dataset, data = wildcards.part, plan.datasets[wildcards.part]
    runs = [(run, step) for step in ("res", "retrain") for run in plan.trained(step, dataset=dataset)]
    steps = [f"{RUN.format(**run._asdict())}/{step}" for run, step in runs]
    recs, made = (
        [f"{dataset}/seed{seed}/rec/{head}" for name, seed, head in each if name == dataset]
        for each in (plan.rec_runs(), trained_recs())
    )
    scored = [results(f"{path}/{split}/metrics.json") for path in recs for split in data.splits]
    scored += both_steps(plan.experiments, dataset=dataset)
    return [results(f"{path}/model.safetensors") for path in made + steps] + scored + predictions(scored)


use rule table1 as manifest with:
    input: files=deterministic
    output: made=results("manifests/{part}.sha256")
    params: command="manifest", options="", code=code("manifest")
    wildcard_constraints: part="|".join(map(re.escape, [*plan.datasets, "tables"]))
    log: logs("manifest/{part}")
    benchmark: benchmarks("manifest/{part}")


def manifests():
    """A manifest of each data set, and that of the tables and figures."""
    return [results(f"manifests/{part}.sha256") for part in (*plan.datasets, "tables")]
