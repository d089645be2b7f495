# Tables. They read only files that the rules for data, selection and evaluation wrote. The config's `report` says
# which experiments they show.
REPORT = plan.config.report
ORACLE = REPORT.oracle or ""
BESIDE = f"--oracle {shlex.quote(ORACLE)}"


def report_output(files, kind, category, title):
    """A rule's outputs, of which files[kind] goes into the report, with the caption of the same name.

    It gets only one label: with a second one, the report page shows a toggle, and goes blank if only one side of the
    toggle has an entry.
    """
    path = Path(files[kind])
    name, room = path.stem.partition("_{dataset}")[0].strip("{}"), path.parent.name  # tables or figures

    def labels(wildcards):
        return {"what": f"{title(wildcards) if callable(title) else title} ({room[:-1]})"}

    caption = f"../report/{room}/{name}.rst"
    return {**files, kind: report(files[kind], caption=caption, category=category, labels=labels)}


def table(name):
    return {"made": results(f"tables/{name}.csv")} | {kind: results(f"tables/{name}.{kind}") for kind in ("md", "html")}


def figure(name):
    return {"made": results(f"figures/{name}.png"), "pdf": results(f"figures/{name}.pdf")}


def scores(step, experiments, dataset=None, first=False, ratios=None):
    """metrics.json of a step's scored runs, on every split or, with `first`, on each data set's first split only."""
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
    """The predictions.parquet beside each metrics.json, which the commands look up themselves."""
    return [f"{Path(path).parent}/predictions.parquet" for path in metrics]


def selections(experiments):
    """selection.json of the runs of step 3."""
    runs = [run for name in experiments for run in plan.trained("retrain", experiment=name)]
    return [results(f"{RUN.format(**run._asdict())}/pseudo/selection.json") for run in runs]


def repeated(name, values):
    """A param: a command-line option, repeated for each value."""
    return " ".join(f"{name} {shlex.quote(str(value))}" for value in values)


def row_scores(name):
    """metrics.json of a table's rows, at the ratios that all its experiments have in common, and of the oracle."""
    rows, files = plan.rows(name), []
    for dataset in plan.datasets:
        ratios = plan.shared(rows, dataset)
        files += [path for each, step in rows for path in scores(step, [each], dataset=dataset, ratios=ratios)]
    return unique(files + oracle()) if files else []


def kept(name):
    """selection.json of a table's runs of step 3, if the table shows which pseudo masks they trained on."""
    return selections(getattr(REPORT, name)) if name in ("table4", "beyond") else []


TITLES = {
    "table2": "Table 2: CCTF and PMCA after step 2",
    "table3": "Table 3: resampled pseudo points in step 3",
    "table4": "Table 4: selection of pseudo masks by D",
    "beyond": "Beyond the paper: step 3 with other pseudo masks",
}


def comparison_options(wildcards):
    """A param: the options of a comparison table: its rows, the selections behind them, and its title."""
    name = wildcards.comparison
    rows = " ".join(f"--row {experiment} {step}" for experiment, step in plan.rows(name))
    return f"{rows} {repeated('--selection', kept(name))} --title {shlex.quote(TITLES[name])} {BESIDE}"


TABLE_1 = unique(both_steps(REPORT.table1) + oracle())


# All other rules for tables and figures reuse this one with their own files.
rule table1:
    input: files=TABLE_1, predictions=predictions(TABLE_1)
    output: **report_output(table("table1"), "html", "Results", "Table 1: mIoU and oIoU")
    params: command="tables main", options=BESIDE, code=code("tables main")
    resources: **resources_of("report")
    group: "report"
    message: "{rule} {wildcards}"
    log: logs("table1")
    benchmark: benchmarks("table1")
    conda: environment("report")
    shell: "python -m partialres {params.command} {input.files:q} {params.options} --out {output.made:q} 2> {log:q}"


CLAIMED = both_steps(unique([*REPORT.table1, *REPORT.table2, *REPORT.table3, *REPORT.table4, *REPORT.figure1]))


use rule table1 as table_claims with:
    input: files=CLAIMED, predictions=predictions(CLAIMED)
    output: **report_output(table("claims"), "html", "Results", "the paper's claims")
    params: command="tables claims", options="", code=code("tables claims")
    log: logs("table_claims")
    benchmark: benchmarks("table_claims")


use rule table1 as table_comparison with:
    input:
        files=lambda wildcards: row_scores(wildcards.comparison),
        predictions=lambda wildcards: predictions(row_scores(wildcards.comparison)),
        selections=lambda wildcards: kept(wildcards.comparison),
    output: **report_output(table("{comparison}"), "html", "Ablations", lambda wildcards: TITLES[wildcards.comparison])
    params: command="tables comparison", options=comparison_options, code=code("tables comparison")
    wildcard_constraints: comparison="|".join(TITLES)
    log: logs("table_comparison/{comparison}")
    benchmark: benchmarks("table_comparison/{comparison}")


use rule table1 as table_details with:
    input: files=both_steps(plan.experiments)
    output: **report_output(table("details"), "html", "Results", "every score")
    params: command="tables details", options=BESIDE, code=code("tables details")
    log: logs("table_details")
    benchmark: benchmarks("table_details")


use rule table1 as table_rec with:
    input:
        files=[
            results(f"{name}/seed{seed}/rec/{head}/{split}/metrics.json")
            for name, seed, head in plan.rec_runs()
            for split in plan.datasets[name].splits
        ],
    output: **report_output(table("rec"), "html", "Results", "boxes after step 1")
    params: command="tables rec", options="", code=code("tables rec")
    log: logs("table_rec")
    benchmark: benchmarks("table_rec")


use rule table1 as table_pseudo with:
    input: files=selections(plan.experiments)
    output: **report_output(table("pseudo"), "html", "Pseudo masks", "kept and their true IoU")
    params: command="tables pseudo", options="", code=code("tables pseudo")
    log: logs("table_pseudo")
    benchmark: benchmarks("table_pseudo")


def labelled():
    """split.parquet of every ratio, by the first seed."""
    runs = [run for run in plan.runs() if run.seed == 0]
    return unique(results(f"{run.dataset}/seed{run.seed}/ratio{run.ratio}/split.parquet") for run in runs)


use rule table1 as table_data with:
    input:
        files=[results(f"{name}/refs.parquet") for name in plan.datasets],
        splits=labelled(),
    output: **report_output(table("data"), "html", "Data", "refs, expressions and masks")
    params: command="tables data", options=repeated("--split", labelled()), code=code("tables data")
    log: logs("table_data")
    benchmark: benchmarks("table_data")


def least_ratio(dataset):
    """The lowest ratio at which all experiments of Table 1 are evaluated on a data set, or None if there is none."""
    return min(plan.shared([(name, "last") for name in REPORT.table1], dataset), default=None)


def failing(wildcards):
    """metrics.json of the models in the failure analysis: the last steps at the lowest ratio, and the oracle."""
    ratio, files = least_ratio(wildcards.dataset), []
    for name in unique([*REPORT.table1, *REPORT.beyond]):
        steps = [scores(step, [name], wildcards.dataset, True, [ratio]) for step in ("retrain", "res")]
        files += next(filter(None, steps), [])
    return unique(files + oracle(dataset=wildcards.dataset, first=True))


use rule table1 as table_failures with:
    input:
        files=lambda wildcards: [results(f"{wildcards.dataset}/refs.parquet"), *failing(wildcards)],
        predictions=lambda wildcards: predictions(failing(wildcards)),
    output:
        **report_output(table("failures_{dataset}"), "html", "Failures", "{dataset}"),
        **report_output({"figure": results("figures/failures_{dataset}.png")}, "figure", "Failures", "{dataset}"),
        pdf=results("figures/failures_{dataset}.pdf"),
    params:
        command="tables failures",
        options=lambda wildcards, output: f"{BESIDE} --figure {shlex.quote(output.figure)}",
        code=code("tables failures"),
    log: logs("table_failures/{dataset}")
    benchmark: benchmarks("table_failures/{dataset}")


def tables():
    """The tables that the config asks for, without those whose rows no data set has at one ratio: it says which."""
    names = ["details", "rec", "data", *filter(row_scores, TITLES)]
    for name in [name for name in TITLES if getattr(REPORT, name) and name not in names]:
        print(f"report.{name} is left out: no ratio of a data set has all of its rows", file=sys.stderr)
    names += ["pseudo"] if plan.trained("retrain") else []
    compared = [name for name in plan.datasets if least_ratio(name)]
    names += [f"failures_{name}" for name in compared] + (["table1", "claims"] if compared else [])
    names += ["table1"] if not compared and any(entry.models for entry in plan.datasets.values()) else []
    return [file for name in names for file in table(name).values()]


def front_page():
    """The lines of the report's first page, which shows what ran; called when a report is made, never by a job."""
    from partialres.report import front_page

    dataset, seed, head = plan.rec_runs()[0]
    step_1 = results(f"{dataset}/seed{seed}/rec/{head}/provenance.json")
    run = plan.runs()[0]
    trained = results(f"{RUN.format(**run._asdict())}/res/provenance.json")
    ratios = {name: {float(run.ratio) for run in plan.runs(experiment=name)} for name in plan.experiments}
    return front_page.lines(
        experiments={name: sorted(each) for name, each in ratios.items() if each},
        oracle=ORACLE,
        data=results("tables/data.csv"),
        splits={name: entry.splits for name, entry in plan.datasets.items()},
        provenance=step_1 if Path(step_1).is_file() else trained,  # an imported step 1 has none
        benchmarks=[job.benchmark for job in workflow.dag.jobs if job.benchmark and Path(job.benchmark).is_file()],
        table1=results("tables/table1.csv") if any(map(least_ratio, plan.datasets)) else None,
    )
