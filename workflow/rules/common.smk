# Paths, settings and targets, shared by every rule file.
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.utils import validate

# The package is the checkout's; where these rules were fetched by themselves (module: github(...)), the installed one.
CHECKOUT = Path(str(workflow.current_basedir)).resolve().parents[1]
if (CHECKOUT / "partialres").is_dir() and str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

import partialres
from partialres import experiments as ex
from partialres import sources

PACKAGE = Path(partialres.__file__).parent

# A further --configfile is laid over the default one; there `name: null` takes a data set or an experiment out.
for section in ("datasets", "experiments"):
    config[section] = {name: entry for name, entry in config[section].items() if entry is not None}
config["experiments"] = ex.paper_first(config["experiments"])
validate(config, "../schemas/config.schema.yaml")
ex.check(config)

# The interpreter that runs Snakemake runs the rules too, also where its environment was not activated.
ex.first_on_path(Path(sys.executable).parent)
# Rules import the same package: a conda environment then needs nothing of it installed. With `resources: gpu` of two or
# more, `on_gpus` starts as many processes of a command, which share its work.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(PACKAGE.parent))}; "
    'on_gpus() {{ gpus=$1; shift; if [ "$gpus" -gt 1 ]; then python -m torch.distributed.run --standalone '
    '--nproc-per-node "$gpus" -m partialres "$@"; else python -m partialres "$@"; fi; }}; '
)
RESUME = f"{config['results']}/.resume"  # outside every rule's outputs: Snakemake removes those before a rerun
# With it, `--cache` shares the data and step 1 between projects.
CACHED = "SNAKEMAKE_OUTPUT_CACHE" in os.environ


# What can be downloaded, and the folder for it; paths below that folder in the config are made by download.smk.
DOWNLOADS = ex.expand(config["downloads"]["folder"], "downloads.folder")
DOWNLOAD_TABLE = ex.expand(config["downloads"]["table"] or "", "downloads.table")
DOWNLOAD_TABLE = DOWNLOAD_TABLE or workflow.source_path("../resources/downloads.tsv")
DOWNLOADABLE = "|".join(re.escape(line.split("\t")[0]) for line in Path(DOWNLOAD_TABLE).read_text().splitlines()[1:])


wildcard_constraints:
    dataset="|".join(map(re.escape, config["datasets"])),
    seed=r"\d+",
    ratio=r"[0-9.]+",
    experiment="|".join(map(re.escape, config["experiments"])),
    step="res|retrain",
    split="|".join(sorted({s for d in config["datasets"].values() for s in d["splits"]})),


def results(path):
    return f"{config['results']}/{path}"


def logs(path):
    return f"logs/{path}.log"


def benchmarks(path):
    return f"benchmarks/{path}.tsv"


def downloads(path):
    return f"{DOWNLOADS}/{path}"


def fetched(file, out):
    """An input: the checksum of a downloaded file that `out` is made of; nothing where `out` was put there by hand."""

    def value(wildcards):
        record, made = (downloads(path.format(**wildcards)) for path in (f"downloads/{file}.sha256", out))
        return [] if Path(made).exists() and not Path(record).exists() else [record]

    return value


def unpacked(folder):
    """An input: the list of an archive's files, for the folder they are unpacked to; nothing for any other folder.

    Nothing either where the folder is there without a list, put there by hand.
    """
    folder = Path(folder)
    if folder.parent not in (Path(downloads("annotations")), Path(downloads("images"))):
        return []
    listing = f"{folder}.txt"
    return [] if folder.exists() and not Path(listing).exists() else [listing]


def code(command):
    """A param: digest of the package's code that a command runs, which Snakemake does not see by itself."""
    return sources.digest(PACKAGE, command)


def picked(key, dataset, experiment, ratio):
    """The value of one dotted key for a data set, an experiment and a ratio."""
    return ex.pick(ex.settings(config, dataset, experiment, float(ratio)), key)


def setting(key, experiment=None):
    """A param: `picked` for the rule's data set, experiment and ratio; sections become JSON."""

    def value(wildcards):
        named = experiment or getattr(wildcards, "experiment", None)
        found = picked(key, wildcards.dataset, named, getattr(wildcards, "ratio", 100))
        return json.dumps(found, sort_keys=True) if isinstance(found, dict) else found

    return value


def flag(key, name):
    """A param: --name or --no-name by the truth of a dotted key."""
    value = setting(key)
    return lambda wildcards: f"--{name}" if value(wildcards) else f"--no-{name}"


def model(step):
    """A param: the model section of step 2, the teacher, or of step 3, the student."""

    def value(wildcards):
        chosen = ex.settings(config, wildcards.dataset, wildcards.experiment, float(wildcards.ratio))
        return json.dumps(ex.model_of(chosen, step), sort_keys=True)

    return value


def teacher(wildcards):
    """The model that predicts pseudo points: step 2's, or in a second round step 3's of the experiment before."""
    before = ex.after(config, wildcards.experiment)
    if before is None:
        return owned(f"{RUN_PATH}/res/model.safetensors", "res")(wildcards)
    known = {**dict(wildcards), "experiment": before}
    return owned(f"{RUN_PATH}/retrain/model.safetensors", "retrain")(known)


def dataset(key, default=None):
    """A param: one dotted key of the rule's data set."""
    *sections, last = key.split(".")

    def value(wildcards):
        entry = config["datasets"][wildcards.dataset]
        for section in sections:
            entry = entry[section]
        return entry.get(last, default)

    return value


def threads(stage):
    return config["threads"][stage]


def needs(kind):
    """Resources of a kind of job; every further attempt at it asks for as much memory and time again."""
    each = config["resources"][kind]

    def scaled(name):
        return lambda wildcards, attempt: each[name] * attempt

    return {
        "mem_mb": scaled("mem_mb"),
        "runtime": scaled("runtime"),
        "gpu": each.get("gpu", 0),
        "loaders": each.get("loaders", 0),
    }


def environment(kind):
    """The conda environment of a kind of job: PyTorch with CUDA where it asks for a GPU."""
    return "../../envs/partialres-cuda.yaml" if config["resources"][kind].get("gpu") else "../../envs/partialres.yaml"


def owned(path, step):
    """An input: the path with the experiment whose files of that step this one shares."""

    def filled(wildcards):
        known = dict(wildcards)
        experiment = ex.owner(config, known["dataset"], known["experiment"], float(known["ratio"]), step)
        return results(path.format(**{**known, "experiment": experiment}))

    return filled


def runs(step, experiment=None):
    """dataset, seed, ratio, experiment of every run that reaches a step."""
    for name in config["datasets"]:
        for seed in config["seeds"]:
            for each in config["experiments"] if experiment is None else [experiment]:
                if ex.reaches(config, each, step):
                    for ratio in ex.ratios_of(config, name, each):
                        yield dict(dataset=name, seed=seed, ratio=f"{ratio:g}", experiment=each)


def names_where(holds):
    """A wildcard constraint: the data sets of which something holds; matches nothing where there is none."""
    return "|".join(re.escape(name) for name, entry in config["datasets"].items() if holds(entry)) or "(?!)"


def raw_folder(wildcards):
    """The folder with instances.json and refs(...).p."""
    entry = config["datasets"][wildcards.dataset]
    if "generate" in entry:
        return results(f"{wildcards.dataset}/raw/{ex.GENERATED[entry['generate']['flavour']]}")
    return ex.expand(entry["raw"], f"datasets.{wildcards.dataset}.raw")


def image_folder(wildcards):
    """The folder that the images' file names are in."""
    entry = config["datasets"][wildcards.dataset]
    if "generate" in entry:
        return results(f"{wildcards.dataset}/raw/images/train2014")
    return ex.expand(entry["images"], f"datasets.{wildcards.dataset}.images")


def raw_files(wildcards):
    """What `prepare` reads: the generated folder, or the two files of a real data set."""
    entry = config["datasets"][wildcards.dataset]
    if "generate" in entry:
        return [results(f"{wildcards.dataset}/raw")]
    folder = raw_folder(wildcards)
    archive = unpacked(folder)
    if archive:
        return archive
    expressions = "expressions.json" if entry["split_by"] is None else f"refs({entry['split_by']}).p"
    return [f"{folder}/instances.json", f"{folder}/{expressions}"]


def images_there(wildcards):
    """What says that the images are there, where the workflow unpacks them itself."""
    return [] if "generate" in config["datasets"][wildcards.dataset] else unpacked(image_folder(wildcards))


def raw_option(wildcards):
    """A param: the option that says which of the raw files the refs are in."""
    by = config["datasets"][wildcards.dataset]["split_by"]
    return "--own" if by is None else f"--split-by {shlex.quote(by)}"


def rec_model(wildcards):
    """Step 1's model: the data set's imported one, or what step 1 trains."""
    path = config["datasets"][wildcards.dataset].get("rec")
    if path:
        return ex.expand(path, f"datasets.{wildcards.dataset}.rec")
    return results(f"{wildcards.dataset}/seed{wildcards.seed}/rec/model.safetensors")


def step_1_model(wildcards):
    """Step 1's model that an experiment starts from: the mask head has one of its own."""
    if ex.head(config, wildcards.dataset, wildcards.experiment) == "mask":
        return results(f"{wildcards.dataset}/seed{wildcards.seed}/rec_mask/model.safetensors")
    return rec_model(wildcards)


def mask_setting(key):
    """A param: as `setting`, of the experiment that says how the mask head's step 1 is trained."""
    return lambda wildcards: setting(key, ex.mask_step_1(config, wildcards.dataset))(wildcards)


def given_vocabulary(wildcards):
    """The vocabulary that a model brings to the data set, or nothing: words are then counted."""
    path = config["datasets"][wildcards.dataset].get("vocabulary")
    return [ex.expand(path, f"datasets.{wildcards.dataset}.vocabulary")] if path else []


def word_options(wildcards):
    """A param: the options that say which words there are.

    It does not ask for `input`: Snakemake takes a param that does for a consequence of the files, and a change of the
    settings in it would rerun nothing.
    """
    given = given_vocabulary(wildcards)
    if given:
        return f"--vocabulary {shlex.quote(given[0])}"
    max_words, min_count = (setting(f"text.{name}")(wildcards) for name in ("max_words", "min_count"))
    return f"--max-words {max_words} --min-count {min_count}"


def visual_source(wildcards):
    """The weights whose features are cached: the imported model's, or those that step 1's backbone starts from."""
    imported = "rec" in config["datasets"][wildcards.dataset]
    return rec_model(wildcards) if imported else visual_weights(wildcards)


def features(wildcards):
    """The cached features of a wholly frozen backbone, or nothing."""
    frozen = setting("model.frozen")(wildcards) == "all"
    return [results(f"{wildcards.dataset}/features/features.npy")] if frozen else []


def visual_weights(wildcards):
    """What step 1's visual part starts from: its own pre-training, a file, or nothing (random weights)."""
    source = setting("visual")(wildcards)
    if source == "random":
        return []
    if source == "pretrain":
        return [results(f"{wildcards.dataset}/backbone/visual.safetensors")]
    return [ex.expand(source, "settings.visual")]


def word_vectors(wildcards):
    """The file of word vectors, or nothing (random vectors)."""
    path = setting("text.vectors")(wildcards)
    return [ex.expand(path, "settings.text.vectors")] if path else []


def option(name, key, folder=False):
    """A param: an option with the rule's input of that key, empty where there is no such input."""

    def value(wildcards, input):
        files = input.get(key)
        if not files:
            return ""
        path = files if isinstance(files, str) else files[0]
        return f"{name} {Path(path).parent if folder else path}"

    return value


RUN_PATH = "{dataset}/seed{seed}/ratio{ratio}/{experiment}"


def owns(run, step):
    """Whether a run makes a step's files itself: there is no earlier experiment that is equal so far."""
    return ex.owner(config, run["dataset"], run["experiment"], float(run["ratio"]), step) == run["experiment"]


def evaluations(step, experiment=None):
    """metrics.json of every run that has its own files of a step, on every split of its data set."""
    return [
        results(f"{RUN_PATH.format(**run)}/{step}/{split}/metrics.json")
        for run in runs(step, experiment)
        if owns(run, step) and ex.scored(config, run["dataset"], run["experiment"], float(run["ratio"]), step)
        for split in config["datasets"][run["dataset"]]["splits"]
    ]


def mask_rec(name):
    """The folder of the mask head's step 1, where an experiment on the data set has that head."""
    return ["rec_mask"] * (ex.mask_step_1(config, name) is not None)


def rec_histories():
    """metrics.csv of every step 1 that is trained here."""
    return [
        results(f"{name}/seed{seed}/{step}/metrics.csv")
        for name, entry in config["datasets"].items()
        for seed in config["seeds"]
        for step in ["rec"] * ("rec" not in entry) + mask_rec(name)
    ]


def rec_evaluations():
    """metrics.json of every step 1, on every split of its data set."""
    return [
        results(f"{name}/seed{seed}/{step}/{split}/metrics.json")
        for name, entry in config["datasets"].items()
        for seed in config["seeds"]
        for step in ["rec"] + mask_rec(name)
        for split in entry["splits"]
    ]


def of_runs(step, file):
    """A file of every run that has its own files of a step."""
    return [results(f"{RUN_PATH.format(**run)}/{file}") for run in runs(step) if owns(run, step)]


def tables():
    names = ["table1", "details", "rec", "data"] + ["pseudo"] * any(True for _ in runs("retrain")) + compared_tables()
    return [file for name in names for file in table(name).values()]


def figures():
    names = ["training"] + ["pseudo"] * any(True for _ in runs("retrain"))
    if {"baseline", "ours"} <= set(config["experiments"]):
        names += ["ratio_curve"] + [f"qualitative_{name}" for name in config["datasets"] if gallery_models(name)]
    names += compared_figures()
    return [file for name in names for file in figure(name).values()]


def owned_points():
    """Every run that has pseudo points of its own."""
    return [run for run in runs("retrain") if owns(run, "points")]


def gallery_models(name):
    """ratio, experiment, step of the models that a data set's gallery shows: ours after its last step, at each ratio.

    Of a data set with more ratios than the others only those of all: a column each would be too many.
    """
    last = "retrain" if ex.reaches(config, "ours", "retrain") else "res"
    partial = [(ratio, "ours", last) for ratio in ex.ratios_of(config, name, "ours") if ratio < 100]
    full = "oracle" in config["experiments"] and 100 in ex.ratios_of(config, name, "oracle")
    shared = [model for model in partial if model[0] in config["ratios"]]
    return (shared or partial) + [(100, "oracle", "res")] * full


def gallery_labels(wildcards):
    """A param: their labels, in the order of their predictions."""
    return " ".join(f"--label '{ratio:g} %'" for ratio, _, _ in gallery_models(wildcards.dataset))


def gallery_predictions(wildcards):
    """Their predictions on the first split, by the first seed."""
    split, seed = config["datasets"][wildcards.dataset]["splits"][0], config["seeds"][0]
    return [
        results(f"{wildcards.dataset}/seed{seed}/ratio{ratio:g}/{experiment}/{step}/{split}/predictions.parquet")
        for ratio, experiment, step in gallery_models(wildcards.dataset)
    ]


def table(name):
    return {kind: results(f"tables/{name}.{kind}") for kind in ("csv", "md", "html")}


def figure(name):
    return {kind: results(f"figures/{name}.{kind}") for kind in ("png", "pdf")}


def shown(files, kind, category, title):
    """A rule's outputs, the one of a kind in the report, with the caption that is named after it.

    They have a single label: of a second one with as many tables as figures the report's page makes a toggle, and goes
    blank where only one side of the toggle has an entry.
    """
    path = Path(files[kind])
    name = path.stem.partition("_{")[0]  # without wildcards
    caption, labels = f"../report/{path.parent.name}/{name}.rst", {"what": f"{title} ({path.parent.name[:-1]})"}
    return {**files, kind: report(files[kind], caption=caption, category=category, labels=labels)}


def training_files(folder):
    return {
        "model": f"{folder}/model.safetensors",
        "history": f"{folder}/metrics.csv",
        "provenance": f"{folder}/provenance.json",
    }
