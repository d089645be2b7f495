# Tables; each reads only what evaluation, selection and the data's rules wrote. The config's `report` says which
# experiments they show.
REPORT = plan.config.report
ORACLE = REPORT.oracle or ""
BESIDE = f"--oracle {shlex.quote(ORACLE)}"


def report_output(files, kind, category, title):
    """A rule's outputs, the one of a kind in the report, with the caption that is named after it.

    Each has one label only. With a second label, the report page shows a toggle, and goes blank when only one side of
    the toggle has an entry.
    """
    path = Path(files[kind])
    name, room = path.stem.partition("_{")[0], path.parent.name  # without wildcards; tables or figures
    caption, labels = f"../report/{room}/{name}.rst", {"what": f"{title} ({room[:-1]})"}
    return {**files, kind: report(files[kind], caption=caption, category=category, labels=labels)}


def table(name):
    return {"made": results(f"tables/{name}.csv")} | {kind: results(f"tables/{name}.{kind}") for kind in ("md", "html")}


def scores(step, experiments, dataset=None, first=False, ratios=None):
    """metrics.json of the scored runs of a step, on every split or each data set's first."""
    return [
        results(f"{RUN.format(**run._asdict())}/{step}/{split}/metrics.json")
        for name in dict.fromkeys(experiments)
        for run in plan.scored(step, experiment=name, dataset=dataset)
        if ratios is None or float(run.ratio) in ratios
        for split in plan.datasets[run.dataset].splits[: 1 if first else None]
    ]


def both_steps(experiments, **of):
    """metrics.json of steps 2 and 3."""
    return scores("res", experiments, **of) + scores("retrain", experiments, **of)


def oracle(**of):
    """metrics.json of the oracle: step 2 with every mask."""
    return scores("res", [ORACLE], ratios=[100], **of) if ORACLE else []


def unique(files):
    return list(dict.fromkeys(files))


def predictions(metrics):
    """The predictions.parquet beside each metrics.json."""
    return [f"{Path(path).parent}/predictions.parquet" for path in metrics]


def scored(metrics):
    """Inputs: metrics.json files, and the predictions beside them, which the commands look up themselves."""
    return {"files": metrics, "predictions": predictions(metrics)}


def selections(experiments):
    """selection.json of the runs of step 3."""
    runs = [run for name in experiments for run in plan.runs("retrain", experiment=name)]
    return [results(f"{RUN.format(**run._asdict())}/pseudo/selection.json") for run in runs]


def repeated(name, values):
    """A param: an option once for each value."""
    return " ".join(f"{name} {shlex.quote(str(value))}" for value in values)


def last_steps(names):
    """Rows of a table of step 3: step 2 of the last experiment, which gains refer to, and the last step of each."""
    ends = [f"{name}/{'retrain' if 3 in plan.experiments[name].steps else 'res'}" for name in names]
    return unique([f"{names[-1]}/res", *ends]) if names else []


# Rows of the tables that set experiments beside each other, as EXPERIMENT/STEP; gains refer to the first.
ROWS = {
    "table2": [f"{name}/res" for name in REPORT.table2],
    "table3": last_steps(REPORT.table3),
    "table4": last_steps(REPORT.table4),
    "beyond": [f"{name}/retrain" for name in REPORT.beyond],
}


def row_scores(name):
    """metrics.json of a table's rows, at the ratios that all of its experiments share, and of the oracle."""
    rows = [row.split("/") for row in ROWS[name]]
    files = []
    for dataset in plan.datasets:
        shared = [{run.ratio for run in plan.scored(step, experiment=each, dataset=dataset)} for each, step in rows]
        ratios = {float(ratio) for ratio in set.intersection(*shared)} if shared else set()
        files += [path for each, step in rows for path in scores(step, [each], dataset=dataset, ratios=ratios)]
    return unique(files + oracle())


def comparison(name, title):
    """The params of a table of experiments beside each other."""
    kept = selections(getattr(REPORT, name)) if name in ("table4", "beyond") else []
    options = [repeated("--row", ROWS[name]), repeated("--selection", kept), f"--title {shlex.quote(title)}", BESIDE]
    return dict(command="tables comparison", options=" ".join(options), code=code("tables comparison"))


# All rules of the report are this one with other files.
rule table1:
    input: **scored(unique(both_steps(REPORT.table1) + oracle()))
    output: **report_output(table("table1"), "html", "Results", "Table 1: mIoU and oIoU by mask ratio")
    params: command="tables main", options=BESIDE, code=code("tables main")
    resources: **resources_of("report")
    group: "report"
    message: "Table 1"
    log: logs("table1")
    benchmark: benchmarks("table1")
    conda: environment("report")
    shell: "python -m partialres {params.command} {input.files:q} {params.options} --out {output.made:q} 2> {log:q}"


use rule table1 as table2 with:
    input: **scored(row_scores("table2"))
    output: **report_output(table("table2"), "html", "Ablations", "Table 2: CCTF and PMCA")
    params: **comparison("table2", "CCTF and PMCA after step 2")
    message: "Table 2"
    log: logs("table2")
    benchmark: benchmarks("table2")


use rule table1 as table3 with:
    input: **scored(row_scores("table3"))
    output: **report_output(table("table3"), "html", "Ablations", "Table 3: resampled pseudo points")
    params: **comparison("table3", "Resampled pseudo points in step 3")
    message: "Table 3"
    log: logs("table3")
    benchmark: benchmarks("table3")


use rule table1 as table4 with:
    input: **scored(row_scores("table4")), selections=selections(REPORT.table4)
    output: **report_output(table("table4"), "html", "Ablations", "Table 4: selection by D")
    params: **comparison("table4", "Selection of pseudo masks by D")
    message: "Table 4"
    log: logs("table4")
    benchmark: benchmarks("table4")


use rule table1 as table_beyond with:
    input: **scored(row_scores("beyond")), selections=selections(REPORT.beyond)
    output: **report_output(table("beyond"), "html", "Ablations", "beyond the paper")
    params: **comparison("beyond", "Beyond the paper: step 3 with other pseudo masks")
    message: "table of what goes beyond the paper"
    log: logs("table_beyond")
    benchmark: benchmarks("table_beyond")


use rule table1 as table_details with:
    input: files=both_steps(plan.experiments)
    output: **report_output(table("details"), "html", "Results", "every score")
    params: command="tables details", options="", code=code("tables details")
    message: "table of every score"
    log: logs("table_details")
    benchmark: benchmarks("table_details")


use rule table1 as table_rec with:
    input:
        files=[
            results(f"{name}/seed{seed}/rec/{head}/{split}/metrics.json")
            for name, each in plan.datasets.items()
            for seed in plan.config.seeds
            for head in plan.heads(name)
            for split in each.splits
        ],
    output: **report_output(table("rec"), "html", "Results", "boxes after step 1")
    params: command="tables rec", options="", code=code("tables rec")
    message: "table of step 1"
    log: logs("table_rec")
    benchmark: benchmarks("table_rec")


use rule table1 as table_pseudo with:
    input: files=selections(plan.experiments)
    output: **report_output(table("pseudo"), "html", "Pseudo masks", "kept and their true IoU")
    params: command="tables pseudo", options="", code=code("tables pseudo")
    message: "table of pseudo points"
    log: logs("table_pseudo")
    benchmark: benchmarks("table_pseudo")


def labelled():
    """split.parquet of every ratio, by the first seed."""
    runs = [run for run in plan.runs() if run.seed == plan.config.seeds[0]]
    return unique(results(f"{run.dataset}/seed{run.seed}/ratio{run.ratio}/split.parquet") for run in runs)


use rule table1 as table_data with:
    input:
        files=[results(f"{name}/refs.parquet") for name in plan.datasets],
        splits=labelled(),
    output: **report_output(table("data"), "html", "Data", "refs, expressions and masks")
    params: command="tables data", options=repeated("--split", labelled()), code=code("tables data")
    message: "table of the data"
    log: logs("table_data")
    benchmark: benchmarks("table_data")


def least_ratio(dataset):
    """The least ratio at which the experiments of Table 1 run on a data set, or None where one of them does not."""
    shared = [set(plan.ratios(dataset, name)) for name in REPORT.table1]
    return min(set.intersection(*shared), default=None) if shared else None


def failing(wildcards):
    """metrics.json of the models in the failure analysis: the last steps at the least ratio, and the oracle."""
    ratio, files = least_ratio(wildcards.dataset), []
    for name in unique([*REPORT.table1, *REPORT.beyond]):
        steps = [scores(step, [name], wildcards.dataset, True, [ratio]) for step in ("retrain", "res")]
        files += next(filter(None, steps), [])
    return unique(files + oracle(dataset=wildcards.dataset, first=True))


use rule table1 as table_failures with:
    input:
        files=lambda wildcards: [results(f"{wildcards.dataset}/refs.parquet"), *failing(wildcards)],
        predictions=lambda wildcards: predictions(failing(wildcards)),
    output: **report_output(table("failures_{dataset}"), "html", "Failures", "{dataset}")
    params: command="tables failures", options="", code=code("tables failures")
    message: "table of failures on {wildcards.dataset}"
    log: logs("table_failures/{dataset}")
    benchmark: benchmarks("table_failures/{dataset}")


def tables():
    """The tables that the config asks for."""
    names = ["details", "rec", "data", *(name for name, rows in ROWS.items() if rows)]
    names += ["pseudo"] if plan.runs("retrain") else []
    compared = [name for name in plan.datasets if least_ratio(name)]
    names += [f"failures_{name}" for name in compared] + (["table1"] if compared else [])
    return [file for name in names for file in table(name).values()]
