# Raw files -> refs and vocabulary, image cache, splits.
rule refshapes:
    output: directory(results("{dataset}/raw"))
    params:
        generate=lambda wildcards: entry(wildcards).generate,
        code=code("refshapes"),
    wildcard_constraints:
        dataset="|".join(re.escape(name) for name, each in plan.datasets.items() if each.generate) or "(?!)",
    threads: threads("images")
    resources: **resources_of("images")
    message: "generate {wildcards.dataset}"
    log: logs("refshapes/{dataset}")
    benchmark: benchmarks("refshapes/{dataset}")
    conda: environment("images")
    shell:
        "python -m partialres refshapes --flavour {params.generate.flavour} --image-count {params.generate.images} "
        "--seed {params.generate.seed} --side {params.generate.side} --threads {threads} --out {output:q} 2> {log:q}"


def raw_folder(wildcards):
    """The folder with instances.json and refs(...).p."""
    generate = entry(wildcards).generate
    if generate:
        return results(f"{wildcards.dataset}/raw/{generate.flavour.replace('refcoco', 'refshapes')}")
    return expand_path(entry(wildcards).raw, f"datasets.{wildcards.dataset}.raw")


def image_folder(wildcards):
    """The folder that the images' file names are relative to."""
    if entry(wildcards).generate:
        return results(f"{wildcards.dataset}/raw/images/train2014")
    return expand_path(entry(wildcards).images, f"datasets.{wildcards.dataset}.images")


def raw_files(wildcards):
    """What `prepare` reads: the generated folder, or the two files of a real data set."""
    if entry(wildcards).generate:
        return [results(f"{wildcards.dataset}/raw")]
    folder, by = raw_folder(wildcards), entry(wildcards).split_by
    names = ["instances.json", "expressions.json" if by is None else f"refs({by}).p"]
    return unpacked(folder) or [f"{folder}/{name}" for name in names]


def downloaded_images(wildcards):
    """The list that `unpack` or `download_images` leaves once the images are there, if the workflow downloads them."""
    if entry(wildcards).generate:
        return []
    folder = Path(image_folder(wildcards))
    if plan.config.downloads.images == "all" or folder.parent != Path(downloads("images")):
        return unpacked(folder)
    return [f"{folder}-{wildcards.dataset}.txt"]


rule download_images:
    input: raw=raw_files
    output: downloads("images/{folder}-{dataset}.txt")
    params:
        raw=raw_folder,
        split=lambda wildcards: f"--split-by {shlex.quote(by)}" if (by := entry(wildcards).split_by) else "",
        table=DOWNLOAD_TABLE,
        images=downloads("images/{folder}"),
    wildcard_constraints: folder="[^/]+"
    localrule: True
    message: "download the images of {wildcards.dataset}"
    log: logs("download_images/{folder}-{dataset}")
    conda: environment("prepare")
    shell:
        "python -m partialres download-images {params.raw:q} {params.split} --table {params.table:q} "
        "--row {wildcards.folder:q} --image-folder {params.images:q} --list {output:q} 2> {log:q}"


def given_vocabulary(wildcards):
    """The vocabulary of an imported model, if the config names one; otherwise nothing, and words are counted."""
    path = entry(wildcards).vocabulary
    return [expand_path(path, f"datasets.{wildcards.dataset}.vocabulary")] if path else []


def raw_options(wildcards):
    """A param: the options for the raw file that holds the refs, and for the vocabulary.

    It must not take `input`: Snakemake would then put a changed value down to the input files, and a changed setting
    would rerun nothing.
    """
    by, max_words = entry(wildcards).split_by, settings(wildcards).text.max_words
    refs = "" if by is None else f"--split-by {shlex.quote(by)}"
    return f"{refs} {option('--vocabulary', given_vocabulary)(wildcards) or f'--max-words {max_words}'}"


rule prepare:
    input:
        raw=raw_files,
        images=downloaded_images,
        given=given_vocabulary,
    output:
        refs=results("{dataset}/refs.parquet"),
        vocabulary=results("{dataset}/vocabulary.json"),
    params:
        folder=raw_folder,
        images=image_folder,
        options=raw_options,
        problems=lambda wildcards: entry(wildcards).on_problem,
        out=results("{dataset}"),
        code=code("prepare"),
    resources:
        **resources_of("prepare"),
        # Only checked, so not a param: another split to evaluate would make the refs, and all that follows, again.
        evaluated=lambda wildcards: repeated("--evaluated", entry(wildcards).splits),
    message: "prepare {wildcards.dataset}: refs and vocabulary"
    log: logs("prepare/{dataset}")
    benchmark: benchmarks("prepare/{dataset}")
    conda: environment("prepare")
    shell:
        "python -m partialres prepare {params.folder:q} --image-folder {params.images:q} {params.options} "
        "--on-problem {params.problems} {resources.evaluated} --out {params.out:q} 2> {log:q}"


rule cache_images:
    input: refs=results("{dataset}/refs.parquet")
    output:
        pixels=results("{dataset}/images/images.npy"),
        index=results("{dataset}/images/index.parquet"),
    params:
        folder=image_folder,
        size=setting("image_size"),
        problems=lambda wildcards: entry(wildcards).on_problem,
        out=results("{dataset}/images"),
        code=code("cache-images"),
    threads: threads("images")
    resources: **resources_of("images")
    message: "cache the images of {wildcards.dataset}"
    log: logs("cache_images/{dataset}")
    benchmark: benchmarks("cache_images/{dataset}")
    conda: environment("images")
    shell:
        "python -m partialres cache-images {input.refs:q} --image-folder {params.folder:q} --size {params.size} "
        "--threads {threads} --on-problem {params.problems} --out {params.out:q} 2> {log:q}"


rule split:
    input: refs=results("{dataset}/refs.parquet")
    output: results("{dataset}/seed{seed}/ratio{ratio}/split.parquet")
    params: code=code("split")
    resources: **resources_of("prepare")
    group: "splits"
    message: "split {wildcards.dataset}: {wildcards.ratio} % keep their masks (seed {wildcards.seed})"
    log: logs("split/{dataset}/seed{seed}/ratio{ratio}")
    benchmark: benchmarks("split/{dataset}/seed{seed}/ratio{ratio}")
    conda: environment("prepare")
    shell:
        "python -m partialres split {input.refs:q} --ratio {wildcards.ratio} --seed {wildcards.seed} "
        "--out {output:q} 2> {log:q}"
