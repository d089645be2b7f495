# Figures. They read only files that the rules for data, training, selection and evaluation wrote.
use rule table1 as figure_ratio_curve with:
    input: files=TABLE_1
    output: **report_output(figure("ratio_curve"), "made", "Results", "mIoU by mask ratio")
    params: command="figures ratio-curve", options=BESIDE, code=code("figures ratio-curve")
    log: logs("figure_ratio_curve")
    benchmark: benchmarks("figure_ratio_curve")


use rule table1 as figure_heads with:
    input: files=unique(both_steps([*REPORT.table1, *REPORT.figure1], first=True) + oracle(first=True))
    output: **report_output(figure("heads"), "made", "Results", "Figure 1: a mask head with few masks")
    params:
        command="figures heads",
        options=f"{repeated('--head', REPORT.figure1)} {BESIDE}",
        code=code("figures heads"),
    log: logs("figure_heads")
    benchmark: benchmarks("figure_heads")


TRAININGS = [
    results(f"{name}/seed{seed}/rec/{head}/metrics.csv") for name, seed, head in trained_recs()
] + [
    results(f"{RUN.format(**run._asdict())}/{step}/metrics.csv")
    for step in ("res", "retrain")
    for run in plan.trained(step)
]


use rule table1 as figure_training with:
    input: files=TRAININGS
    output: **report_output(figure("training"), "made", "Training", "loss of every training")
    params: command="figures training", options="", code=code("figures training")
    log: logs("figure_training")
    benchmark: benchmarks("figure_training")


PREDICTED = [run for run in plan.trained("retrain") if plan.owner(run.experiment, "points") == run.experiment]
THRESHOLDS = [plan.settings(run.dataset, run.experiment, float(run.ratio)).pseudo.threshold for run in PREDICTED]


use rule table1 as figure_pseudo with:
    input: files=[results(f"{RUN.format(**run._asdict())}/pseudo/points.parquet") for run in PREDICTED]
    output: **report_output(figure("pseudo"), "made", "Pseudo masks", "distribution of D")
    params: command="figures pseudo", options=repeated("--threshold", THRESHOLDS), code=code("figures pseudo")
    log: logs("figure_pseudo")
    benchmark: benchmarks("figure_pseudo")


def first_predictions(dataset, models):
    """predictions.parquet of (experiment, step, ratio) by the first seed, on a data set's first split."""
    split = plan.datasets[dataset].splits[0]
    return [
        results(f"{dataset}/seed0/ratio{ratio:g}/{experiment}/{step}/{split}/predictions.parquet")
        for experiment, step, ratio in models
    ]


def by_ratio(dataset):
    """The models in the examples: `ours` after its last step, at ratios that all data sets share, and the oracle."""
    ours = REPORT.table1[-1]
    ratios = [ratio for ratio in plan.ratios(dataset, ours) if ratio < 100]
    shared = [ratio for ratio in ratios if ratio in plan.config.ratios] or ratios
    models = [(ours, plan.last_step(ours, ratio), ratio) for ratio in shared]
    return models + [(ORACLE, "res", 100)] * (bool(ORACLE) and 100 in plan.ratios(dataset, ORACLE))


def by_step(dataset):
    """The models in Figure 5, at the lowest ratio: the baseline, `ours` after step 2 and after step 3 if it has one."""
    (baseline, *_, ours), ratio = REPORT.table1, least_ratio(dataset)
    rows = [(baseline, "res"), (ours, "res"), (ours, "retrain")]
    return [(*row, ratio) for row in rows if ratio in plan.shared([row], dataset)]


EXAMPLES = {"qualitative": by_ratio, "steps": by_step}
EXAMPLE_TITLES = {"qualitative": "by share of masks", "steps": "Figure 5: step by step"}


def examples(wildcards):
    """The (experiment, step, ratio) of each column in a figure of examples."""
    return EXAMPLES[wildcards.examples](wildcards.dataset)


def example_options(wildcards):
    """A param: the options for the image folder and for the columns' titles."""
    labels = [
        "oracle, 100 %" if (name, ratio) == (ORACLE, 100) else f"{name}, step {2 if step == 'res' else 3}, {ratio:g} %"
        for name, step, ratio in examples(wildcards)
    ]
    return f"--image-folder {shlex.quote(image_folder(wildcards))} {repeated('--label', labels)}"


use rule table1 as figure_examples with:
    input:
        files=lambda wildcards: [
            results(f"{wildcards.dataset}/refs.parquet"),
            *first_predictions(wildcards.dataset, examples(wildcards)),
        ],
    output:
        **report_output(
            figure("{examples}_{dataset}"), "made", "Examples",
            lambda wildcards: f"{EXAMPLE_TITLES[wildcards.examples]}, {wildcards.dataset}",
        )
    params: command="figures qualitative", options=example_options, code=code("figures qualitative")
    wildcard_constraints: examples="|".join(EXAMPLES)
    log: logs("figure_examples/{examples}_{dataset}")
    benchmark: benchmarks("figure_examples/{examples}_{dataset}")


def figures():
    """The figures that the config asks for."""
    names = (["training"] if TRAININGS else []) + (["pseudo"] if PREDICTED else [])
    compared = [name for name in plan.datasets if least_ratio(name)]
    names += ["ratio_curve"] if compared else []
    heads = compared and REPORT.figure1 and all(both_steps([name], first=True) for name in REPORT.figure1)
    names += ["heads"] if heads else []
    for name in compared:
        names += [f"qualitative_{name}", f"failures_{name}"]
        names += [f"steps_{name}"] if len(by_step(name)) == 3 else []
    return [file for name in names for file in figure(name).values()]
