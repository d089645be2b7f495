# Step 2: train on the labelled masks, starting from step 1's weights.
def training_of(step):
    """The params of step 2 (res) or step 3 (retrain)."""
    return dict(
        points=setting("points"),
        contour=setting("contour"),
        model=lambda wildcards: settings(wildcards).model_of(step).model_dump_json(),
        position_table=setting("position_table"),
        training=setting(step),
        seen=seen,
        resume=RESUME,
        val=option("--val", sampled(step)),
        out=results(f"{RUN}/{step}"),
        code=code("train-res"),
    )


def sampled(step):
    """An input: the refs, if the training scores a sample of split val while it runs."""
    return lambda wildcards: (
        [results(f"{wildcards.dataset}/refs.parquet")] if getattr(settings(wildcards), step).score_epochs else []
    )


rule train_res:
    input:
        rows=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
        init=rec_model,
        val=sampled("res"),
        **SEEN,
    output: **training_files(results(f"{RUN}/res"))
    params: **training_of("res"), selected=""
    threads: threads("res")
    resources: **resources_of("res")
    priority: 1
    message:
        "step 2 on {wildcards.dataset}: {wildcards.experiment}, {wildcards.ratio} % of the masks "
        "(seed {wildcards.seed})"
    log: logs(f"train_res/{RUN}")
    benchmark: benchmarks(f"train_res/{RUN}")
    conda: environment("res")
    shell:
        "on_gpus {resources.gpu} train-res {input.rows:q} --init {input.init:q} {params.selected} {params.val} {params.seen} "
        "--points {params.points} --contour {params.contour} --model {params.model:q} "
        "--position-table {params.position_table} --training {params.training:q} --seed {wildcards.seed} "
        "--threads {threads} --workers {resources.loaders} --resume {params.resume:q} --out {params.out:q} 2> {log:q}"


# Start the longest trainings first, so that the run does not end waiting for one of them.
use rule train_res as train_res_full with:
    wildcard_constraints: ratio="100"
    priority: 5
    log: logs(f"train_res_full/{RUN}")
    benchmark: benchmarks(f"train_res_full/{RUN}")


ruleorder: train_res_full > train_res
