# Pre-train the backbone, and train step 1 on every box.
for name in plan.datasets:
    if plan.settings(name).model.backbone.startswith("timm/"):
        from partialres.model.timm_backbone import check  # takes seconds, so only if needed

        check(plan.settings(name).model.backbone, plan.settings(name).image_size)


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
        images=lambda wildcards: results(f"{wildcards.dataset}/images"),
        model=lambda wildcards: plan.step_1(wildcards.dataset).model_dump_json(),
        pretraining=setting("pretraining"),
        resume=RESUME,
        out=results("{dataset}/backbone"),
        code=code("pretrain-backbone"),
    threads: threads("pretraining")
    resources: **resources_of("pretraining")
    message: "pre-train the backbone on {wildcards.dataset}'s training boxes"
    log: logs("pretrain_backbone/{dataset}")
    benchmark: benchmarks("pretrain_backbone/{dataset}")
    conda: environment("pretraining")
    shell:
        "python -m partialres pretrain-backbone {params.folder:q}/instances.json --refs {input.refs:q} "
        "--images {params.images:q} --model {params.model:q} --pretraining {params.pretraining:q} --threads {threads} "
        "--resume {params.resume:q} --out {params.out:q} 2> {log:q}"


def imported_rec(wildcards):
    """The imported model of step 1 that the data set's config names, or nothing."""
    path = entry(wildcards).rec
    return [expand_path(path, f"datasets.{wildcards.dataset}.rec")] if path else []


def init_backbone(wildcards):
    """The weights that step 1's backbone starts from: an imported model, pre-training, a file, or nothing (random)."""
    source = settings(wildcards).init_backbone
    backbone = settings(wildcards).model.backbone
    made = {
        "random": [],
        "pretrain": [results(f"{wildcards.dataset}/backbone/visual.safetensors")],
        "pretrained": [downloads(f"weights/{backbone}.safetensors")],
    }
    if imported_rec(wildcards):
        return imported_rec(wildcards)
    return made[source] if source in made else [expand_path(source, "settings.init_backbone")]


rule cache_features:
    input:
        weights=init_backbone,
        images=results("{dataset}/images/index.parquet"),
    output:
        features=results("{dataset}/features/features.npy"),
        info=results("{dataset}/features/features.json"),
    params:
        model=lambda wildcards: plan.step_1(wildcards.dataset).model_dump_json(),
        images=lambda wildcards: results(f"{wildcards.dataset}/images"),
        out=results("{dataset}/features"),
        code=code("cache-features"),
    threads: threads("features")
    resources: **resources_of("features")
    message: "cache the frozen backbone's features of {wildcards.dataset}"
    log: logs("cache_features/{dataset}")
    benchmark: benchmarks("cache_features/{dataset}")
    conda: environment("features")
    shell:
        "python -m partialres cache-features {input.weights:q} --images {params.images:q} --model {params.model:q} "
        "--threads {threads} --out {params.out:q} 2> {log:q}"


def features(wildcards):
    """The cached features of a wholly frozen backbone, or nothing."""
    cached = plan.settings(wildcards.dataset).model.cached
    return [results(f"{wildcards.dataset}/features/features.npy")] if cached else []


# Inputs of every rule that runs a model: its vocabulary and the images or their features.
SEEN = {
    "vocabulary": results("{dataset}/vocabulary.json"),
    "images": results("{dataset}/images/index.parquet"),
    "features": features,
}


def seen(wildcards):
    """A param: the options that name the vocabulary, the images and any cached features."""
    folder = results(wildcards.dataset)
    cached = f" --features {shlex.quote(f'{folder}/features')}" if features(wildcards) else ""
    return f"--vocabulary {shlex.quote(f'{folder}/vocabulary.json')} --images {shlex.quote(f'{folder}/images')}{cached}"


def word_vectors(wildcards):
    """The file of word vectors, or nothing (the vectors then start at random)."""
    path = settings(wildcards).text.vectors
    return [expand_path(path, "settings.text.vectors")] if path else []


rule train_rec:
    input:
        refs=results("{dataset}/refs.parquet"),
        **SEEN,
        init_backbone=init_backbone,
        vectors=word_vectors,
    output: **training_files(results("{dataset}/seed{seed}/rec/{head}"))
    params:
        model=lambda wildcards: plan.step_1(wildcards.dataset, wildcards.head).model_dump_json(),
        training=setting("rec"),
        seen=seen,
        init_backbone=option("--init-backbone", init_backbone),
        vectors=option("--vectors", word_vectors),
        resume=RESUME,
        out=results("{dataset}/seed{seed}/rec/{head}"),
        code=code("train-rec"),
    threads: threads("rec")
    resources: **resources_of("rec")
    message: "step 1 on {wildcards.dataset}: every box ({wildcards.head} head, seed {wildcards.seed})"
    log: logs("train_rec/{dataset}/seed{seed}/{head}")
    benchmark: benchmarks("train_rec/{dataset}/seed{seed}/{head}")
    conda: environment("rec")
    shell:
        "on_gpus {resources.gpu} train-rec {input.refs:q} {params.seen} {params.init_backbone} {params.vectors} "
        "--model {params.model:q} --training {params.training:q} --seed {wildcards.seed} --threads {threads} "
        "--workers {resources.loaders} --resume {params.resume:q} --out {params.out:q} 2> {log:q}"


def trained_recs():
    """The steps 1 that are trained: data set, seed and head. An imported step 1 replaces that of the point head."""
    return [rec for rec in plan.rec_runs() if not plan.datasets[rec[0]].rec or rec[2] == "mask"]


def rec_model(wildcards):
    """Step 1's model that a run starts from: the data set's imported one, or the one with the experiment's head."""
    head, seed = wildcards.get("head"), wildcards.seed
    if head is None:
        head, seed = plan.head(wildcards.dataset, wildcards.experiment), plan.rec_seed(Run(**wildcards))
    imported = imported_rec(wildcards) if head == "points" else []
    return imported or [results(f"{wildcards.dataset}/seed{seed}/rec/{head}/model.safetensors")]
