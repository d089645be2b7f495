# Backbone, step 1 (boxes), step 2 (labelled masks) and step 3 (labelled and pseudo masks).
rule pretrain_backbone:
    input:
        raw=raw_files,
        refs=results("{dataset}/refs.parquet"),
        images=results("{dataset}/images/index.parquet"),
    output:
        weights=results("{dataset}/backbone/visual.safetensors"),
        history=results("{dataset}/backbone/metrics.csv"),
        provenance=results("{dataset}/backbone/provenance.json"),
    params:
        folder=raw_folder,
        model=setting("model"),
        pretraining=setting("pretraining"),
        code=code("pretrain-backbone"),
    threads: threads("pretraining")
    resources:
        **needs("pretraining"),
    cache: CACHED
    message:
        "pre-train the backbone on {wildcards.dataset}'s training boxes"
    log:
        logs("{dataset}/pretrain-backbone"),
    benchmark:
        benchmarks("{dataset}/pretrain-backbone")
    conda:
        environment("pretraining")
    shell:
        "python -m partialres pretrain-backbone {params.folder:q}/instances.json --refs {input.refs} --images $(dirname {input.images}) "
        "--model {params.model:q} --pretraining {params.pretraining:q} --threads {threads} "
        "--out $(dirname {output.weights}) 2> {log}"


rule cache_features:
    input:
        weights=visual_source,
        images=results("{dataset}/images/index.parquet"),
    output:
        features=results("{dataset}/features/features.npy"),
        info=results("{dataset}/features/features.json"),
    params:
        model=setting("model"),
        code=code("cache-features"),
    threads: threads("features")
    resources:
        **needs("features"),
    cache: CACHED
    message:
        "cache the frozen backbone's features of {wildcards.dataset}"
    log:
        logs("{dataset}/cache-features"),
    benchmark:
        benchmarks("{dataset}/cache-features")
    conda:
        environment("features")
    shell:
        "python -m partialres cache-features {input.weights:q} --images $(dirname {input.images}) --model {params.model:q} "
        "--threads {threads} --out $(dirname {output.features}) 2> {log}"


rule train_rec:
    input:
        refs=results("{dataset}/refs.parquet"),
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
        visual=visual_weights,
        vectors=word_vectors,
    output:
        **training_files(results("{dataset}/seed{seed}/rec")),
    wildcard_constraints:
        dataset=names_where(lambda entry: "rec" not in entry),
    params:
        model=setting("model"),
        training=setting("rec"),
        features=option("--features", "features", folder=True),
        visual=option("--visual", "visual"),
        vectors=option("--vectors", "vectors"),
        resume=RESUME,
        code=code("train-rec"),
        seed="{seed}",  # the output cache tells jobs apart by params, not by wildcards
    threads: threads("rec")
    resources:
        **needs("rec"),
    cache: CACHED
    message:
        "step 1 on {wildcards.dataset}: every box (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/train-rec"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/train-rec")
    conda:
        environment("rec")
    shell:
        "on_gpus {resources.gpu} train-rec {input.refs} --vocabulary {input.vocabulary} --images $(dirname {input.images}) "
        "{params.features} {params.visual} {params.vectors} --model {params.model:q} --training {params.training:q} "
        "--seed {params.seed} --threads {threads} --workers {resources.loaders} --resume {params.resume} --out $(dirname {output.model}) 2> {log}"


# Step 1 of experiments with `head: mask`, whose box head is another.
use rule train_rec as train_rec_mask with:
    input:
        refs=results("{dataset}/refs.parquet"),
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
        visual=visual_source,
        vectors=word_vectors,
    output:
        **training_files(results("{dataset}/seed{seed}/rec_mask")),
    wildcard_constraints:
        dataset=names_where(lambda entry: True),
    params:
        model=mask_setting("model"),
        training=mask_setting("rec"),
        features=option("--features", "features", folder=True),
        visual=option("--visual", "visual"),
        vectors=option("--vectors", "vectors"),
        resume=RESUME,
        code=code("train-rec"),
        seed="{seed}",
    message:
        "step 1 of the mask head on {wildcards.dataset}: every box (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/train-rec-mask"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/train-rec-mask")


rule train_res:
    input:
        rows=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
        init=step_1_model,
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
    output:
        **training_files(results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/res")),
    params:
        points=setting("points"),
        contour=setting("contour"),
        model=model("res"),
        positions=setting("positions"),
        training=setting("res"),
        features=option("--features", "features", folder=True),
        selected="",  # step 3's
        resume=RESUME,
        code=code("train-res"),
    threads: threads("res")
    resources:
        **needs("res"),
    priority: 1
    message:
        "step 2 on {wildcards.dataset}: {wildcards.experiment}, {wildcards.ratio} % of the masks (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/ratio{ratio}/{experiment}/train-res"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/ratio{ratio}/{experiment}/train-res")
    conda:
        environment("res")
    shell:
        "on_gpus {resources.gpu} train-res {input.rows} --init {input.init:q} {params.selected} --points {params.points} "
        "--contour {params.contour} --model {params.model:q} --positions {params.positions} "
        "--vocabulary {input.vocabulary} --images $(dirname {input.images}) {params.features} "
        "--training {params.training:q} --seed {wildcards.seed} --threads {threads} --workers {resources.loaders} --resume {params.resume} "
        "--out $(dirname {output.model}) 2> {log}"


# The longest trainings start first, so that nothing waits for one of them alone at the end.
use rule train_res as train_res_full with:
    wildcard_constraints:
        ratio="100",
    priority: 5


ruleorder: train_res_full > train_res


# The same command as step 2, with the selected pseudo points, from step 1's weights again.
use rule train_res as retrain_res with:
    input:
        rows=results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
        init=rec_model,
        vocabulary=results("{dataset}/vocabulary.json"),
        images=results("{dataset}/images/index.parquet"),
        features=features,
        selected=owned("{dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/selected.parquet", "selected"),
    output:
        **training_files(results("{dataset}/seed{seed}/ratio{ratio}/{experiment}/retrain")),
    params:
        points=setting("points"),
        contour=setting("contour"),
        model=model("retrain"),
        positions=setting("positions"),
        training=setting("retrain"),
        features=option("--features", "features", folder=True),
        selected=option("--selected", "selected"),
        resume=RESUME,
        code=code("train-res"),
    priority: 3
    message:
        "step 3 on {wildcards.dataset}: {wildcards.experiment}, {wildcards.ratio} % of the masks and pseudo points (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/ratio{ratio}/{experiment}/retrain-res"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/ratio{ratio}/{experiment}/retrain-res")
