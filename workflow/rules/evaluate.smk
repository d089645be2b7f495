# Score every expression of a split: boxes for step 1, masks for steps 2 and 3.
rule evaluate_rec:
    input:
        refs=results("{dataset}/refs.parquet"),
        model=rec_model,
        **SEEN,
    output:
        predictions=results("{dataset}/seed{seed}/rec/{head}/{split}/predictions.parquet"),
        metrics=results("{dataset}/seed{seed}/rec/{head}/{split}/metrics.json"),
    params:
        batch=setting("evaluate.batch"),
        seen=seen,
        out=results("{dataset}/seed{seed}/rec/{head}/{split}"),
        code=code("evaluate"),
    threads: threads("evaluate")
    resources: **resources_of("evaluate")
    group: "evaluations"
    message: "evaluate step 1 on {wildcards.dataset} {wildcards.split} ({wildcards.head} head, seed {wildcards.seed})"
    log: logs("evaluate_rec/{dataset}/seed{seed}/{head}/{split}")
    benchmark: benchmarks("evaluate_rec/{dataset}/seed{seed}/{head}/{split}")
    conda: environment("evaluate")
    shell:
        "on_gpus {resources.gpu} evaluate {input.refs:q} --model {input.model:q} --split {wildcards.split} "
        "{params.seen} --batch {params.batch} --threads {threads} --out {params.out:q} 2> {log:q}"


def res_model(wildcards):
    """The model of step 2 or 3: the imported one that the data set's config names, or the trained one."""
    path = entry(wildcards).models.get(wildcards.experiment)
    if path:
        return expand_path(path, f"datasets.{wildcards.dataset}.models.{wildcards.experiment}")
    return results(f"{wildcards.dataset}/seed{wildcards.seed}/ratio{wildcards.ratio}/{wildcards.experiment}/"
                   f"{wildcards.step}/model.safetensors")


use rule evaluate_rec as evaluate_res with:
    input:
        refs=results("{dataset}/refs.parquet"),
        model=res_model,
        **SEEN,
    output:
        predictions=results(f"{SCORED}/predictions.parquet"),
        metrics=results(f"{SCORED}/metrics.json"),
    params:
        batch=setting("evaluate.batch"),
        seen=seen,
        out=results(SCORED),
        code=code("evaluate"),
    message:
        "evaluate {wildcards.step} of {wildcards.experiment}, {wildcards.ratio} %, "
        "on {wildcards.dataset} {wildcards.split} (seed {wildcards.seed})"
    log: logs(f"evaluate_res/{SCORED}")
    benchmark: benchmarks(f"evaluate_res/{SCORED}")
