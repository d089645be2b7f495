# Every expression of a split, scored: boxes for step 1, masks for steps 2 and 3.
rule evaluate_rec:
    input:
        refs=results("{dataset}/refs.parquet"),
        model=rec_model,
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
    output:
        predictions=results("{dataset}/seed{seed}/rec/{split}/predictions.parquet"),
        metrics=results("{dataset}/seed{seed}/rec/{split}/metrics.json"),
    params:
        batch=setting("evaluate.batch"),
        features=option("--features", "features", folder=True),
        code=code("evaluate"),
    threads: threads("evaluate")
    resources:
        **needs("evaluate"),
    message:
        "evaluate step 1 on {wildcards.dataset} {wildcards.split} (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/rec/{split}"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/rec/evaluate-{split}")
    conda:
        environment("evaluate")
    shell:
        "on_gpus {resources.gpu} evaluate {input.refs} --model {input.model:q} --split {wildcards.split} --vocabulary {input.vocabulary} "
        "--images $(dirname {input.images}) {params.features} --batch {params.batch} --threads {threads} "
        "--out $(dirname {output.metrics}) 2> {log}"


use rule evaluate_rec as evaluate_rec_mask with:
    input:
        refs=results("{dataset}/refs.parquet"),
        model=results("{dataset}/seed{seed}/rec_mask/model.safetensors"),
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
    output:
        predictions=results("{dataset}/seed{seed}/rec_mask/{split}/predictions.parquet"),
        metrics=results("{dataset}/seed{seed}/rec_mask/{split}/metrics.json"),
    message:
        "evaluate step 1 of the mask head on {wildcards.dataset} {wildcards.split} (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/rec_mask/{split}"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/rec_mask/evaluate-{split}")


use rule evaluate_rec as evaluate_res with:
    input:
        refs=results("{dataset}/refs.parquet"),
        model=results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}/model.safetensors"),
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
    output:
        predictions=results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}/{split}/predictions.parquet"),
        metrics=results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}/{split}/metrics.json"),
    message:
        "evaluate {wildcards.step} of {wildcards.experiment}, {wildcards.ratio} %, on {wildcards.dataset} {wildcards.split} (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}-{split}"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}-evaluate-{split}")
