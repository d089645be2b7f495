# What the tables and figures that set experiments side by side are made of: their settings say which experiments those are.
from partialres import comparisons

ROWS = {
    "table2": comparisons.ablation(config),
    "table3": comparisons.resampling(config),
    "table4": comparisons.thresholds(config),
    "extensions": comparisons.extensions(config),
}
PEERS = sorted({row.experiment for row in comparisons.peers(config)})


def compared_tables():
    """The tables whose experiments are there."""
    failing = [f"failures_{name}" for name in config["datasets"] if comparisons.failures(config, name)]
    return [name for name, rows in ROWS.items() if rows] + failing


def compared_figures():
    """The figures whose experiments are there."""
    names = ["peer"] if PEERS else []
    for name in config["datasets"]:
        names += [f"forest_{name}"] if comparisons.gains(config, name) else []
        names += [f"steps_{name}"] if comparisons.steps(config, name) else []
        names += [f"failures_{name}"] if comparisons.failures(config, name) else []
    return names


def predictions(metrics):
    """The predictions.parquet beside each metrics.json."""
    return [f"{Path(path).parent}/predictions.parquet" for path in metrics]


def scored(rows, splits=None):
    """metrics.json of rows of a comparison, by every seed, on every split of the data set or its first ones."""
    return [
        results(f"{row.dataset}/seed{seed}/ratio{row.ratio:g}/{row.experiment}/{row.step}/{split}/metrics.json")
        for row in rows
        for seed in config["seeds"]
        for split in config["datasets"][row.dataset]["splits"][:splits]
    ]


def selections(rows):
    """selection.json of the rows that are of step 3."""
    return [
        results(f"{row.dataset}/seed{seed}/ratio{row.ratio:g}/{row.experiment}/pseudo/selection.json")
        for row in rows
        if row.step == "retrain"
        for seed in config["seeds"]
    ]


def repeated(name, values):
    """An option once for each value."""
    return " ".join(f"{name} {value}" for value in values)


def first_split(step, chosen):
    """metrics.json of every scored run of a step that is chosen, on the first split of its data set."""
    return [
        results(f"{RUN_PATH.format(**run)}/{step}/{config['datasets'][run['dataset']]['splits'][0]}/metrics.json")
        for run in runs(step)
        if chosen(run) and owns(run, step)
        if ex.scored(config, run["dataset"], run["experiment"], float(run["ratio"]), step)
    ]


def gains_of(wildcards):
    """What the forest plot of a data set shows: every step 2 and 3 on its first split."""
    here = lambda run: run["dataset"] == wildcards.dataset
    return first_split("res", here) + first_split("retrain", here)


def beside_peers():
    """What Figure 1 shows: the mask heads, the baseline, ours and the oracle on the first splits."""
    shown = {"baseline", "ours", "oracle", *PEERS}
    return [path for step in ("res", "retrain") for path in first_split(step, lambda run: run["experiment"] in shown)]


def failing(wildcards):
    """metrics.json of the models whose failures are told, on the first split."""
    return scored(comparisons.failures(config, wildcards.dataset), splits=1)


def labelled():
    """split.parquet of every ratio, by the first seed."""
    return [
        results(f"{name}/seed{config['seeds'][0]}/ratio{ratio:g}/split.parquet")
        for name in config["datasets"]
        for ratio in sorted({ratio for each in config["experiments"] for ratio in ex.ratios_of(config, name, each)})
    ]


def step_predictions(wildcards):
    """The predictions of Figure 5 on the first split, by the first seed."""
    split, seed = config["datasets"][wildcards.dataset]["splits"][0], config["seeds"][0]
    return [
        results(f"{row.dataset}/seed{seed}/ratio{row.ratio:g}/{row.experiment}/{row.step}/{split}/predictions.parquet")
        for row in comparisons.steps(config, wildcards.dataset)
    ]


def step_labels(wildcards):
    """A param: their labels, in order."""
    return "--label baseline --label 'ours, step 2' --label 'ours, step 3'"
