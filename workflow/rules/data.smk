# Raw files -> refs and vocabulary, image cache, splits.
rule refshapes:
    output:
        directory(results("{dataset}/raw")),
    params:
        flavour=dataset("generate.flavour"),
        images=dataset("generate.images"),
        seed=dataset("generate.seed"),
        side=dataset("generate.side"),
        code=code("refshapes"),
    wildcard_constraints:
        dataset=names_where(lambda entry: "generate" in entry),
    threads: threads("images")
    resources:
        **needs("images"),
    message:
        "generate {wildcards.dataset}"
    log:
        logs("{dataset}/refshapes"),
    benchmark:
        benchmarks("{dataset}/refshapes")
    conda:
        environment("images")
    shell:
        "python -m partialres refshapes --flavour {params.flavour} --image-count {params.images} --seed {params.seed} "
        "--side {params.side} --threads {threads} --out {output} 2> {log}"


rule prepare:
    input:
        raw=raw_files,
        images=images_there,
        given=given_vocabulary,
    output:
        refs=results("{dataset}/refs.parquet"),
        vocabulary=results("{dataset}/vocabulary.json"),
    params:
        folder=raw_folder,
        images=image_folder,
        refs=raw_option,
        problems=dataset("on_problem", "refuse"),
        words=word_options,
        code=code("prepare"),
    resources:
        **needs("prepare"),
    message:
        "prepare {wildcards.dataset}: refs and vocabulary"
    log:
        logs("{dataset}/prepare"),
    benchmark:
        benchmarks("{dataset}/prepare")
    conda:
        environment("prepare")
    shell:
        "python -m partialres prepare {params.folder:q} --image-folder {params.images:q} {params.refs} "
        "--on-problem {params.problems} {params.words} --out $(dirname {output.refs}) 2> {log}"


rule cache_images:
    input:
        refs=results("{dataset}/refs.parquet"),
    output:
        pixels=results("{dataset}/images/images.npy"),
        index=results("{dataset}/images/index.parquet"),
    params:
        folder=image_folder,
        size=setting("image_size"),
        code=code("cache-images"),
    threads: threads("images")
    resources:
        **needs("images"),
    cache: CACHED
    message:
        "cache the images of {wildcards.dataset}"
    log:
        logs("{dataset}/cache-images"),
    benchmark:
        benchmarks("{dataset}/cache-images")
    conda:
        environment("images")
    shell:
        "python -m partialres cache-images {input.refs} --image-folder {params.folder:q} --size {params.size} --threads {threads} "
        "--out $(dirname {output.index}) 2> {log}"


rule split:
    input:
        refs=results("{dataset}/refs.parquet"),
    output:
        results("{dataset}/seed{seed}/ratio{ratio}/split.parquet"),
    params:
        code=code("split"),
    resources:
        **needs("prepare"),
    message:
        "split {wildcards.dataset}: {wildcards.ratio} % keep their masks (seed {wildcards.seed})"
    log:
        logs("{dataset}/seed{seed}/ratio{ratio}/split"),
    benchmark:
        benchmarks("{dataset}/seed{seed}/ratio{ratio}/split")
    conda:
        environment("prepare")
    shell:
        "python -m partialres split {input.refs} --ratio {wildcards.ratio} --seed {wildcards.seed} --out {output} 2> {log}"
