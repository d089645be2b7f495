# Pseudo points for the unlabelled refs, and which of them step 3 trains on.
rule predict_pseudo_points:
    input:
        rows=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
        model=teacher,
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
    output:
        results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/points.parquet"),
    params:
        batch=setting("predict.batch"),
        guided=flag("predict.guided", "guided"),
        expressions=setting("predict.expressions"),
        features=option("--features", "features", folder=True),
        code=code("predict"),
    threads: threads("predict")
    resources:
        **needs("predict"),
    priority: 3
    message:
        "pseudo points on {wildcards.dataset}: {wildcards.experiment}, {wildcards.ratio} % (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/predict"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/ratio{ratio}/{experiment}/predict")
    conda:
        environment("predict")
    shell:
        "on_gpus {resources.gpu} predict {input.rows} --model {input.model} --vocabulary {input.vocabulary} "
        "--images $(dirname {input.images}) {params.features} --batch {params.batch} {params.guided} "
        "--expressions {params.expressions} --threads {threads} --out {output} 2> {log}"


rule select_pseudo_points:
    input:
        points=owned("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/points.parquet", "points"),
        boxes=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
    output:
        results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/selected.parquet"),
    params:
        threshold=setting("pseudo.threshold"),
        num_points=setting("points"),
        resample=flag("pseudo.resample", "resample"),
        weight=setting("pseudo.weight"),
        contour=setting("contour"),
        code=code("select"),
    resources:
        **needs("prepare"),
    priority: 3
    message:
        "select pseudo points, D < {params.threshold}: {wildcards.dataset}, {wildcards.experiment}, {wildcards.ratio} %"
    log:
        logs("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/select"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/select")
    conda:
        environment("prepare")
    shell:
        "python -m partialres select {input.points} {input.boxes} --threshold {params.threshold} --num-points {params.num_points} "
        "{params.resample} --contour {params.contour} --weight {params.weight} --out {output} 2> {log}"


rule score_pseudo_points:
    input:
        points=owned("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/points.parquet", "points"),
        selected=owned("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/selected.parquet", "selected"),
        truth=results("{dataset}/refs.parquet"),
    output:
        results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/selection.json"),
    params:
        code=code("score-pseudo"),
    resources:
        **needs("prepare"),
    message:
        "score pseudo points: {wildcards.dataset}, {wildcards.experiment}, {wildcards.ratio} %"
    log:
        logs("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/score"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/score")
    conda:
        environment("prepare")
    shell:
        "python -m partialres score-pseudo {input.points} {input.selected} --truth {input.truth} --out {output} 2> {log}"
