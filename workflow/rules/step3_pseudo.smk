# Step 3: predict pseudo points for the unlabelled refs, select some, and train on these too.
def owned(part, path):
    """An input: a file of step 2 or of its pseudo points; with `from`, that of the experiment named there."""

    def value(wildcards):
        owner = plan.owner(wildcards.experiment, part)
        return results(f"{RUN.format(**{**wildcards, 'experiment': owner})}/{path}")

    return value


# Several jobs may share a prediction, each with its part of the batches; they make the same file as one job.
PARTS = plan.config.resources["predict"].parts
PART = f"-{{part}}-of-{PARTS}" if PARTS > 1 else ""
PREDICTED_PART = results(f"{RUN}/pseudo/points{PART}.parquet")


rule predict_pseudo_points:
    input:
        rows=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
        model=owned("res", "res/model.safetensors"),
        **SEEN,
    output: temp(PREDICTED_PART) if PARTS > 1 else PREDICTED_PART
    params:
        part=lambda wildcards: f"--part {wildcards.part} {PARTS}" if PARTS > 1 else "",
        batch=setting("predict.batch"),
        seen=seen,
        code=code("predict"),
    wildcard_constraints: part=r"\d+"
    threads: threads("predict")
    resources: **resources_of("predict")
    priority: 3
    message:
        "pseudo points on {wildcards.dataset}: {wildcards.experiment}, {wildcards.ratio} % (seed {wildcards.seed})"
        + (f", part {{wildcards.part}} of {PARTS}" if PARTS > 1 else "")
    log: logs(f"predict_pseudo_points/{RUN}{PART}")
    benchmark: benchmarks(f"predict_pseudo_points/{RUN}{PART}")
    conda: environment("predict")
    shell:
        "on_gpus {resources.gpu} predict {input.rows:q} --model {input.model:q} {params.seen} {params.part} "
        "--batch {params.batch} --threads {threads} --out {output:q} 2> {log:q}"


if PARTS > 1:
    rule gather_pseudo_points:
        input: expand(PREDICTED_PART, part=range(1, PARTS + 1), allow_missing=True)
        output: results(f"{RUN}/pseudo/points.parquet")
        params: code=code("gather")
        resources: **resources_of("prepare")
        priority: 3
        group: "pseudo"
        message: "gather pseudo points: {wildcards.dataset}, {wildcards.experiment}, {wildcards.ratio} %"
        log: logs(f"gather_pseudo_points/{RUN}")
        benchmark: benchmarks(f"gather_pseudo_points/{RUN}")
        conda: environment("prepare")
        shell: "python -m partialres gather {input:q} --out {output:q} 2> {log:q}"


rule select_pseudo_points:
    input:
        points=owned("points", "pseudo/points.parquet"),
        sizes=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
    output: results(f"{RUN}/pseudo/selected.parquet")
    params:
        threshold=setting("pseudo.threshold"),
        num_points=setting("points"),
        resample=lambda wildcards: "--resample" if settings(wildcards).pseudo.resample else "--no-resample",
        contour=setting("contour"),
        code=code("select"),
    resources: **resources_of("prepare")
    priority: 3
    group: "pseudo"
    message:
        "select pseudo points, D < {params.threshold}: {wildcards.dataset}, {wildcards.experiment}, "
        "{wildcards.ratio} %"
    log: logs(f"select_pseudo_points/{RUN}")
    benchmark: benchmarks(f"select_pseudo_points/{RUN}")
    conda: environment("prepare")
    shell:
        "python -m partialres select {input.points:q} {input.sizes:q} --threshold {params.threshold} "
        "--num-points {params.num_points} {params.resample} --contour {params.contour} --out {output:q} 2> {log:q}"


rule score_pseudo_points:
    input:
        points=owned("points", "pseudo/points.parquet"),
        selected=results(f"{RUN}/pseudo/selected.parquet"),
        truth=results("{dataset}/refs.parquet"),
    output: results(f"{RUN}/pseudo/selection.json")
    params: code=code("score-pseudo")
    resources: **resources_of("prepare")
    group: "pseudo"
    message: "score pseudo points: {wildcards.dataset}, {wildcards.experiment}, {wildcards.ratio} %"
    log: logs(f"score_pseudo_points/{RUN}")
    benchmark: benchmarks(f"score_pseudo_points/{RUN}")
    conda: environment("prepare")
    shell:
        "python -m partialres score-pseudo {input.points:q} {input.selected:q} --truth {input.truth:q} "
        "--out {output:q} 2> {log:q}"


def selected(wildcards):
    """The pseudo points that step 3 trains on."""
    return [results(f"{RUN}/pseudo/selected.parquet".format(**wildcards))]


# The same command as step 2, again starting from step 1's weights, with the selected pseudo points added.
use rule train_res as retrain_res with:
    input:
        rows=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
        init=rec_model,
        **SEEN,
        selected=selected,
        val=sampled("retrain"),
    output: **training_files(results(f"{RUN}/retrain"))
    params: **training_of("retrain"), selected=option("--selected", selected)
    priority: 3
    message:
        "step 3 on {wildcards.dataset}: {wildcards.experiment}, {wildcards.ratio} % of the masks and pseudo points "
        "(seed {wildcards.seed})"
    log: logs(f"retrain_res/{RUN}")
    benchmark: benchmarks(f"retrain_res/{RUN}")
